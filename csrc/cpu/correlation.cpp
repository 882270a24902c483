#include "binding/correlation.hpp"

STABLE_TORCH_LIBRARY_IMPL(medkern, CPU, m) {
  m.impl("_correlation_sums", TORCH_BOX(&medkern::correlation_sums_cpu));
  m.impl("_correlation_sums_backward", TORCH_BOX(&medkern::correlation_sums_backward_cpu));
  m.impl("_half_spectrum", TORCH_BOX(&medkern::half_spectrum_cpu));
  m.impl("_half_spectrum_adjoint", TORCH_BOX(&medkern::half_spectrum_adjoint_cpu));
}
