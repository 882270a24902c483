// Launching the kernel of half spectra.
#include "half_spectrum.cuh"

namespace medkern {

LaunchError launch_halve_columns(void* spectrum, int64_t rows, int64_t width, bool float64,
                                 Stream stream) {
  using namespace MEDKERN_ISA;
  const unsigned blocks = blocks_for(rows * spectrum_columns(width));
  if (float64) {
    MEDKERN_LAUNCH(half_spectrum_halve_fwd_kernel<double>, blocks, kThreads, 0, stream,
                   static_cast<double*>(spectrum), rows, width);
  } else {
    MEDKERN_LAUNCH(half_spectrum_halve_fwd_kernel<float>, blocks, kThreads, 0, stream,
                   static_cast<float*>(spectrum), rows, width);
  }
  return launch_error();
}

}  // namespace medkern
