// The derivatives of a shortest-path tree's edge costs in the image, for CPU and GPU in the very
// same operations.
//
// With F(p) what flows through voxel p, the gradient in the image at v is the sum over the edges
// that end or start at v, by class and then by the index of the voxel they lead to:
//     g(v) = sum_k sum_p [v = p or v = parent_k(p)]  F_k(p) dw(parent_k(p), p) / dI(v).
#pragma once

#include <cmath>
#include <cstdint>

#include "common/inline.hpp"
#include "geodesic_metric.hpp"
#include "grid.hpp"

namespace medkern {

constexpr int kMoves = 27;  // 9 (z + 1) + 3 (y + 1) + (x + 1)

// The number of the move from q to p, or -1 where they are no neighbours.
MEDKERN_INLINE int move_between(const Grid& grid, int64_t q, int64_t p) {
  const int64_t width = grid.size[2], plane = grid.size[1] * width;
  int64_t z, y, x;
  if (width < 3 || (grid.size[0] > 1 && grid.size[1] < 3)) {
    z = p / plane - q / plane;
    y = p % plane / width - q % plane / width;
    x = p % width - q % width;
  } else {  // the balanced digits of the difference
    x = p - q;
    z = grid.size[0] == 1 ? 0 : (2 * x > plane) - (2 * x < -plane);
    x -= z * plane;
    y = (2 * x > width) - (2 * x < -width);
    x -= y * width;
  }
  const auto near = [](int64_t step) { return step >= -1 && step <= 1; };
  return near(z) && near(y) && near(x) ? static_cast<int>(9 * (z + 1) + 3 * (y + 1) + x + 1) : -1;
}

MEDKERN_INLINE double move_length(const double* spacing, int move) {
  const double z = (move / 9 - 1) * spacing[0], y = (move / 3 % 3 - 1) * spacing[1],
               x = (move % 3 - 1) * spacing[2];
  return std::sqrt(z * z + y * y + x * x);
}

template <class T>
struct EdgeSlope {
  const T* image;  // [channels, voxels]
  int64_t channels, voxels;
  GeodesicMetric metric;
  ChannelNorm norm;
  T intensity, rest;

  static MEDKERN_INLINE EdgeSlope of(const T* image, int64_t channels, int64_t voxels,
                                     GeodesicMetric metric, ChannelNorm norm, double lam) {
    return {image,
            channels,
            voxels,
            metric,
            norm,
            static_cast<T>(geodesic_intensity(metric, lam)),
            static_cast<T>(1 - lam)};
  }

  // Calls take(channel, at_q, at_p) with `flow` times the derivatives of the edge from q to p in
  // the image at its ends. They are 0 where there is none: at |0|, and at the root of 0.
  template <class Take>
  MEDKERN_INLINE void each(int64_t q, int64_t p, T step, T flow, const Take& take) const {
    if (metric == GeodesicMetric::node) return take(0, T{0}, flow);
    if (metric == GeodesicMetric::mcp) return take(0, step * flow, step * flow);
    const bool linear = metric == GeodesicMetric::l1 || metric == GeodesicMetric::fastgeodis;
    const ChannelNorm how = channels == 1                        ? ChannelNorm::l1
                            : metric == GeodesicMetric::geodistk ? ChannelNorm::l2
                                                                 : norm;
    T d = 0, largest = 1;  // the difference; how many channels have the largest
    if (!linear || how != ChannelNorm::l1) d = difference(q, p, how, largest);
    const T slope = flow * (linear ? intensity : slope_at(d, step));
    for (int64_t c = 0; c < channels; ++c) {
      const T change = image[c * voxels + p] - image[c * voxels + q];
      const T sign = static_cast<T>((change > 0) - (change < 0));
      T unit = sign;
      if (how == ChannelNorm::l2) unit = d > 0 ? change / d : T{0};
      if (how == ChannelNorm::linf) unit = std::fabs(change) == d ? sign / largest : T{0};
      take(c, -(slope * unit), slope * unit);
    }
  }

 private:
  MEDKERN_INLINE T difference(int64_t q, int64_t p, ChannelNorm how, T& largest) const {
    T sum = std::fabs(image[p] - image[q]);
    if (how == ChannelNorm::l2) sum = sum * sum;
    for (int64_t c = 1; c < channels; ++c) {
      const T change = std::fabs(image[c * voxels + p] - image[c * voxels + q]);
      if (how == ChannelNorm::linf) {
        largest = change == sum ? largest + 1 : change > sum ? T{1} : largest;
        sum = change > sum ? change : sum;
      } else {
        sum += how == ChannelNorm::l2 ? change * change : change;
      }
    }
    return how == ChannelNorm::l2 ? std::sqrt(sum) : sum;
  }

  // The derivative of the cost in the difference d.
  MEDKERN_INLINE T slope_at(T d, T step) const {
    if (metric == GeodesicMetric::geodistk) {
      const T high = d + static_cast<T>(1e-5), slowness = rest + intensity / high;
      return step / (slowness * slowness) * (intensity / (high * high));
    }
    const T cost = std::sqrt(intensity * (d * d) + step);
    return cost > 0 ? intensity * d / cost : T{0};
  }
};

}  // namespace medkern
