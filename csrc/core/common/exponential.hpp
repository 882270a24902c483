// exp, log, sigmoid and tanh on vectors: our own, without fused multiply-add, so that every
// instruction set gives the same bits.
#pragma once

#include <iterator>
#include <limits>

#include "simd.hpp"

namespace medkern::MEDKERN_ISA {

// exp(x) = 2^n (1 + q), q = exp(r) - 1 = r + r^2 (c_2 + c_3 r + ...), n = round(x / log 2): adding
// `magic`, which is 1.5 times the first power of two whose unit in the last place is 1, rounds and
// leaves n in the low bits. The polynomials, c[0] = c_2 and on, are those of the smallest relative
// error over |r| <= log(2) / 2: 4e-9 in float32, 1e-17 in float64, rounded as they are. log(x) = e
// log 2 + log m with m in [sqrt 1/2, sqrt 2), whose lower end has the bits `root_half`.
template <class C>
struct ExpConstants;
template <>
struct ExpConstants<float> {
  using Bits = uint32_t;
  using Integer = int32_t;
  static constexpr float magic = 0x1.8p23f, log2_e = 0x1.715476p+0f;
  // log 2 in two parts: n times the first is exact.
  static constexpr float log_2_high = 0x1.63p-1f, log_2_low = -0x1.bd0106p-13f;
  static constexpr float lowest = -87.0f;  // below: 0, as 2^n would be subnormal
  static constexpr int mantissa = 23, bias = 127, log_terms = 5;
  static constexpr float c[] = {0.4999999343f, 0.1666652040f, 0.0416683908f, 0.00836874511f,
                                0.00138145402f};
  static constexpr Integer root_half = 0x3f3504f3;
};
template <>
struct ExpConstants<double> {
  using Bits = uint64_t;
  using Integer = int64_t;
  static constexpr double magic = 0x1.8p52, log2_e = 0x1.71547652b82fep+0;
  static constexpr double log_2_high = 0x1.62e42feep-1, log_2_low = 0x1.a39ef35793c76p-33;
  static constexpr double lowest = -708.0;
  static constexpr int mantissa = 52, bias = 1023, log_terms = 11;
  static constexpr double c[] = {0.50000000000000106688,   0.16666666666666411508,
                                 0.041666666666529728134,  0.008333333333494977261,
                                 0.0013888888943759984011, 0.00019841269505773806997,
                                 2.4801492949617070769e-5, 2.7557586803847070697e-6,
                                 2.7630306255647857359e-7, 2.5000018853083341953e-8};
  static constexpr Integer root_half = 0x3fe6a09e667f3bcd;
};

// For x <= 0: exp(x) = scale + scale q.
template <class C>
struct ExpParts {
  Vec<C> q, scale;

  static MEDKERN_INLINE ExpParts of(Vec<C> x) {
    using K = ExpConstants<C>;
    using Bits = Vec<typename K::Bits>;
    const Vec<C> shifted = x * K::log2_e + K::magic;
    const Vec<C> n = shifted - K::magic;
    const Vec<C> r = (x - n * K::log_2_high) - n * K::log_2_low;
    constexpr int terms = static_cast<int>(std::size(K::c));
    Vec<C> series = r * K::c[terms - 1] + K::c[terms - 2];
#pragma GCC unroll 16
    for (int k = terms - 3; k >= 0; --k) series = series * r + K::c[k];
    Bits power = reinterpret_cast<Bits>(shifted) << K::mantissa;
    power += typename K::Bits{K::bias} << K::mantissa;
    return {(series * r) * r + r, reinterpret_cast<Vec<C>>(power)};
  }
};

// exp(x) for x <= 0 to 2 units in the last place; 0 below `lowest`; NaN stays NaN.
template <class C>
MEDKERN_INLINE Vec<C> exp_of_negative(Vec<C> x) {
  const ExpParts<C> parts = ExpParts<C>::of(x);
  return x < ExpConstants<C>::lowest ? Vec<C>{} : parts.scale + parts.scale * parts.q;
}

// log(x) for normal x > 0 to 2 units in the last place; infinity and NaN stay what they are.
// log m = 2 (s + s^3 / 3 + s^5 / 5 + ...) with s = (m - 1) / (m + 1).
template <class C>
MEDKERN_INLINE Vec<C> log_of_positive(Vec<C> x) {
  using K = ExpConstants<C>;
  using Integers = Vec<typename K::Integer>;
  const Integers bits = reinterpret_cast<Integers>(x) - K::root_half;
  const Integers exponent = bits >> K::mantissa;
  const Integers fraction = (bits & ((typename K::Integer{1} << K::mantissa) - 1)) + K::root_half;
  const Vec<C> e = __builtin_convertvector(exponent, Vec<C>);
  const Vec<C> off = reinterpret_cast<Vec<C>>(fraction) - C(1);
  const Vec<C> s = off / (off + C(2)), square = s * s;
  Vec<C> series = Vec<C>{} + C(1.0 / (2 * K::log_terms - 1));
#pragma GCC unroll 16
  for (int k = K::log_terms - 2; k >= 1; --k) series = series * square + C(1.0 / (2 * k + 1));
  const Vec<C> twice = s + s;
  const Vec<C> value = e * K::log_2_high + (twice + (twice * square * series + e * K::log_2_low));
  return x < std::numeric_limits<C>::infinity() ? value : x;
}

template <class C>
MEDKERN_INLINE Vec<C> magnitude(Vec<C> x) {
  return x < C{} ? -x : x;
}

// 1 / (1 + exp(-x)), to 2.5 units in the last place; 0 below `lowest`.
template <class C>
MEDKERN_INLINE Vec<C> sigmoid(Vec<C> x) {
  const Vec<C> y = -magnitude<C>(x);
  const Vec<C> e = exp_of_negative<C>(y);
  return (x >= C{} ? Vec<C>{} + C{1} : e) / (e + C{1});
}

// To 2.5 units in the last place. With m = exp(-2 |x|) - 1, which keeps the digits of a small x: -m
// / (2 + m).
template <class C>
MEDKERN_INLINE Vec<C> tanh_of(Vec<C> x) {
  const Vec<C> y = C{-2} * magnitude<C>(x);
  const ExpParts<C> parts = ExpParts<C>::of(y);
  const Vec<C> inside = parts.scale * parts.q + (parts.scale - C{1});
  const Vec<C> m = y < ExpConstants<C>::lowest ? Vec<C>{} - C{1} : inside;
  const Vec<C> t = m / (m + C{2});
  return x < C{} ? t : -t;
}

}  // namespace medkern::MEDKERN_ISA
