#include "core/spectral_kernels.hpp"
#include "isa/selector.hpp"

MEDKERN_SELECTOR(DftKernel, dft_kernel, (FloatType x), (x))
MEDKERN_SELECTOR(MixKernel, mix_kernel, (bool float64), (float64))
