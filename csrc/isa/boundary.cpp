#include "core/boundary_kernels.hpp"
#include "isa/selector.hpp"

MEDKERN_SELECTOR(BoundaryKernel, boundary_kernel, (bool backward, FloatType logits),
                 (backward, logits))
