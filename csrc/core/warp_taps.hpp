// Where a chunk of a row reads the image: offsets and weights of its taps along every axis.
#pragma once

#include <limits>

#include "common/simd.hpp"
#include "warp.hpp"

namespace medkern::MEDKERN_ISA {

template <class C>
using WarpIndex = std::conditional_t<sizeof(C) == 4, int32_t, int64_t>;

template <class C, int T, bool Slopes>
struct WarpTaps {
  int64_t offset[3][T][kWarpChunk];  // in values of the grouped image
  C weight[3][T][kWarpChunk];
  C slope[3][Slopes ? T : 1][kWarpChunk];  // the weights' derivatives in u
  bool outside[kWarpChunk];                // with zeros around: nothing to read
  bool lost[kWarpChunk];                   // no position: weights are NaN
  bool edge[kWarpChunk];                   // the taps along x are no neighbours
};

template <class C, int T, bool Slopes>
struct WarpStage {
  using I = WarpIndex<C>;
  using Taps = WarpTaps<C, T, Slopes>;
  static constexpr int first = T == 4 ? -1 : 0;
  static constexpr C a = C(-0.75);

  // The taps of voxels [x, x + n) of a row; `width` values per voxel of the image.
  static void run(const WarpProblem& p, int64_t sample, int64_t row, int64_t x, int64_t n,
                  int64_t width, Taps& taps) {
    const int64_t plane = p.out_voxels(), at = row * p.out[2] + x;
    const C* u = static_cast<const C*>(p.displacement) + sample * p.ndim * plane + at;
    const int64_t index[3] = {row / p.out[1], row % p.out[1], x};
    const int64_t stride[3] = {p.size[1] * p.size[2] * width, p.size[2] * width, width};
    for (int64_t k = 0; k < kWarpChunk; ++k) taps.outside[k] = taps.lost[k] = false;
    if (p.ndim == 2) {
      for (int64_t k = 0; k < kWarpChunk; ++k) {
        taps.offset[0][0][k] = 0;
        taps.weight[0][0][k] = 1;
        if constexpr (Slopes) taps.slope[0][0][k] = 0;
      }
    }
    for (int axis = 3 - p.ndim; axis < 3; ++axis) {
      run_axis(p, axis, u + (axis - 3 + p.ndim) * plane, index[axis], n, stride[axis], taps);
    }
    for (int64_t k = 0; k < kWarpChunk; ++k) taps.outside[k] &= !taps.lost[k];
  }

  // Only the taps along the axis that is cut into slabs.
  static void run_slab_axis(const WarpProblem& p, int64_t sample, int64_t row, int64_t x, int64_t n,
                            int64_t stride, Taps& taps) {
    const int axis = p.slab_axis();
    for (int64_t k = 0; k < kWarpChunk; ++k) taps.outside[k] = taps.lost[k] = false;
    const C* u = static_cast<const C*>(p.displacement) + sample * p.ndim * p.out_voxels();
    const int64_t index = axis == 0 ? row / p.out[1] : row % p.out[1];
    run_axis(p, axis, u + row * p.out[2] + x, index, n, stride, taps);
  }

  static void run_axis(const WarpProblem& p, int axis, const C* u, int64_t from, int64_t n,
                       int64_t stride, Taps& taps) {
    I i[kWarpChunk];
    C f[kWarpChunk], sign[kWarpChunk];
    const I size = static_cast<I>(p.size[axis]);
    const bool lost = axis == 2 ? locate<true>(p, axis, u, from, n, i, f, sign, taps.lost)
                                : locate<false>(p, axis, u, from, n, i, f, sign, taps.lost);
    if (T != 4) pad_positions(p.padding, size, i, f, sign);
    set_taps(p.padding, size, i, f, sign, stride, axis, taps);
    if (lost) lose(n, axis, taps);
  }

  // Positions i + f, and where there is none. `Along`: the axis of the row.
  template <bool Along>
  static bool locate(const WarpProblem& p, int axis, const C* u, int64_t from, int64_t n, I* i,
                     C* f, C* sign, bool* lost) {
    const C scale = static_cast<C>(p.scale[axis]);
    const C infinity = p.padding == WarpPadding::reflection ? std::numeric_limits<C>::max()
                                                            : std::numeric_limits<C>::infinity();
    const I* whole = static_cast<const I*>(p.whole[axis]) + from;
    const C* part = static_cast<const C*>(p.part[axis]) + from;
    int any = 0;
    for (int64_t k = 0; k < n; ++k) {
      const C t = part[Along ? k : 0] + u[k] * scale;
      const bool known = t >= -infinity && t <= infinity;
      C near = known ? t : C{};
      near = near < C(-kWarpFar) ? C(-kWarpFar) : near;
      near = near > C(kWarpFar) ? C(kWarpFar) : near;
      const C floor = floor_of(near);
      i[k] = static_cast<I>(floor) + whole[Along ? k : 0];
      f[k] = near - floor;
      sign[k] = scale;
      lost[k] |= !known;
      any |= !known;
    }
    for (int64_t k = n; k < kWarpChunk; ++k) {
      i[k] = 0;
      f[k] = sign[k] = C{};
    }
    return any != 0;
  }

