// One bin of the losses in fourier.hpp, for CPU vectors and for devices: V is a number or a vector,
// Math its operations (ScalarMath, VectorMath).
#pragma once

#include <cmath>

#include "common/philox.hpp"
#include "fourier.hpp"

namespace medkern::MEDKERN_ISA {

template <class V>
struct Bin {
  V re, im;
};

template <class Math, SpectrumLoss Loss>
struct SpectrumBins {
  using C = typename Math::Lane;
  using V = typename Math::Real;

  C parameter;
  bool log;
  C divisor;  // focal: f(top)

  static MEDKERN_INLINE V square(Bin<V> x) { return x.re * x.re + x.im * x.im; }

  // f of an amplitude, given its square. Powers other than 0, 1 and 2 call the library.
  template <class Scalar>
  static MEDKERN_INLINE Scalar focal(C parameter, bool log, Scalar square, const Scalar& root) {
    Scalar power = parameter == C(1) ? root : parameter == C(2) ? square : Scalar{} + C(1);
    if (parameter != C(0) && parameter != C(1) && parameter != C(2)) {
      power = Math::each(root, [&](C a) { return std::pow(a, parameter); });
    }
    if (log) power = Math::each(power, [](C a) { return std::log(a + C(1)); });
    return power;
  }

  MEDKERN_INLINE V weight(Bin<V> y) const {
    const V s = square(y);
    V w = focal(parameter, log, s, Math::root(s)) / divisor;
    w = w == w ? w : V{};  // 0 / 0
    return w < C(1) ? w : V{} + C(1);
  }

  MEDKERN_INLINE V value(Bin<V> x, Bin<V> y) const {
    if constexpr (Loss == SpectrumLoss::focal) {
      return weight(y) * square(x);
    } else {
      const V a = Math::root(square(x)), b = Math::root(square(y)), gap = a - b;
      if constexpr (Loss == SpectrumLoss::phase) {
        const V cosine = (x.re * y.re + x.im * y.im) / (a * b);
        return none(a, b, V(C(1) - cosine));
      } else if constexpr (Loss == SpectrumLoss::amplitude_l2) {
        return gap * gap;
      } else {
        return gap < C(0) ? V(-gap) : gap;
      }
    }
  }

  // The gradient in x.
  MEDKERN_INLINE Bin<V> slope(Bin<V> x, Bin<V> y) const {
    if constexpr (Loss == SpectrumLoss::focal) {
      const V w = C(2) * weight(y);
      return {w * x.re, w * x.im};
    } else {
      const V a = Math::root(square(x)), b = Math::root(square(y));
      if constexpr (Loss == SpectrumLoss::phase) {
        // -(v - (u . v) u) / a for the units u and v is the cross product times u, turned.
        const V ur = x.re / a, ui = x.im / a, vr = y.re / b, vi = y.im / b;
        const V cross = (ur * vi - ui * vr) / a;
        return {none(a, b, V(ui * cross)), none(a, b, V(-(ur * cross)))};
      } else {
        const V push = a == C(0) ? V{} : V(pull(V(a - b)) / a);
        return {push * x.re, push * x.im};
      }
    }
  }

 private:
  // The derivative of |gap| or gap^2.
  static MEDKERN_INLINE V pull(V gap) {
    if constexpr (Loss == SpectrumLoss::amplitude_l2) return C(2) * gap;
    const V one = V{} + C(1);
    return gap > C(0) ? one : gap < C(0) ? V(-one) : gap;  // a NaN stays
  }

  MEDKERN_INLINE V none(V a, V b, V value) const {
    const V kept = a <= parameter ? V{} : value;
    return b <= parameter ? V{} : kept;
  }
};

}  // namespace medkern::MEDKERN_ISA
