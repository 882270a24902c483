// Counter-based random numbers: Philox 4x32-10 and normals from it, for CPU vectors and for
// devices.
//
// Four words are a function of a counter of four words and a key of two, so that a number depends
// on where it is used and on nothing else. Normals by Box and Muller from 24 bits of each word,
//     z0 = sqrt(-2 log u) cos 2 pi v, z1 = sqrt(-2 log u) sin 2 pi v, u in (0, 1], v in [0, 1),
// in additions, multiplications, a division and a square root, all rounded correctly and none
// contracted: the same bits everywhere. Errors: a few units in the last place of the largest.
//
// `Math` says what a word, a number and the operations on them are: ScalarMath here, VectorMath in
// vector_math.hpp. About 60 operations per number.
// Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "inline.hpp"

#ifndef MEDKERN_ISA
#error "define MEDKERN_ISA (baseline, avx2, avx512 or cuda): see csrc/isa and csrc/cuda"
#endif

namespace medkern::MEDKERN_ISA {

template <class C>
struct ScalarMath {
  using Lane = C;
  using Real = C;
  using Word = uint32_t;
  using Single = float;

  static MEDKERN_INLINE void multiply(Word a, uint32_t b, Word& high, Word& low) {
    const uint64_t product = uint64_t{a} * b;
    high = static_cast<Word>(product >> 32);
    low = static_cast<Word>(product);
  }
  static MEDKERN_INLINE Single single(Word w) { return static_cast<Single>(w); }
  static MEDKERN_INLINE Word bits(Single v) {
    Word w;
    memcpy(&w, &v, sizeof(w));
    return w;
  }
  static MEDKERN_INLINE Single from_bits(Word w) {
    Single v;
    memcpy(&v, &w, sizeof(v));
    return v;
  }
  static MEDKERN_INLINE Real widen(Single v) { return static_cast<Real>(v); }
  static MEDKERN_INLINE Real whole(Word w) { return static_cast<Real>(static_cast<int32_t>(w)); }
  static MEDKERN_INLINE Real root(Real v) { return std::sqrt(v); }
  static MEDKERN_INLINE Real where_odd(Word w, Real odd, Real even) { return w & 1 ? odd : even; }
  template <class F>
  static MEDKERN_INLINE Real each(Real v, const F& f) {
    return f(v);
  }
};

template <class Word>
struct PhiloxWords {
  Word a, b, c, d;
};

template <class Math, class Word = typename Math::Word>
MEDKERN_INLINE PhiloxWords<Word> philox(PhiloxWords<Word> x, Word key0, Word key1) {
  for (int round = 0; round < 10; ++round) {
    Word high0, low0, high1, low1;
    Math::multiply(x.a, 0xD2511F53u, high0, low0);
    Math::multiply(x.c, 0xCD9E8D57u, high1, low1);
    x = {high1 ^ x.b ^ key0, low1, high0 ^ x.d ^ key1, low0};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return x;
}

// A variable, as devices may read it and not call the function.
template <class Of, class C, int K>
constexpr C kCoefficient = static_cast<C>(Of::coefficient(K));

// sum over k in [First, Last] of coefficient(k) x^(k - First), where Of gives coefficients.
template <class Of, class C, int First, int Last, class V>
MEDKERN_INLINE V polynomial(V x) {
  constexpr C coefficient = kCoefficient<Of, C, First>;
  if constexpr (First == Last) {
    return V{} + coefficient;
  } else {
    return polynomial<Of, C, First + 1, Last>(x) * x + coefficient;
  }
}

struct ArtanhSeries {
  static constexpr double coefficient(int k) { return 1.0 / (2 * k + 1); }
};
struct CosineSeries {
  static constexpr double coefficient(int k) {
    return k == 0 ? 1.0 : -coefficient(k - 1) / (2 * k * (2 * k - 1));
  }
};
struct SineSeries {
  static constexpr double coefficient(int k) {
    return k == 0 ? 1.0 : -coefficient(k - 1) / (2 * k * (2 * k + 1));
  }
};

// log(n / 2^24) for n in [1, 2^24]: of the mantissa m in [sqrt(1/2), sqrt 2), 2 artanh((m - 1) /
// (m + 1)); exact relative to its size also where n is close to 2^24.
template <class Math>
MEDKERN_INLINE typename Math::Real log_of_fraction(typename Math::Word n) {
  using Real = typename Math::Real;
  using C = typename Math::Lane;
  constexpr uint32_t low = 0x3F3504F3u;  // sqrt(1/2)
  const typename Math::Word adjusted = Math::bits(Math::single(n)) - low;
  const Real exponent = Math::whole((adjusted >> 23) - 24u);
  const Real m = Math::widen(Math::from_bits((adjusted & 0x7FFFFFu) + low));
  const Real s = (m - C(1)) / (m + C(1));
  const Real series = polynomial<ArtanhSeries, C, 0, sizeof(C) == 4 ? 4 : 10>(Real(s * s));
  return exponent * C(0.69314718055994530942) + (s + s) * series;
}

// cos and sin of 2 pi n / 2^24 for n in [0, 2^24), from the nearest quarter of a turn.
template <class Math>
MEDKERN_INLINE void cos_sin_of_fraction(typename Math::Word n, typename Math::Real& cosine,
                                        typename Math::Real& sine) {
  using Real = typename Math::Real;
  using C = typename Math::Lane;
  constexpr int last = sizeof(C) == 4 ? 5 : 9;
  const typename Math::Word quarter = (n + (1u << 21)) >> 22;
  const Real angle = Math::whole(n - (quarter << 22)) * C(6.28318530717958647693 / (1 << 24));
  const Real square = angle * angle;
  const Real c = polynomial<CosineSeries, C, 0, last>(square);
  const Real s = polynomial<SineSeries, C, 0, last>(square) * angle;
  cosine = Math::where_odd(quarter, s, c) * (C(1) - Math::whole((quarter + 1u) & 2u));
  sine = Math::where_odd(quarter, c, s) * (C(1) - Math::whole(quarter & 2u));
}

template <class Math>
MEDKERN_INLINE void normal_pair(typename Math::Word u, typename Math::Word v,
                                typename Math::Real& first, typename Math::Real& second) {
  using C = typename Math::Lane;
  const typename Math::Real radius = Math::root(C(-2) * log_of_fraction<Math>((u >> 8) + 1u));
  cos_sin_of_fraction<Math>(v >> 8, first, second);
  first = first * radius;
  second = second * radius;
}

}  // namespace medkern::MEDKERN_ISA