  static MEDKERN_INLINE float floor_of(float x) { return __builtin_floorf(x); }
  static MEDKERN_INLINE double floor_of(double x) { return __builtin_floor(x); }

  // To positions in the image; at its edges and beyond a border the derivative is 0.
  static void pad_positions(WarpPadding padding, I size, I* i, C* f, C* sign) {
    if (padding == WarpPadding::zeros) return;
    if (padding == WarpPadding::reflection) {
      const I period = size > 1 ? 2 * (size - 1) : 1;
      for (int64_t k = 0; k < kWarpChunk; ++k) {
        if (i[k] < 0 || i[k] >= period) i[k] = modulo(i[k], period);
        const bool back = i[k] >= size - 1, whole = f[k] == C{};
        const I mirrored = period - i[k] - (whole ? 0 : 1);
        i[k] = back ? mirrored : i[k];
        f[k] = back && !whole ? 1 - f[k] : f[k];
        sign[k] = back ? -sign[k] : sign[k];
      }
    }
    for (int64_t k = 0; k < kWarpChunk; ++k) {
      const bool low = i[k] < 0 || (i[k] == 0 && f[k] == C{}), high = i[k] >= size - 1;
      i[k] = low ? 0 : high ? size - 1 : i[k];
      f[k] = low || high ? C{} : f[k];
      sign[k] = low || high ? C{} : sign[k];
    }
  }

  static MEDKERN_INLINE I modulo(I i, I period) {
    const I rest = i % period;
    return rest < 0 ? rest + period : rest;
  }

  static void set_taps(WarpPadding padding, I size, const I* i, const C* f, const C* sign,
                       int64_t stride, int axis, Taps& taps) {
    const bool zeros = padding == WarpPadding::zeros;
    for (int tap = 0; tap < T; ++tap) {
      int64_t* offset = taps.offset[axis][tap];
      C* weight = taps.weight[axis][tap];
      C* slope = taps.slope[axis][Slopes ? tap : 0];
      for (int64_t k = 0; k < kWarpChunk; ++k) {
        I at = i[k] + first + tap;
        if (T == 1) at += f[k] > C(0.5) || (f[k] == C(0.5) && (i[k] & 1));
        if (T == 4 && padding == WarpPadding::reflection) at = reflect(at, size);
        const bool within = !zeros || (at >= 0 && at < size);
        at = at < 0 ? 0 : at;
        at = at >= size ? size - 1 : at;
        offset[k] = static_cast<int64_t>(at) * stride;
        weight[k] = within ? weight_of(tap, f[k]) : C{};
        if constexpr (Slopes) slope[k] = within ? slope_of(tap, f[k]) * sign[k] : C{};
      }
    }
    if (zeros && T > 1) {
      for (int64_t k = 0; k < kWarpChunk; ++k) {
        const I low = i[k] + first, high = low + T - 1;
        taps.outside[k] |= high < 0 || low >= size;
      }
    }
    if (axis == 2 && T == 2) {
      for (int64_t k = 0; k < kWarpChunk; ++k) taps.edge[k] = i[k] < 0 || i[k] >= size - 1;
    }
  }

  static MEDKERN_INLINE I reflect(I i, I size) {
    if (i >= 0 && i < size) return i;
    const I period = size > 1 ? 2 * (size - 1) : 1;
    const I rest = modulo(i, period);
    return rest >= size ? period - rest : rest;
  }

  static MEDKERN_INLINE C inner(C x) { return ((a + 2) * x - (a + 3)) * x * x + 1; }
  static MEDKERN_INLINE C outer(C x) { return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a; }
  static MEDKERN_INLINE C inner_slope(C x) { return (3 * (a + 2) * x - 2 * (a + 3)) * x; }
  static MEDKERN_INLINE C outer_slope(C x) { return (3 * a * x - 10 * a) * x + 8 * a; }

  static MEDKERN_INLINE C weight_of(int tap, C f) {
    if (T == 1) return 1;
    if (T == 2) return tap == 0 ? 1 - f : f;
    return tap == 0 ? outer(1 + f) : tap == 1 ? inner(f) : tap == 2 ? inner(1 - f) : outer(2 - f);
  }

  static MEDKERN_INLINE C slope_of(int tap, C f) {
    if (T == 1) return 0;
    if (T == 2) return tap == 0 ? -1 : 1;
    return tap == 0   ? outer_slope(1 + f)
           : tap == 1 ? inner_slope(f)
           : tap == 2 ? -inner_slope(1 - f)
                      : -outer_slope(2 - f);
  }

  static void lose(int64_t n, int axis, Taps& taps) {
    for (int64_t k = 0; k < n; ++k) {
      for (int tap = 0; tap < T && taps.lost[k]; ++tap) {
        taps.weight[axis][tap][k] = std::numeric_limits<C>::quiet_NaN();
        if constexpr (Slopes) taps.slope[axis][tap][k] = std::numeric_limits<C>::quiet_NaN();
      }
    }
  }
};

}  // namespace medkern::MEDKERN_ISA
