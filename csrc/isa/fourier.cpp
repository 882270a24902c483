#include "core/fourier_loss_kernels.hpp"
#include "core/fourier_modes_kernels.hpp"
#include "core/fourier_noise_kernels.hpp"
