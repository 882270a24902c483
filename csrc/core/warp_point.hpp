// Interpolation from T taps per axis, in an order that is the same everywhere.
#pragma once

#include "common/inline.hpp"

namespace medkern::MEDKERN_ISA {

// sum_k weight_k v_k
template <int T, class V, class Weight>
MEDKERN_INLINE V weighted(const V (&v)[T], const Weight& weight) {
  V sum = weight(0) * v[0];
  MEDKERN_UNROLL
  for (int k = 1; k < T; ++k) sum += weight(k) * v[k];
  return sum;
}

// Interpolation of a value of type V at one voxel (V: channels) or at several (V: voxels).
// fetch(z, y, v) reads the T values along x; weight(axis, tap) and slope(axis, tap) are those of
// the voxel, or of the voxels.
template <class V, int T>
struct WarpPoint {
  template <class Fetch, class Weight>
  static MEDKERN_INLINE V value(int depth, const Fetch& fetch, const Weight& weight) {
    V total{};
    MEDKERN_UNROLL_BY(T == 4 ? 1 : T)  // 64 taps at once would not fit the registers of a GPU
    for (int z = 0; z < depth; ++z) {
      V rows[T];
      MEDKERN_UNROLL
      for (int y = 0; y < T; ++y) {
        V v[T] = {};
        fetch(z, y, v);
        rows[y] = weighted<T>(v, [&](int k) { return weight(2, k); });
      }
      const V plane = weighted<T>(rows, [&](int k) { return weight(1, k); });
      total = z == 0 ? weight(0, 0) * plane : total + weight(0, z) * plane;
    }
    return total;
  }

  // The derivatives along z, y and x.
  template <class Fetch, class Weight, class Slope>
  static MEDKERN_INLINE void slopes(int depth, const Fetch& fetch, const Weight& weight,
                                    const Slope& slope, V (&d)[3]) {
    MEDKERN_UNROLL_BY(T == 4 ? 1 : T)
    for (int z = 0; z < depth; ++z) {
      V rows[T], slopes[T];
      MEDKERN_UNROLL
      for (int y = 0; y < T; ++y) {
        V v[T] = {};
        fetch(z, y, v);
        rows[y] = weighted<T>(v, [&](int k) { return weight(2, k); });
        slopes[y] = weighted<T>(v, [&](int k) { return slope(2, k); });
      }
      const auto across = [&](int k) { return weight(1, k); };
      const V plane = weighted<T>(rows, across), along_x = weighted<T>(slopes, across);
      const V along_y = weighted<T>(rows, [&](int k) { return slope(1, k); });
      const auto by = weight(0, z);
      d[0] = z == 0 ? slope(0, 0) * plane : d[0] + slope(0, z) * plane;
      d[1] = z == 0 ? by * along_y : d[1] + by * along_y;
      d[2] = z == 0 ? by * along_x : d[2] + by * along_x;
    }
  }
};

}  // namespace medkern::MEDKERN_ISA
