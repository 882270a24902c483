// Chooses and launches the Haar kernel for one storage type; see haar.cuh for the kernels.
#pragma once

#include <algorithm>
#include <cstdint>

#include "haar.cuh"
#include "haar.hpp"

namespace medkern::MEDKERN_ISA {

// Whether vectors of `lanes` values may start at every multiple of `lanes` along the lane axis.
template <class T>
bool starts_aligned(const HaarView& view, int lane_axis, int lanes) {
  const auto fits = [lanes](int64_t elements) { return elements % lanes == 0; };
  bool aligned = reinterpret_cast<uintptr_t>(view.data) % (lanes * sizeof(T)) == 0 &&
                 fits(view.batch) && fits(view.band) && (lane_axis < 0 || fits(view.channel));
  for (int axis = 0; axis < 3; ++axis)
    aligned = aligned && (axis == lane_axis || fits(view.space[axis]));
  return aligned;
}

// Whether every vector access of the rows or channels kernel is aligned and inside.
template <class Run, class T>
bool takes_vectors(const HaarProblem& p, bool has_keys) {
  const int lane_axis = p.channels_last ? -1 : 2;
  const int64_t lanes = p.channels_last ? p.channels : p.half[2];
  if (lanes % Run::vector != 0 || (!p.channels_last && p.size[2] % 2 != 0)) return false;
  return starts_aligned<T>(p.x, lane_axis, Run::vector) &&
         starts_aligned<T>(p.y, lane_axis, Run::vector) &&
         (!has_keys || starts_aligned<T>(p.keys, lane_axis, Run::vector));
}

inline int64_t rows_of_work(const HaarProblem& p) {
  return haar_units(p) * (p.channels_last ? p.half[2] : 1);
}

template <class Run>
LaunchError launch_blocks(const HaarProblem& p, bool adjoint, Stream stream) {
  const int64_t lanes = p.channels_last ? p.channels : p.half[2];
  const int64_t count = rows_of_work(p) * lanes;
  if (adjoint) {
    MEDKERN_LAUNCH((haar_bwd_blocks_kernel<Run>), blocks_for(count), kThreads, 0, stream, p, lanes,
                   count);
  } else {
    MEDKERN_LAUNCH((haar_fwd_blocks_kernel<Run>), blocks_for(count), kThreads, 0, stream, p, lanes,
                   count);
  }
  return launch_error();
}

template <class Run, class Mode, class C>
LaunchError launch_vectors(const HaarProblem& p, bool adjoint, Stream stream) {
  const int64_t lanes = (p.channels_last ? p.channels : p.half[2]) / Run::vector;
  const int64_t count = rows_of_work(p) * lanes;
  const unsigned blocks = blocks_for(count);
  if (p.channels_last && adjoint) {
    MEDKERN_LAUNCH((haar_bwd_channels_kernel<Run, Mode, C>), blocks, kThreads, 0, stream, p, lanes,
                   count);
  } else if (p.channels_last) {
    MEDKERN_LAUNCH((haar_fwd_channels_kernel<Run, Mode, C>), blocks, kThreads, 0, stream, p, lanes,
                   count);
  } else if (adjoint) {
    MEDKERN_LAUNCH((haar_bwd_rows_kernel<Run, Mode, C>), blocks, kThreads, 0, stream, p, lanes,
                   count);
  } else {
    MEDKERN_LAUNCH((haar_fwd_rows_kernel<Run, Mode, C>), blocks, kThreads, 0, stream, p, lanes,
                   count);
  }
  return launch_error();
}

template <template <int> class Mode, int N, class X, class Y, class C>
LaunchError launch_map(const HaarProblem& p, bool adjoint, Stream stream) {
  using Run = HaarDevice<Mode<N>, N, X, Y, C>;
  // Wider types and lifting are not worth vector kernels of their own: a block's loads are 8 bytes
  // or more, or the results are wider than the samples.
  if constexpr (std::is_same_v<X, Y> && sizeof(X) <= 4) {
    if (takes_vectors<Run, X>(p, Mode<N>::has_keys)) {
      return launch_vectors<Run, Mode<N>, C>(p, adjoint, stream);
    }
  }
  return launch_blocks<Run>(p, adjoint, stream);
}

template <template <int> class Mode, class X, class Y, class C>
LaunchError launch_ndim(const HaarProblem& p, bool adjoint, int ndim, Stream stream) {
  if (ndim == 1) return launch_map<Mode, 1, X, Y, C>(p, adjoint, stream);
  if (ndim == 2) return launch_map<Mode, 2, X, Y, C>(p, adjoint, stream);
  return launch_map<Mode, 3, X, Y, C>(p, adjoint, stream);
}

template <class S>
LaunchError launch_mode(const HaarProblem& p, HaarMode mode, bool adjoint, int ndim,
                        Stream stream) {
  using C = Compute<S>;
  switch (mode) {
    case HaarMode::ll:
      return launch_ndim<LowpassMode, S, S, C>(p, adjoint, ndim, stream);
    case HaarMode::iewa:
      return launch_ndim<IewaMode, S, S, C>(p, adjoint, ndim, stream);
    case HaarMode::all:
      return launch_ndim<AllMode, S, S, C>(p, adjoint, ndim, stream);
    case HaarMode::max_concat:
      return launch_ndim<MaxConcatMode, S, S, C>(p, adjoint, ndim, stream);
    default:
      return launch_ndim<DwtMode, S, S, C>(p, adjoint, ndim, stream);
  }
}

}  // namespace medkern::MEDKERN_ISA
