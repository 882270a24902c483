// Launching the Fourier augmentations, and their choice by dtype.
#include "augment.cuh"
#include "augment.hpp"

namespace medkern {

#define MEDKERN_LAUNCH_AS(kernel, float64, count, stream, problem)          \
  do {                                                                      \
    const unsigned blocks = blocks_for(count);                              \
    if (float64) {                                                          \
      MEDKERN_LAUNCH(kernel<double>, blocks, kThreads, 0, stream, problem); \
    } else {                                                                \
      MEDKERN_LAUNCH(kernel<float>, blocks, kThreads, 0, stream, problem);  \
    }                                                                       \
  } while (false)

LaunchError launch_noise(const NoiseProblem& p, bool float64, Stream stream) {
  using namespace MEDKERN_ISA;
  const int64_t count = p.images * p.height * noise_groups(p.width);
  MEDKERN_LAUNCH_AS(augment_noise_fwd_kernel, float64, count, stream, p);
  return launch_error();
}

LaunchError launch_waves(const WaveProblem& p, bool float64, Stream stream) {
  using namespace MEDKERN_ISA;
  const int64_t count = (p.turned ? p.columns : p.rows) * p.stride;
  MEDKERN_LAUNCH_AS(augment_waves_fwd_kernel, float64, count, stream, p);
  return launch_error();
}

LaunchError launch_analysis(const ModesProblem& p, bool float64, Stream stream) {
  using namespace MEDKERN_ISA;
  const int64_t taken = p.radius + 1;
  MEDKERN_LAUNCH_AS(augment_across_fwd_kernel, float64, p.images * p.height * p.padded, stream, p);
  MEDKERN_LAUNCH_AS(augment_down_fwd_kernel, float64, p.images * taken * taken, stream, p);
  return launch_error();
}

LaunchError launch_synthesis(const ModesProblem& p, bool float64, Stream stream) {
  using namespace MEDKERN_ISA;
  const int64_t lines = p.images * p.height;
  MEDKERN_LAUNCH_AS(augment_rise_fwd_kernel, float64, lines * (p.radius + 1), stream, p);
  MEDKERN_LAUNCH_AS(augment_spread_fwd_kernel, float64, lines * spectrum_columns(p.width), stream,
                    p);
  return launch_error();
}

#undef MEDKERN_LAUNCH_AS

}  // namespace medkern
