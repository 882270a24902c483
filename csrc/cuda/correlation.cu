// Launching the sums of correlation coefficients, and the choice by dtype.
#include "correlation.cuh"
#include "correlation.hpp"
#include "for_float_type.cuh"

namespace medkern {

namespace MEDKERN_ISA {

// Partial sums first, then weights, then rings: from the largest alignment to the smallest.
template <class C>
struct CorrelationWorkspace {
  double* partial;
  C* weights;
  int32_t* rings;
  size_t bytes;

  CorrelationWorkspace(const CorrelationProblem& p, bool forward, void* start) {
    const auto bins = static_cast<size_t>(p.axes > 0 ? p.rows * p.columns : 0);
    const int64_t numbers = p.images * correlation_parts(p) * correlation_sum_rows(p);
    const size_t sums = forward ? static_cast<size_t>(numbers) * kCorrelationSums : 0;
    partial = static_cast<double*>(start);
    weights = reinterpret_cast<C*>(partial + sums);
    rings = reinterpret_cast<int32_t*>(weights + bins);
    bytes = sums * sizeof(double) + bins * (sizeof(C) + sizeof(int32_t));
  }
};

template <class C>
LaunchError describe_rings(const CorrelationProblem& p, const CorrelationWorkspace<C>& work,
                           Stream stream) {
  MEDKERN_LAUNCH(correlation_rings_fwd_kernel<C>, blocks_for(p.rows * p.columns), kThreads, 0,
                 stream, p, work.rings, work.weights);
  return launch_error();
}

template <class S>
LaunchError sum_parts(const CorrelationProblem& p, const CorrelationWorkspace<Compute<S>>& work,
                      Stream stream) {
  const int64_t parts = correlation_parts(p);
  if (p.images * parts > kMostBlocks) return LaunchError("the batch exceeds 2^31 blocks");
  MEDKERN_LAUNCH(correlation_parts_fwd_kernel<S>, static_cast<unsigned>(p.images * parts), kThreads,
                 0, stream, p, parts, work.partial);
  return launch_error();
}

template <class C>
LaunchError sum_spectra(const CorrelationProblem& p, const CorrelationWorkspace<C>& work,
                        Stream stream) {
  const int64_t parts = correlation_parts(p);
  const int64_t windows = (p.rings + kRingWindow) / kRingWindow;
  if (p.images * parts * windows > kMostBlocks) {
    return LaunchError("the batch exceeds 2^31 blocks");
  }
  if (const LaunchError error = describe_rings(p, work, stream); !error.ok()) return error;
  MEDKERN_LAUNCH(correlation_spectra_fwd_kernel<C>,
                 static_cast<unsigned>(p.images * parts * windows), kThreads, 0, stream, p,
                 work.rings, work.weights, parts, windows, work.partial);
  return launch_error();
}

template <class S>
LaunchError run_sums(const CorrelationProblem& p, void* workspace, void* sums, Stream stream) {
  using C = Compute<S>;
  const CorrelationWorkspace<C> work(p, true, workspace);
  LaunchError error;
  if constexpr (std::is_same_v<S, C>) {
    error = p.axes > 0 ? sum_spectra<C>(p, work, stream) : sum_parts<S>(p, work, stream);
  } else {
    error = sum_parts<S>(p, work, stream);
  }
  if (!error.ok()) return error;
  const int64_t count = correlation_sum_rows(p) * kCorrelationSums;
  MEDKERN_LAUNCH(correlation_total_fwd_kernel<C>, blocks_for(p.images * count), kThreads, 0, stream,
                 work.partial, p.images, correlation_parts(p), count, static_cast<C*>(sums));
  return launch_error();
}

template <class S>
LaunchError run_gradient(const CorrelationProblem& p, void* workspace, Stream stream) {
  using C = Compute<S>;
  if constexpr (std::is_same_v<S, C>) {
    if (p.axes > 0) {
      const CorrelationWorkspace<C> work(p, false, workspace);
      if (const LaunchError error = describe_rings(p, work, stream); !error.ok()) return error;
      MEDKERN_LAUNCH(correlation_spectra_bwd_kernel<C>, blocks_for(p.images * p.rows * p.columns),
                     kThreads, 0, stream, p, work.rings, work.weights);
      return launch_error();
    }
  }
  MEDKERN_LAUNCH(correlation_array_bwd_kernel<S>, blocks_for(p.images * p.elements), kThreads, 0,
                 stream, p);
  return launch_error();
}

inline LaunchError check_spectra(const CorrelationProblem& p) {
  const bool half = p.type == FloatType::float16 || p.type == FloatType::bfloat16;
  return p.axes > 0 && half ? LaunchError("spectra must be float32 or float64") : LaunchError();
}

}  // namespace MEDKERN_ISA

size_t correlation_workspace(const CorrelationProblem& p, bool forward) {
  using namespace MEDKERN_ISA;
  return p.type == FloatType::float64 ? CorrelationWorkspace<double>(p, forward, nullptr).bytes
                                      : CorrelationWorkspace<float>(p, forward, nullptr).bytes;
}

LaunchError launch_correlation_sums(const CorrelationProblem& p, void* workspace, void* sums,
                                    Stream stream) {
  using namespace MEDKERN_ISA;
  if (p.images == 0) return {};
  if (const LaunchError error = check_spectra(p); !error.ok()) return error;
  return for_float_type(
      p.type, [&](auto zero) { return run_sums<decltype(zero)>(p, workspace, sums, stream); });
}

LaunchError launch_correlation_gradient(const CorrelationProblem& p, void* workspace,
                                        Stream stream) {
  using namespace MEDKERN_ISA;
  if (p.images == 0 || p.elements == 0) return {};
  if (const LaunchError error = check_spectra(p); !error.ok()) return error;
  return for_float_type(
      p.type, [&](auto zero) { return run_gradient<decltype(zero)>(p, workspace, stream); });
}

}  // namespace medkern
