#include "core/fourier_loss_kernels.hpp"
#include "core/fourier_modes_kernels.hpp"
#include "core/fourier_noise_kernels.hpp"
#include "core/fourier_pack_kernels.hpp"
#include "isa/selector.hpp"

MEDKERN_SELECTOR(SpectrumKernels, spectrum_kernels, (bool float64, SpectrumLoss loss),
                 (float64, loss))
MEDKERN_SELECTOR(NoiseKernel, noise_kernel, (bool float64), (float64))
MEDKERN_SELECTOR(ModesKernels, modes_kernels, (bool float64), (float64))
MEDKERN_SELECTOR(PackKernel, pack_kernel, (bool float64), (float64))
