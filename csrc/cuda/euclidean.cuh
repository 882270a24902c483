// CUDA kernel of the exact Euclidean distance transform, one axis at a time, W first.
//
// Along an axis, with f the squared distance within the axes before and g that of another label,
//   out(x) = min over r of f(x +- r) + (spacing r)^2,   f = 0 at the first voxel of another label,
// which ends its side: whatever lies behind it is farther. A thread takes one voxel and widens r
// until (spacing r)^2 alone exceeds the best so far. Steps per voxel are thus at most the distance
// in voxels, not the length of the line; there is no envelope to build, so all voxels go at once,
// and threads of a warp, neighbours along W, read neighbouring addresses that the caches hold.
//
// Rounding is monotone, so the minimum over the axes in turn is the minimum over all voxels of the
// rounded ((x^2 + y^2) + z^2): the result does not depend on the order of anything. Compiled
// without contraction, hence the emulation gives the GPU's bits.
// Bytes moved per voxel and axis: label and f in, f out (and the index in and out).
#pragma once

#include <cmath>

#include "euclidean.hpp"
#include "grid_stride.cuh"

namespace medkern::MEDKERN_ISA {

// One axis of the transform.
template <class T>
struct EuclideanPass {
  const int32_t* labels;
  const double* spacing;
  const T* in;  // squared distances within the axes before; null on the first axis: inf
  T* out;
  const int64_t* nearest_in;
  int64_t* nearest_out;  // null: not wanted
  int64_t count, length, stride;
  int axis;
  bool last;  // writes distances, not their squares
};

template <class T>
struct EuclideanBest {
  T squared;
  int64_t nearest;
};

// What voxel j, r steps away, offers to one labelled `label`; returns whether it ends its side.
template <class T>
MEDKERN_DEVICE_INLINE bool offer(const EuclideanPass<T>& p, int64_t j, int64_t sample,
                                 int32_t label, T squared_step, bool wins_ties,
                                 EuclideanBest<T>& best) {
  const bool other = p.labels[j] != label;
  T squared = squared_step;
  if (!other) squared += p.in == nullptr ? static_cast<T>(INFINITY) : p.in[j];
  if (squared < best.squared || (wins_ties && squared == best.squared)) {
    best.squared = squared;
    if (p.nearest_out != nullptr) {
      best.nearest = other ? j - sample * p.count : p.nearest_in == nullptr ? -1 : p.nearest_in[j];
    }
  }
  return other;
}

// The best of voxel i, x-th of its line. The side of lower indices wins ties.
template <class T>
MEDKERN_DEVICE_INLINE EuclideanBest<T> nearest_on_line(const EuclideanPass<T>& p, int64_t i,
                                                       int64_t x, int64_t sample) {
  const auto spacing = static_cast<T>(p.spacing[3 * sample + p.axis]);
  const T unit = spacing * spacing;
  const int32_t label = p.labels[i];
  EuclideanBest<T> best{static_cast<T>(INFINITY), -1};
  if (p.in != nullptr) best.squared = p.in[i];
  if (p.nearest_in != nullptr) best.nearest = p.nearest_in[i];
  bool below = true, above = true;  // whether the side is still open
  for (int64_t r = 1; below || above; ++r) {
    const T squared_step = unit * (static_cast<T>(r) * static_cast<T>(r));
    if (squared_step > best.squared) break;
    below = below && r <= x;
    above = above && r < p.length - x;
    if (below) below = !offer(p, i - r * p.stride, sample, label, squared_step, true, best);
    if (above) above = !offer(p, i + r * p.stride, sample, label, squared_step, false, best);
  }
  return best;
}

template <class T>
MEDKERN_GLOBAL void euclidean_fwd_axis_kernel(EuclideanPass<T> p, int64_t batch) {
  MEDKERN_GRID_STRIDE(i, batch * p.count) {
    int64_t sample, line, x, within;
    split(i, p.count, sample, within);
    split(within, p.stride, line, within);
    x = line % p.length;
    EuclideanBest<T> best{0, i - sample * p.count};
    if (p.labels[i] != 0) best = nearest_on_line(p, i, x, sample);
    p.out[i] = p.last ? std::sqrt(best.squared) : best.squared;
    if (p.nearest_out != nullptr) p.nearest_out[i] = best.nearest;
  }
}

}  // namespace medkern::MEDKERN_ISA
