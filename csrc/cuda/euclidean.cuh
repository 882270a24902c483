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
// rounded ((x^2 + y^2) + z^2): the result does not depend on the order of anything, and has the
// bits of the CPU's, whose unit, the spacing along W, it shares. Compiled without contraction.
// Bytes moved per voxel and axis: label and f in, f out (and the index in and out).
#pragma once

#include <cmath>

#include "euclidean.hpp"
#include "grid_stride.cuh"

namespace medkern::MEDKERN_ISA {

// One axis of the transform.
template <class Label, class T>
struct EuclideanPass {
  const Label* labels;
  const double* spacing;  // of the volume's set
  int64_t sets;
  const T* in;  // squared distances within the axes before; null on the first axis: inf
  T* out;
  const int64_t* nearest_in;
  int64_t* nearest_out;  // null: not wanted
  int64_t count, length, stride;
  int axis;
  bool both_sides, last;  // the last axis turns squares into distances
};

template <class T>
struct EuclideanBest {
  T squared;
  int64_t nearest;
};

// What voxel j, a step of this square away, offers to one labelled `label` of the volume that
// begins at `start`; returns whether it ends its side.
template <class Label, class T>
MEDKERN_DEVICE_INLINE bool offer(const EuclideanPass<Label, T>& p, int64_t start, int64_t j,
                                 Label label, T squared_step, bool wins_ties,
                                 EuclideanBest<T>& best) {
  const bool other = p.labels[j] != label;
  T squared = squared_step;
  if (!other) squared += p.in == nullptr ? static_cast<T>(INFINITY) : p.in[j];
  if (squared < best.squared || (wins_ties && squared == best.squared)) {
    best.squared = squared;
    if (p.nearest_out != nullptr) {
      best.nearest = other ? j - start : p.nearest_in == nullptr ? -1 : p.nearest_in[j];
    }
  }
  return other;
}

// The best of voxel i, x-th of its line. The side of lower indices wins ties.
template <class Label, class T>
MEDKERN_DEVICE_INLINE EuclideanBest<T> nearest_on_line(const EuclideanPass<Label, T>& p, int64_t i,
                                                       int64_t x, int64_t volume) {
  const double* spacing = p.spacing + 3 * (volume / p.sets);
  const double ratio = spacing[p.axis] / spacing[2], unit = ratio * ratio;
  const int64_t start = volume * p.count;
  const Label label = p.labels[i];
  EuclideanBest<T> best{static_cast<T>(INFINITY), -1};
  if (p.in != nullptr) best.squared = p.in[i];
  if (p.nearest_in != nullptr) best.nearest = p.nearest_in[i];
  bool below = true, above = true;  // whether the side is still open
  for (int64_t r = 1; below || above; ++r) {
    const double steps = static_cast<double>(r);
    const T squared_step = static_cast<T>(steps * steps * unit);
    if (squared_step > best.squared) break;
    below = below && r <= x;
    above = above && r < p.length - x;
    if (below) below = !offer(p, start, i - r * p.stride, label, squared_step, true, best);
    if (above) above = !offer(p, start, i + r * p.stride, label, squared_step, false, best);
  }
  return best;
}

template <class Label, class T>
MEDKERN_GLOBAL void euclidean_fwd_axis_kernel(EuclideanPass<Label, T> p, int64_t volumes) {
  MEDKERN_GRID_STRIDE(i, volumes * p.count) {
    int64_t volume, within, line, offset;
    split(i, p.count, volume, within);
    split(within, p.stride, line, offset);
    EuclideanBest<T> best{0, within};
    const bool labelled = p.labels[i] != 0;
    if (labelled || p.both_sides) best = nearest_on_line(p, i, line % p.length, volume);
    if (p.last) {
      const T distance =
          std::sqrt(best.squared) * static_cast<T>(p.spacing[3 * (volume / p.sets) + 2]);
      p.out[i] = p.both_sides && labelled ? -distance : distance;
    } else {
      p.out[i] = best.squared;
    }
    if (p.nearest_out != nullptr) p.nearest_out[i] = best.nearest;
  }
}

}  // namespace medkern::MEDKERN_ISA
