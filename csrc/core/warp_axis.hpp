// Where one axis of an image is read, and with which weights: the same lines for one voxel (GPU)
// and for vectors of voxels (CPU).
//
// Lanes gives the types, and what differs between them:
//   Scalar, Value, Index, Whole    a number; numbers; their positions; one position
//   whole(Value), value(Index)     truncation; conversion
//   fold(Index&, Whole period)     the index modulo the period
#pragma once

#include <type_traits>

#include "common/storage.hpp"
#include "warp.hpp"

namespace medkern::MEDKERN_ISA {

template <class C>
using WarpIndex = std::conditional_t<sizeof(C) == 4, int32_t, int64_t>;

template <class C>
struct WarpOne {
  using Scalar = C;
  using Value = C;
  using Index = WarpIndex<C>;
  using Whole = Index;

  static MEDKERN_INLINE Index whole(Value v) { return static_cast<Index>(v); }
  static MEDKERN_INLINE Value value(Index i) { return static_cast<Value>(i); }
  static MEDKERN_INLINE void fold(Index& i, Whole period) {
    if (i >= 0 && i < period) return;
    i %= period;
    i += i < 0 ? period : 0;
  }
};

// T: taps per axis.
template <class Lanes, int T>
struct WarpAxis {
  using C = typename Lanes::Scalar;
  using V = typename Lanes::Value;
  using I = typename Lanes::Index;
  using W = typename Lanes::Whole;
  static constexpr int first = T == 4 ? -1 : 0;
  static constexpr C a = C(-0.75);

  // Between voxels i and i + 1, at i + f; `slope` is the derivative of f in u.
  I i;
  V f, slope;

  static MEDKERN_INLINE WarpAxis at(V t, I base, C scale, WarpPadding padding, W size) {
    WarpAxis axis = locate(t, base, scale);
    if (T != 4) axis.pad(padding, size);
    return axis;
  }

  // The voxel read by a tap; `within`: whether there is one.
  template <class Mask>
  MEDKERN_INLINE I index(int tap, WarpPadding padding, W size, Mask& within) const {
    I j = i + (first + tap);
    if constexpr (T == 1) {
      const auto up = (f > C(0.5)) | ((f == C(0.5)) & ((i & 1) == 1));
      j = j - (up ? I{} - 1 : I{});
    }
    if (T == 4 && padding == WarpPadding::reflection) {
      const W period = size > 1 ? 2 * (size - 1) : 1;
      Lanes::fold(j, period);
      j = j >= size ? period - j : j;
    }
    const auto low = j < 0;
    const auto high = j >= size;
    within = padding == WarpPadding::zeros ? !(low | high) : j == j;
    return low ? I{} : (high ? I{} + (size - 1) : j);
  }

  // Whether no tap reads the image.
  MEDKERN_INLINE auto outside(W size) const { return (i < -(first + T - 1)) | (i >= size - first); }

  // Whether the taps of a linear interpolation are no neighbours.
  MEDKERN_INLINE auto edge(W size) const { return (i < 0) | (i >= size - 1); }

  MEDKERN_INLINE V weight(int tap) const {
    if (T == 1) return V{} + 1;
    if (T == 2) return tap == 0 ? 1 - f : f;
    return tap == 0 ? outer(1 + f) : tap == 1 ? inner(f) : tap == 2 ? inner(1 - f) : outer(2 - f);
  }

  MEDKERN_INLINE V weight_slope(int tap) const {
    if (T == 1) return V{};
    if (T == 2) return (tap == 0 ? C(-1) : C(1)) * slope;
    return (tap == 0   ? outer_slope(1 + f)
            : tap == 1 ? inner_slope(f)
            : tap == 2 ? -inner_slope(1 - f)
                       : -outer_slope(2 - f)) *
           slope;
  }

 private:
  static MEDKERN_INLINE WarpAxis locate(V t, I base, C scale) {
    V near = t < C(-kWarpFar) ? V{} + C(-kWarpFar) : t;
    near = near > C(kWarpFar) ? V{} + C(kWarpFar) : near;
    const I truncated = Lanes::whole(near);
    const V below = Lanes::value(truncated);
    const auto rose = below > near;  // where truncation went up
    const V floor = rose ? below - 1 : below;
    return {truncated + (rose ? I{} - 1 : I{}) + base, near - floor, V{} + scale};
  }

  // To positions in the image; at its edges and beyond a border the derivative is 0.
  MEDKERN_INLINE void pad(WarpPadding padding, W size) {
    if (padding == WarpPadding::zeros) return;
    if (padding == WarpPadding::reflection) {
      const W period = size > 1 ? 2 * (size - 1) : 1;
      Lanes::fold(i, period);
      const auto back = i >= size - 1;
      const auto inside = f != C{};
      i = back ? period - i + (inside ? I{} - 1 : I{}) : i;
      f = (back & inside) ? 1 - f : f;
      slope = back ? -slope : slope;
    }
    const auto low = (i < 0) | ((i == 0) & (f == C{}));
    const auto high = i >= size - 1;
    i = low ? I{} : (high ? I{} + (size - 1) : i);
    f = (low | high) ? V{} : f;
    slope = (low | high) ? V{} : slope;
  }

  static MEDKERN_INLINE V inner(V x) { return ((a + 2) * x - (a + 3)) * x * x + 1; }
  static MEDKERN_INLINE V outer(V x) { return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a; }
  static MEDKERN_INLINE V inner_slope(V x) { return (3 * (a + 2) * x - 2 * (a + 3)) * x; }
  static MEDKERN_INLINE V outer_slope(V x) { return (3 * a * x - 10 * a) * x + 8 * a; }
};

}  // namespace medkern::MEDKERN_ISA
