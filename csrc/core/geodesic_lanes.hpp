// What the geodesic kernels need of values that are single numbers or vectors of them alike.
#pragma once

// Four doubles are passed differently with and without AVX; here they are always inlined.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "common/root.hpp"
#include "common/simd.hpp"

namespace medkern::MEDKERN_ISA {

// The neighbours x-1, x, x+1 of one row; the fourth lane is never a neighbour.
template <class T>
using Quad = Vec<T, 4>;

template <class V>
MEDKERN_INLINE V magnitude(V v) {
  if constexpr (std::is_floating_point_v<V>) {
    return std::fabs(v);
  } else {
    using Bits = std::conditional_t<sizeof(v[0]) == 4, uint32_t, uint64_t>;
    constexpr Bits sign = Bits{1} << (8 * sizeof(Bits) - 1);
    return reinterpret_cast<V>(reinterpret_cast<Vec<Bits, lanes_of<V>>>(v) & ~sign);
  }
}

// Whether any lane of a comparison holds.
template <class V>
MEDKERN_INLINE bool any(V holds) {
#if defined(__AVX512F__)
  if constexpr (sizeof(V) == 64) {
    return _mm512_test_epi64_mask(reinterpret_cast<__m512i>(holds),
                                  reinterpret_cast<__m512i>(holds)) != 0;
  }
#endif
#if defined(__AVX__)
  if constexpr (sizeof(V) == 32) {
    return !_mm256_testz_si256(reinterpret_cast<__m256i>(holds), reinterpret_cast<__m256i>(holds));
  }
#endif
#if defined(__SSE4_1__)
  if constexpr (sizeof(V) == 16) {
    return !_mm_testz_si128(reinterpret_cast<__m128i>(holds), reinterpret_cast<__m128i>(holds));
  }
#endif
  bool found = false;
  for (int i = 0; i < lanes_of<V>; ++i) found = found || holds[i] != 0;
  return found;
}

// Bit i says whether lane i of a comparison holds.
MEDKERN_INLINE int mask_of(Quad<int32_t> holds) {
#if defined(__x86_64__)
  return _mm_movemask_ps(reinterpret_cast<__m128>(holds));
#else
  return (holds[0] & 1) | (holds[1] & 2) | (holds[2] & 4) | (holds[3] & 8);
#endif
}
MEDKERN_INLINE int mask_of(Quad<int64_t> holds) {
#if defined(__AVX__)
  return _mm256_movemask_pd(reinterpret_cast<__m256d>(holds));
#else
  return static_cast<int>((holds[0] & 1) | (holds[1] & 2) | (holds[2] & 4) | (holds[3] & 8));
#endif
}

}  // namespace medkern::MEDKERN_ISA
