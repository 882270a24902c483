// The square root of a number or of every lane of a vector.
#pragma once

#include <cmath>
#include <type_traits>

#include "simd.hpp"

namespace medkern::MEDKERN_ISA {

template <class V>
MEDKERN_INLINE V root(V v) {
  if constexpr (std::is_floating_point_v<V>) {
    return std::sqrt(v);
  } else {
    // Compilers do not make one instruction of the loop.
#if defined(__x86_64__)
    if constexpr (std::is_same_v<V, Vec<float, 4>>) return V(_mm_sqrt_ps(__m128(v)));
    if constexpr (std::is_same_v<V, Vec<double, 2>>) return V(_mm_sqrt_pd(__m128d(v)));
#endif
#if defined(__AVX__)
    if constexpr (std::is_same_v<V, Vec<float, 8>>) return V(_mm256_sqrt_ps(__m256(v)));
    if constexpr (std::is_same_v<V, Vec<double, 4>>) return V(_mm256_sqrt_pd(__m256d(v)));
#endif
#if defined(__AVX512F__)  // the unmasked forms make GCC 12 warn in its own header
    if constexpr (std::is_same_v<V, Vec<float, 16>>) {
      return V(_mm512_maskz_sqrt_ps(0xffff, __m512(v)));
    }
    if constexpr (std::is_same_v<V, Vec<double, 8>>) {
      return V(_mm512_maskz_sqrt_pd(0xff, __m512d(v)));
    }
#endif
    V roots = v;
    for (int i = 0; i < lanes_of<V>; ++i) roots[i] = std::sqrt(v[i]);
    return roots;
  }
}

}  // namespace medkern::MEDKERN_ISA
