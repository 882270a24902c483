#include "binding/spectral.hpp"

STABLE_TORCH_LIBRARY_IMPL(medkern, CPU, m) {
  m.impl("_dft_kept", TORCH_BOX(&medkern::dft_kept_cpu));
  m.impl("_idft_kept", TORCH_BOX(&medkern::idft_kept_cpu));
  m.impl("_mode_mix", TORCH_BOX(&medkern::mode_mix_cpu));
}
