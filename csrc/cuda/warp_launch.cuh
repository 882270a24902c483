// Chooses and launches the warping kernels for one storage type.
#pragma once

#include <utility>

#include "warp_transpose.cuh"

namespace medkern::MEDKERN_ISA {

template <int Taps, int Axes>
struct WarpShape {
  static constexpr int taps = Taps, axes = Axes;
};

template <int Taps, class Run>
LaunchError for_warp_axes(const WarpLaunch& call, const Run& run) {
  return call.problem.ndim == 3 ? run(WarpShape<Taps, 3>{}) : run(WarpShape<Taps, 2>{});
}

// run(WarpShape) for an interpolating mode.
template <class Run>
LaunchError for_warp_shape(const WarpLaunch& call, const Run& run) {
  return call.mode == WarpMode::cubic ? for_warp_axes<4>(call, run) : for_warp_axes<2>(call, run);
}

inline int64_t warp_groups(const WarpProblem& p) {
  return (p.channels + kWarpShared - 1) / kWarpShared;
}

template <class S>
LaunchError launch_warp_of(const WarpLaunch& call, Stream stream) {
  const WarpProblem& p = call.problem;
  const int64_t groups = warp_groups(p), count = p.batch * groups * p.out_voxels();
  if (count == 0) return {};
  return for_warp_shape(call, [&](auto shape) {
    using Shape = decltype(shape);
    MEDKERN_LAUNCH((warp_fwd_kernel<S, Shape::taps, Shape::axes>), blocks_for(count), kThreads, 0,
                   stream, call, groups);
    return launch_error();
  });
}

template <class S>
LaunchError launch_warp_slope_of(const WarpLaunch& call, Stream stream) {
  const int64_t count = call.problem.batch * call.problem.out_voxels();
  if (count == 0) return {};
  const WarpHalves halves = WarpHalves::of_channels(call.problem.channels);
  return for_warp_shape(call, [&](auto shape) {
    using Shape = decltype(shape);
    MEDKERN_LAUNCH((warp_slope_bwd_kernel<S, Shape::taps, Shape::axes>), blocks_for(count),
                   kThreads, 0, stream, call, halves);
    return launch_error();
  });
}

// Units per term such that all terms of a plane fit an integer.
inline int warp_term_bits(const WarpProblem& p, int taps) {
  double terms = static_cast<double>(p.out_voxels());
  for (int axis = 0; axis < p.ndim; ++axis) terms *= taps;
  int bits = 62;
  for (; terms > 1; terms /= 2) --bits;
  return bits;
}

template <class S>
LaunchError add_warp_planes(const WarpLaunch& call, const WarpSums& to, Stream stream) {
  const WarpProblem& p = call.problem;
  const unsigned adders = blocks_for(to.planes * p.out_voxels());
  const auto add = [&](auto shape) {
    using Shape = decltype(shape);
    MEDKERN_LAUNCH((warp_peaks_bwd_kernel<S, Shape::taps, Shape::axes>), adders, kThreads, 0,
                   stream, call, to);
    MEDKERN_LAUNCH((warp_sums_bwd_kernel<S, Shape::taps, Shape::axes>), adders, kThreads, 0, stream,
                   call, to);
    return launch_error();
  };
  const LaunchError error =
      call.mode == WarpMode::nearest ? for_warp_axes<1>(call, add) : for_warp_shape(call, add);
  if (!error.ok()) return error;
  MEDKERN_LAUNCH(warp_finish_bwd_kernel<S>, blocks_for(to.planes * p.voxels()), kThreads, 0, stream,
                 call, to);
  return launch_error();
}

template <class S>
LaunchError launch_warp_transpose_of(const WarpLaunch& call, void* workspace, int64_t planes,
                                     Stream stream) {
  const WarpProblem& p = call.problem;
  WarpSums to;
  to.bits = warp_term_bits(p, static_cast<int>(call.mode));
  for (; to.first < p.batch * p.channels; to.first += planes) {
    to.planes = std::min(planes, p.batch * p.channels - to.first);
    const int64_t count = to.planes * p.voxels();
    to.sums = static_cast<WarpSum*>(workspace);
    to.remainders = to.sums + count;
    to.peaks = reinterpret_cast<unsigned*>(to.sums + (sizeof(Compute<S>) == 8 ? 2 : 1) * count);
    const auto bytes = static_cast<size_t>(to.planes * warp_sums_bytes(call));
    for (const LaunchError error :
         {clear_device(workspace, bytes, stream), add_warp_planes<S>(call, to, stream)}) {
      if (!error.ok()) return error;
    }
  }
  return {};
}

template <class S>
LaunchError launch_warp_op(WarpOp op, const WarpLaunch& call, void* workspace, int64_t planes,
                           Stream stream) {
  switch (op) {
    case WarpOp::forward:
      return launch_warp_of<S>(call, stream);
    case WarpOp::slope:
      return launch_warp_slope_of<S>(call, stream);
    default:
      return launch_warp_transpose_of<S>(call, workspace, planes, stream);
  }
}

}  // namespace medkern::MEDKERN_ISA
