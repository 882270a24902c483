#include "core/fourier_epilogue_kernels.hpp"
#include "isa/selector.hpp"

MEDKERN_SELECTOR(FourierEpilogueKernel, fourier_epilogue_kernel, (bool backward, FloatType type),
                 (backward, type))
