#include "core/warp_kernels.hpp"
#include "isa/selector.hpp"

MEDKERN_SELECTOR(WarpCopyKernel, warp_copy_kernel, (int bytes, bool float64), (bytes, float64))
MEDKERN_SELECTOR(WarpKernels, warp_kernels, (WarpMode mode, FloatType type, int width),
                 (mode, type, width))
