// exp, expm1, the logistic function and tanh of vectors, without fused multiply-add: the same bits
// on every instruction set.
//
// exp(x) = 2^n (1 + q), q = exp(r) - 1, n = round(x / log 2), r = x - n log 2, with the Taylor
// series of q to the last bit for |r| <= log(2) / 2. Errors, over all float32: sigmoid 2.5 units in
// the last place (0 below -87), tanh 2; NaN stays NaN.
#pragma once

#include "simd.hpp"

namespace medkern::MEDKERN_ISA {

template <class C>
struct ExpSeries;
template <>
struct ExpSeries<float> {
  using Bits = uint32_t;
  // 1.5 times the power of two whose unit in the last place is 1: adding it rounds to an integer,
  // which is left in the low bits.
  static constexpr float magic = 0x1.8p23f, log2_e = 0x1.715476p+0f;
  static constexpr float log_2_high = 0x1.63p-1f, log_2_low = -0x1.bd0106p-13f;
  static constexpr float lowest = -87.0f;  // below: 0, as 2^n would be subnormal
  static constexpr int mantissa = 23, bias = 127, degree = 7;
};
template <>
struct ExpSeries<double> {
  using Bits = uint64_t;
  static constexpr double magic = 0x1.8p52, log2_e = 0x1.71547652b82fep+0;
  static constexpr double log_2_high = 0x1.62e42feep-1, log_2_low = 0x1.a39ef35793c76p-33;
  static constexpr double lowest = -708.0;
  static constexpr int mantissa = 52, bias = 1023, degree = 13;
};

constexpr double reciprocal_factorial(int k) {
  return k <= 1 ? 1.0 : reciprocal_factorial(k - 1) / k;
}

// For x <= 0: exp(x) = scale + scale q.
template <class C>
struct ExpParts {
  Vec<C> q, scale;

  static MEDKERN_INLINE ExpParts of(Vec<C> x) {
    using K = ExpSeries<C>;
    using Bits = Vec<typename K::Bits>;
    const Vec<C> shifted = x * K::log2_e + K::magic;
    const Vec<C> n = shifted - K::magic;
    const Vec<C> r = (x - n * K::log_2_high) - n * K::log_2_low;
    Vec<C> series = r * C(reciprocal_factorial(K::degree)) + C(reciprocal_factorial(K::degree - 1));
#pragma GCC unroll 16
    for (int k = K::degree - 2; k >= 2; --k) series = series * r + C(reciprocal_factorial(k));
    Bits power = reinterpret_cast<Bits>(shifted) << K::mantissa;
    power += typename K::Bits{K::bias} << K::mantissa;
    return {(series * r) * r + r, reinterpret_cast<Vec<C>>(power)};
  }
};

// exp(x) for x <= 0; 0 below `lowest`; NaN stays NaN.
template <class C>
MEDKERN_INLINE Vec<C> exp_of_negative(Vec<C> x) {
  const ExpParts<C> parts = ExpParts<C>::of(x);
  return x < ExpSeries<C>::lowest ? Vec<C>{} : parts.scale + parts.scale * parts.q;
}

template <class C>
MEDKERN_INLINE Vec<C> magnitude(Vec<C> x) {
  return x < C{} ? -x : x;
}

// 1 / (1 + exp(-x))
template <class C>
MEDKERN_INLINE Vec<C> sigmoid(Vec<C> x) {
  const Vec<C> y = -magnitude<C>(x);
  const Vec<C> e = exp_of_negative<C>(y);
  return (x >= C{} ? Vec<C>{} + C{1} : e) / (e + C{1});
}

// With m = exp(-2 |x|) - 1, which keeps the digits of a small x: -m / (2 + m).
template <class C>
MEDKERN_INLINE Vec<C> tanh_of(Vec<C> x) {
  const Vec<C> y = C{-2} * magnitude<C>(x);
  const ExpParts<C> parts = ExpParts<C>::of(y);
  const Vec<C> inside = parts.scale * parts.q + (parts.scale - C{1});
  const Vec<C> m = y < ExpSeries<C>::lowest ? Vec<C>{} - C{1} : inside;
  const Vec<C> t = m / (m + C{2});
  return x < C{} ? t : -t;
}

}  // namespace medkern::MEDKERN_ISA
