#include "core/field_kernels.hpp"
#include "isa/selector.hpp"

MEDKERN_SELECTOR(FieldKernel, field_kernel, (FieldTask task, FloatType type), (task, type))
