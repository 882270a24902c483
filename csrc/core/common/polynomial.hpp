// Polynomials by Estrin's scheme: a third of the latency of Horner's for the price of a few
// squares, which is what bounds functions of one chain of operations per vector.
#pragma once

#include "multiply_add.hpp"

namespace medkern::MEDKERN_ISA {

constexpr int half_of(int terms) {
  int half = 1;
  while (2 * half < terms) half *= 2;
  return half;
}

// c[0] + c[1] t + ... of `Terms` coefficients, given power[i] = t^(2^i).
template <int Terms, class C>
MEDKERN_INLINE Vec<C> estrin(const C* c, const Vec<C>* power) {
  if constexpr (Terms == 1) {
    return Vec<C>{} + c[0];
  } else {
    constexpr int half = half_of(Terms);
    const Vec<C> high = estrin<Terms - half>(c + half, power);
    return multiply_add(high, power[__builtin_ctz(half)], estrin<half>(c, power));
  }
}

template <class C, int Terms>
MEDKERN_INLINE Vec<C> polynomial(const C (&c)[Terms], Vec<C> t) {
  Vec<C> power[5] = {t};
#pragma GCC unroll 4
  for (int i = 1; i < 5; ++i) power[i] = power[i - 1] * power[i - 1];
  return estrin<Terms>(c, power);
}

}  // namespace medkern::MEDKERN_ISA
