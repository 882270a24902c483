// Launching the losses on spectra, and their choice by dtype and loss.
#include "fourier.cuh"
#include "fourier.hpp"

namespace medkern {

namespace MEDKERN_ISA {

template <class C>
LaunchError launch_tops(const SpectrumProblem& p, void* workspace, void* tops, Stream stream) {
  const int64_t parts = spectrum_parts(p.height, p.width);
  C* partial = static_cast<C*>(workspace);
  MEDKERN_LAUNCH(fourier_top_fwd_kernel<C>, static_cast<unsigned>(p.images * parts), kThreads, 0,
                 stream, p, parts, partial);
  MEDKERN_LAUNCH((fourier_parts_fwd_kernel<Largest, C, C>), static_cast<unsigned>(p.images),
                 kThreads, 0, stream, partial, parts, static_cast<C*>(tops));
  return launch_error();
}

template <class C, SpectrumLoss Loss>
LaunchError launch_sums(const SpectrumProblem& p, double* partial, void* sums, Stream stream) {
  const int64_t parts = spectrum_parts(p.height, p.width);
  MEDKERN_LAUNCH((fourier_sum_fwd_kernel<C, Loss>), static_cast<unsigned>(p.images * parts),
                 kThreads, 0, stream, p, parts, partial);
  MEDKERN_LAUNCH((fourier_parts_fwd_kernel<Sum, double, C>), static_cast<unsigned>(p.images),
                 kThreads, 0, stream, partial, parts, static_cast<C*>(sums));
  return launch_error();
}

template <class C, SpectrumLoss Loss>
LaunchError launch_slope(const SpectrumProblem& p, Stream stream) {
  const int64_t bins = p.images * p.height * spectrum_columns(p.width);
  MEDKERN_LAUNCH((fourier_slope_bwd_kernel<C, Loss>), blocks_for(bins), kThreads, 0, stream, p);
  return launch_error();
}

template <SpectrumLoss Value>
struct LossOf {
  static constexpr SpectrumLoss value = Value;
};

template <class Run>
LaunchError for_loss(SpectrumLoss loss, Run run) {
  switch (loss) {
    case SpectrumLoss::focal:
      return run(LossOf<SpectrumLoss::focal>{});
    case SpectrumLoss::amplitude_l1:
      return run(LossOf<SpectrumLoss::amplitude_l1>{});
    case SpectrumLoss::amplitude_l2:
      return run(LossOf<SpectrumLoss::amplitude_l2>{});
    default:
      return run(LossOf<SpectrumLoss::phase>{});
  }
}

inline bool too_many_blocks(const SpectrumProblem& p) {
  return p.images * spectrum_parts(p.height, p.width) > INT32_MAX;
}

}  // namespace MEDKERN_ISA

LaunchError launch_spectrum_tops(const SpectrumProblem& p, bool float64, void* workspace,
                                 void* tops, Stream stream) {
  using namespace MEDKERN_ISA;
  if (p.images == 0) return {};
  if (too_many_blocks(p)) return LaunchError("the batch exceeds 2^31 blocks");
  return float64 ? launch_tops<double>(p, workspace, tops, stream)
                 : launch_tops<float>(p, workspace, tops, stream);
}

LaunchError launch_spectrum_sums(const SpectrumProblem& p, bool float64, double* partial,
                                 void* sums, Stream stream) {
  using namespace MEDKERN_ISA;
  if (p.images == 0) return {};
  if (too_many_blocks(p)) return LaunchError("the batch exceeds 2^31 blocks");
  return for_loss(p.loss, [&](auto loss) {
    constexpr SpectrumLoss kind = decltype(loss)::value;
    return float64 ? launch_sums<double, kind>(p, partial, sums, stream)
                   : launch_sums<float, kind>(p, partial, sums, stream);
  });
}

LaunchError launch_spectrum_gradient(const SpectrumProblem& p, bool float64, Stream stream) {
  using namespace MEDKERN_ISA;
  if (p.images == 0) return {};
  return for_loss(p.loss, [&](auto loss) {
    constexpr SpectrumLoss kind = decltype(loss)::value;
    return float64 ? launch_slope<double, kind>(p, stream) : launch_slope<float, kind>(p, stream);
  });
}

}  // namespace medkern
