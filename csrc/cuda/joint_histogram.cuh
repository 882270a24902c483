// CUDA kernels of the joint Parzen histogram; formulas in core/joint_histogram.hpp, in float64.
//
// A warp computes the weights of 32 voxels at a time, a voxel a lane. Forward: it adds the outer
// products to its own histogram, voxel by voxel, the lanes being the taps of one: no atomics, and a
// fixed order. A block adds the histograms of its warps, another kernel those of the blocks.
// Backward: a lane keeps its voxel and reads the gradient of the histogram through the caches.
// Histograms and weights lie in shared memory where they fit (32 bins: four warps; up to about 100
// bins of narrow windows: one), else in a workspace.
// Bytes per voxel: one read of the images; the gradient adds one write.
#pragma once

#include <cmath>

#include "core/common/storage.hpp"
#include "grid_stride.cuh"
#include "joint_histogram.hpp"

namespace medkern::MEDKERN_ISA {

constexpr int kLanes = 32, kLanePitch = 33;  // of weights: [taps, kLanePitch], a lane a column

// Weights of one value, and their slopes where `slopes` is not null; returns the nearest bin.
struct ParzenValue {
  double position, scale;  // scale: d position / dx, 0 where x is clamped

  MEDKERN_DEVICE_INLINE ParzenValue(const ParzenWindow& w, double x) {
    const double clamped = x < 0 ? 0 : x > 1 ? 1 : x;  // NaN stays
    const auto width = static_cast<double>(w.bins - (w.spline ? 5 : 1));
    position = clamped * width + (w.spline ? 2 : 0);
    scale = x >= 0 && x <= 1 ? width : 0;
  }

  MEDKERN_DEVICE_INLINE int write(const ParzenWindow& w, double* weights, double* slopes) const {
    double nearest = w.spline ? std::floor(position) : std::rint(position);
    if (!(nearest == nearest)) nearest = 0;
    if (w.spline) {
      double values[4], steps[4];
      spline_taps(position - nearest, values, steps);
      for (int k = 0; k < 4; ++k) {
        weights[k * kLanePitch] = values[k];
        if (slopes != nullptr) slopes[k * kLanePitch] = steps[k] * scale;
      }
    } else {
      gaussian(w, static_cast<int>(nearest), position - nearest, weights, slopes);
    }
    return static_cast<int>(nearest);
  }

  // With the powers of core/joint_histogram.hpp, from the nearest bin outwards.
  MEDKERN_DEVICE_INLINE void gaussian(const ParzenWindow& w, int nearest, double t, double* weights,
                                      double* slopes) const {
    const int reach = static_cast<int>(-w.low), bins = static_cast<int>(w.bins);
    const double sharpness = 1 / (w.sigma * w.sigma);
    const double up = std::exp(t * sharpness), down = 1 / up;
    const double ratio = std::exp(-0.5 * sharpness);
    double total = t * 0 + 1, mean = 0, above = total, below = total, step = ratio;
    double* const middle = weights + reach * kLanePitch;
    *middle = total;
    for (int j = 1; j <= reach; ++j) {
      above *= up * step;
      below *= down * step;
      step *= ratio * ratio;
      const double more = nearest + j >= bins ? 0 : above, less = nearest < j ? 0 : below;
      total += more + less;
      mean += (more - less) * j;
      middle[j * kLanePitch] = more;
      middle[-j * kLanePitch] = less;
    }
    mean /= total;
    for (int j = -reach; j <= reach; ++j) {
      const double weight = middle[j * kLanePitch] / total;
      middle[j * kLanePitch] = weight;
      if (slopes == nullptr) continue;
      slopes[(j + reach) * kLanePitch] = weight * (j - mean) * (scale * sharpness);
    }
  }
};

// The voxels and the memory of this warp.
struct JointHistogramWarp {
  int64_t sample, begin, end;
  double *histogram, *weights;
  int lane;

