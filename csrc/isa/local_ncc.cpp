#include "core/local_ncc_kernels.hpp"
#include "isa/selector.hpp"

MEDKERN_SELECTOR(LocalNccKernel, local_ncc_kernel, (LocalNccStage stage, FloatType type),
                 (stage, type))
