// Joint histogram of two images by Parzen windows, and its gradients.
//
// a, b: [batch, voxels], contiguous; h [batch, bins, bins]:
//     h_kl = sum_i w_k(a_i) w_l(b_i) / voxels,    x clamped to 0..1
//     Gaussian:  w_k(x) = e_k / sum e,  e_k = exp(-(d - k)^2 / (2 sigma^2)),  d = x (bins - 1)
//     spline:    w_k(x) = cubic B-spline of d - k,                            d = 2 + x (bins - 5)
//     df / da_i = sum_kl G_kl w'_k(a_i) w_l(b_i) / voxels for the gradient G of f in h; likewise b.
//
// Only the `taps` bins around a value are visited: with the nearest bin c and t = d - c,
// e_(c + j) is exp(-j^2 / (2 sigma^2)) u^j with u = exp(t / sigma^2), but for a factor that the sum
// cancels, so that a value costs one exponential. Everything runs in float64. A histogram has empty
// margins, so that taps beyond its ends need no test. Voxels are cut into parts by their number
// alone, whose histograms are added in order: the bits do not depend on threads or instruction set.
// Cost: one read of the images and taps^2 additions per voxel.
// Source: Mattes et al., SPIE 4322, 2001; Guo, MIT 2019, section 3.1.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "common/float_type.hpp"

namespace medkern {

struct ParzenWindow {
  int64_t bins = 0;
  bool spline = false;
  double sigma = 0.5;
  int64_t low = 0, taps = 0;  // taps of bins c + low, c + low + 1, ...

  // `precision`: weights below exp(-precision) of the largest are left out.
  static ParzenWindow of(int64_t bins, double sigma, bool spline, double precision) {
    ParzenWindow w{bins, spline, sigma, -1, 4};
    if (spline) return w;
    int64_t reach = 1;
    while (static_cast<double>(reach * (reach + 1)) < 2 * sigma * sigma * precision) ++reach;
    reach = std::min(reach, bins - 1);
    w.low = -reach;
    w.taps = 2 * reach + 1;
    return w;
  }

  int64_t margin() const { return std::max(-low, taps + low); }
  int64_t padded_taps() const { return (taps + 7) / 8 * 8; }
  int64_t pitch() const { return (bins + 2 * margin() + 15) / 8 * 8; }
  int64_t padded_size() const { return (bins + 2 * margin()) * pitch(); }
  int64_t at(int64_t k, int64_t l) const { return (k + margin()) * pitch() + l + margin(); }
};

// The four taps of a cubic B-spline, t in 0..1 from the second, and their derivatives in t.
template <class V>
MEDKERN_INLINE void spline_taps(V t, V (&values)[4], V (&slopes)[4]) {
  const V rest = 1.0 - t;
  values[0] = rest * rest * rest / 6.0;
  values[1] = (4.0 - t * t * (6.0 - 3.0 * t)) / 6.0;
  values[2] = (4.0 - rest * rest * (6.0 - 3.0 * rest)) / 6.0;
  values[3] = t * t * t / 6.0;
  slopes[0] = -0.5 * rest * rest;
  slopes[1] = t * (1.5 * t - 2.0);
  slopes[2] = rest * (2.0 - 1.5 * rest);
  slopes[3] = 0.5 * t * t;
}

struct JointHistogramProblem {
  int64_t batch = 0, voxels = 0;
  ParzenWindow window;
  FloatType type = FloatType::float32;
  const void *a = nullptr, *b = nullptr;
  double* parts = nullptr;          // forward: [batch, parts], padded histograms
  const double* weights = nullptr;  // backward: [batch], padded: G / voxels
  bool both = false;
  void* grads = nullptr;  // [batch, 1 or 2, voxels], as the images
};

constexpr int64_t kHistogramTile = 64;  // voxels whose weights are held in the L1 cache

inline int64_t joint_histogram_parts(const JointHistogramProblem& p) {
  return std::clamp<int64_t>(p.voxels / 16384, 1, 64);
}

// Doubles of scratch: a second histogram, and weights and slopes of a tile.
inline size_t joint_histogram_scratch(const JointHistogramProblem& p) {
  const int64_t weights = 6 * p.window.padded_taps() * kHistogramTile;
  return static_cast<size_t>(p.window.padded_size() + weights);
}

// Processes parts [begin, end) of batch * joint_histogram_parts.
using JointHistogramKernel = void (*)(const JointHistogramProblem&, int64_t begin, int64_t end,
                                      double* scratch);

// The kernel for the instruction set in use.
JointHistogramKernel joint_histogram_kernel(bool backward, FloatType type);

}  // namespace medkern