  MEDKERN_DEVICE_INLINE JointHistogramWarp(const JointHistogramProblem& p,
                                           const JointHistogramLayout& layout, double* workspace,
                                           double* shared) {
    const int64_t warp = threadIdx.x / kLanes, part = blockIdx.x % layout.parts;
    const int64_t shares = layout.parts * layout.warps, share = part * layout.warps + warp;
    const int64_t size = layout.histogram + (layout.histogram > 0 ? 2 : 4) * layout.taps;
    sample = blockIdx.x / layout.parts;
    begin = share * p.voxels / shares;
    end = (share + 1) * p.voxels / shares;
    double* const block = layout.shared ? shared : workspace + blockIdx.x * layout.warps * size;
    histogram = block + warp * size;
    weights = histogram + layout.histogram;
    lane = static_cast<int>(threadIdx.x) % kLanes;
  }
};

template <class S>
MEDKERN_DEVICE_INLINE double intensity_of(const void* image, int64_t at) {
  return static_cast<double>(load_one<Compute<S>>(static_cast<const S*>(image) + at));
}

// Block `sample * parts + part`.
template <class S>
MEDKERN_GLOBAL void joint_histogram_fwd_kernel(JointHistogramProblem p, JointHistogramLayout layout,
                                               double* workspace) {
  MEDKERN_DYNAMIC_SHARED(double, shared);
  const JointHistogramWarp warp(p, layout, workspace, shared);
  const int bins = static_cast<int>(p.window.bins), taps = static_cast<int>(p.window.taps);
  const int low = static_cast<int>(p.window.low), pitch = static_cast<int>(layout.pitch);
  int shift = 2;  // 2^shift lanes share a row of taps
  while (shift < 5 && 1 << shift < taps) ++shift;
  for (int64_t i = warp.lane; i < layout.histogram; i += kLanes) warp.histogram[i] = 0;
  double* const of_a = warp.weights + warp.lane;
  double* const of_b = of_a + layout.taps;
  for (int64_t first = warp.begin; first < warp.end; first += kLanes) {
    const int count = warp.end - first < kLanes ? static_cast<int>(warp.end - first) : kLanes;
    int row = 0, column = 0;
    if (warp.lane < count) {
      const int64_t at = warp.sample * p.voxels + first + warp.lane;
      row = ParzenValue(p.window, intensity_of<S>(p.a, at)).write(p.window, of_a, nullptr) + low;
      column = ParzenValue(p.window, intensity_of<S>(p.b, at)).write(p.window, of_b, nullptr) + low;
    }
    for (int i = 0; i < count; ++i) {
      __syncwarp();  // the weights, and the sums of the voxel before
      const int top = __shfl_sync(0xffffffffu, row, i), left = __shfl_sync(0xffffffffu, column, i);
      for (int k = warp.lane >> shift; k < taps; k += kLanes >> shift) {
        if (top + k < 0 || top + k >= bins) continue;
        double* const to = warp.histogram + static_cast<int64_t>(top + k) * pitch + left;
        const double weight = warp.weights[k * kLanePitch + i];
        for (int l = warp.lane & ((1 << shift) - 1); l < taps; l += 1 << shift) {
          if (left + l < 0 || left + l >= bins) continue;
          to[l] += weight * warp.weights[layout.taps + l * kLanePitch + i];
        }
      }
    }
    __syncwarp();
  }
  __syncthreads();
  const int64_t size = layout.histogram + 2 * layout.taps;
  const double* const block = warp.histogram - threadIdx.x / kLanes * size;
  double* const part = p.parts + blockIdx.x * layout.histogram;
  for (int64_t i = threadIdx.x; i < layout.histogram; i += blockDim.x) {
    double sum = 0;
    for (int64_t w = 0; w < layout.warps; ++w) sum += block[w * size + i];
    part[i] = sum;
  }
}

// A thread per bin.
template <class C>
MEDKERN_GLOBAL void joint_histogram_fwd_total_kernel(JointHistogramProblem p, int64_t parts,
                                                     int64_t pitch, double scale, C* out) {
  const int64_t bins = p.window.bins, size = bins * pitch;
  MEDKERN_GRID_STRIDE(i, p.batch * bins * bins) {
    const int64_t sample = i / (bins * bins), k = i / bins % bins, l = i % bins;
    const double* from = p.parts + sample * parts * size + k * pitch + l;
    double sum = 0;
    for (int64_t part = 0; part < parts; ++part) sum += from[part * size];
    out[i] = static_cast<C>(sum * scale);
  }
}

template <class S>
MEDKERN_GLOBAL void joint_histogram_bwd_kernel(JointHistogramProblem p, JointHistogramLayout layout,
                                               const Compute<S>* pulls, double scale,
                                               double* workspace) {
  using C = Compute<S>;
  MEDKERN_DYNAMIC_SHARED(double, shared);
  const JointHistogramWarp warp(p, layout, workspace, shared);
  const int bins = static_cast<int>(p.window.bins), taps = static_cast<int>(p.window.taps);
  const int low = static_cast<int>(p.window.low);
  const C* const of_sample = pulls + warp.sample * bins * bins;
  double* const a = warp.weights + warp.lane;
  double* const a_slopes = a + layout.taps;
  double* const b = a_slopes + layout.taps;
  double* const b_slopes = b + layout.taps;
  for (int64_t i = warp.begin + warp.lane; i < warp.end; i += kLanes) {
    const int64_t at = warp.sample * p.voxels + i;
    const int top =
        ParzenValue(p.window, intensity_of<S>(p.a, at)).write(p.window, a, a_slopes) + low;
    const int left =
        ParzenValue(p.window, intensity_of<S>(p.b, at)).write(p.window, b, b_slopes) + low;
    double in_a = 0, in_b = 0;
    for (int k = 0; k < taps; ++k) {
      if (top + k < 0 || top + k >= bins) continue;
      const C* const pull = of_sample + static_cast<int64_t>(top + k) * bins + left;
      double by_weight = 0, by_slope = 0;
      for (int l = 0; l < taps; ++l) {
        if (left + l < 0 || left + l >= bins) continue;
        const auto g = static_cast<double>(pull[l]);
        by_weight += g * b[l * kLanePitch];
        by_slope += g * b_slopes[l * kLanePitch];
      }
      in_a += by_weight * a_slopes[k * kLanePitch];
      in_b += by_slope * a[k * kLanePitch];
    }
    S* to = static_cast<S*>(p.grads) + warp.sample * (p.both ? 2 : 1) * p.voxels + i;
    store_one(to, static_cast<C>(in_a * scale));
    if (p.both) store_one(to + p.voxels, static_cast<C>(in_b * scale));
  }
}

}  // namespace medkern::MEDKERN_ISA
