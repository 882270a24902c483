// The normal distribution on vectors, and the GELU: our own, with fused multiply-add where there is
// one, so that the baseline rounds otherwise than AVX2 and AVX-512, whose bits are the same.
#pragma once

#include "exponential.hpp"
#include "polynomial.hpp"

namespace medkern::MEDKERN_ISA {

// For a >= 0, Phi(-a) = exp(-a^2 / 2) P(t) / (a + 4) with t = (a - 4) / (a + 4), where P is the
// polynomial of least relative error up to `largest`, beyond which the exponential counts as 0.
template <class C>
struct NormalConstants;
template <>
struct NormalConstants<float> {
  static constexpr float largest = 14.0f;
  static constexpr uint32_t upper_half = 0xfffff000u;  // the digits whose square is exact
  static constexpr float series[] = {
      0.755285135450375971f,     -0.607896610278312314f,  0.387136882954421302f,
      -0.186522842474763235f,    0.0604045056836554604f,  -0.00752912601056212734f,
      -0.0035184755438915481f,   0.00157546084397066023f, 0.000193158530973744066f,
      -0.000125689933358592295f,
  };
};
template <>
struct NormalConstants<double> {
  static constexpr double largest = 39.0;
  static constexpr uint64_t upper_half = 0xfffffffff8000000u;
  static constexpr double series[] = {
      0.755285130415751479,     -0.607896641971892044,   0.387137400742219401,
      -0.186521857959665953,    0.0603965748906701949,   -0.0075401889664179637,
      -0.00347969236168350963,  0.00163081845302113045,  0.000133344249265878244,
      -0.000231094901541966618, -1.90784797163060029e-6, 0.0000351445585500069801,
      7.14987986854474066e-7,   -5.91997528858967074e-6, -6.25250056118655977e-7,
      1.0217832827392355e-6,    2.64170597286564966e-7,  -1.56498657898253113e-7,
      -7.72038317779319636e-8,  1.60030332136976177e-8,  1.4599932997868333e-8,
      -3.18928042029489433e-10, -1.18738646103351264e-9,
  };
};

// With a = |x|, cut off: the exponential exp(-a^2 / 2), and Phi(-a) divided by it.
template <class C>
struct NormalTail {
  Vec<C> a, exponential, ratio;

  static MEDKERN_INLINE NormalTail of(Vec<C> x) {
    using K = NormalConstants<C>;
    const Vec<C> size = magnitude<C>(x);
    const Vec<C> a = size > K::largest ? Vec<C>{} + K::largest : size;  // NaN stays NaN
    return {a, exp_of_half_square(a), ratio_of(a)};
  }

 private:
  // a^2 is the sum of an exact square and a small part: rounded, it would lose the digits of a^2.
  static MEDKERN_INLINE Vec<C> exp_of_half_square(Vec<C> a) {
    using E = ExpConstants<C>;
    using Bits = Vec<typename E::Bits>;
    const auto upper =
        reinterpret_cast<Vec<C>>(reinterpret_cast<Bits>(a) & NormalConstants<C>::upper_half);
    const Vec<C> x = upper * upper * C(-0.5), low = (a - upper) * (a + upper) * C(-0.5);
    const Vec<C> shifted = multiply_add(x, Vec<C>{} + E::log2_e, Vec<C>{} + E::magic);
    const Vec<C> n = shifted - E::magic;
    const Vec<C> r = (x - n * E::log_2_high) + (low - n * E::log_2_low);
    const Bits power = (reinterpret_cast<Bits>(shifted) << E::mantissa) +
                       (typename E::Bits{E::bias} << E::mantissa);
    const auto scale = reinterpret_cast<Vec<C>>(power);
    const Vec<C> q = multiply_add(r * r, polynomial(E::c, r), r);
    return x < E::lowest ? Vec<C>{} : multiply_add(scale, q, scale);
  }

  static MEDKERN_INLINE Vec<C> ratio_of(Vec<C> a) {
    const Vec<C> inverse = C{1} / (a + C{4}), t = (a - C{4}) * inverse;
    return polynomial(NormalConstants<C>::series, t) * inverse;
  }
};

// x Phi(x), to 7 units in the last place where that is a normal number; -inf gives NaN, as 0 times
// it does.
template <class C>
MEDKERN_INLINE Vec<C> gelu(Vec<C> x) {
  const auto tail = NormalTail<C>::of(x);
  const Vec<C> beyond = tail.exponential * tail.ratio;
  return x * (x < C{} ? beyond : C{1} - beyond);
}

// The derivative of x Phi(x), Phi(x) + x phi(x), with an error below 2 units in the last place of
// 1; of an infinite x the limit.
template <class C>
MEDKERN_INLINE Vec<C> gelu_slope(Vec<C> x) {
  constexpr C density = C(0.398942280401432677939946);  // phi(0)
  const auto tail = NormalTail<C>::of(x);
  const Vec<C> beyond = tail.exponential * (tail.ratio - tail.a * density);
  return x < C{} ? beyond : C{1} - beyond;
}

}  // namespace medkern::MEDKERN_ISA
