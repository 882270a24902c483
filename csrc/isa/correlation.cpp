#include "core/correlation_kernels.hpp"
#include "isa/selector.hpp"

MEDKERN_SELECTOR(CorrelationKernel, correlation_kernel, (FloatType type), (type))
