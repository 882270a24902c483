// Neighbouring values along x at the positions of a vector of voxels.
#pragma once

#include "common/simd.hpp"

namespace medkern::MEDKERN_ISA {

#if defined(__x86_64__)
// Side by side, in registers: through memory the load would wait for the stores.
template <int N>
MEDKERN_INLINE Vec<float, 4 * N> joined(const Vec<float, 4> (&parts)[N]) {
#if defined(__AVX512BW__)
  if constexpr (N == 4) {
    const auto half = [&](int i) {
      return _mm256_insertf128_ps(_mm256_castps128_ps256(parts[i]), parts[i + 1], 1);
    };
    return _mm512_insertf32x8(_mm512_castps256_ps512(half(0)), half(2), 1);
  }
#elif defined(__AVX2__)
  if constexpr (N == 2) {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(parts[0]), parts[1], 1);
  }
#else
  return parts[0];
#endif
}
#endif

// image[z + y + x] and the value after it, for kLanes offsets.
template <class C>
MEDKERN_INLINE void load_pairs(const C* image, const int64_t* z, const int64_t* y, const int64_t* x,
                               Vec<C>& first, Vec<C>& second) {
  constexpr int lanes = kLanes<C>;
  alignas(64) int64_t at[lanes];
  for (int i = 0; i < lanes; i += kLanes<int64_t>) {
    store(at + i, load<int64_t>(z + i) + load<int64_t>(y + i) + load<int64_t>(x + i));
  }
#if defined(__x86_64__)
  if constexpr (sizeof(C) == 4) {
    using Four = Vec<float, 4>;
    Four low[lanes / 4], high[lanes / 4];
    for (int i = 0; i < lanes / 4; ++i) {
      const auto pair = [&](int k) {
        return reinterpret_cast<const __m64*>(image + at[4 * i + k]);
      };
      const __m128 none = _mm_setzero_ps();
      const __m128 a = _mm_loadh_pi(_mm_loadl_pi(none, pair(0)), pair(1));
      const __m128 b = _mm_loadh_pi(_mm_loadl_pi(none, pair(2)), pair(3));
      low[i] = _mm_shuffle_ps(a, b, _MM_SHUFFLE(2, 0, 2, 0));
      high[i] = _mm_shuffle_ps(a, b, _MM_SHUFFLE(3, 1, 3, 1));
    }
    first = joined(low);
    second = joined(high);
    return;
  }
#endif
  alignas(64) C low[lanes], high[lanes];
  for (int i = 0; i < lanes; ++i) {
    const C* from = image + at[i];
    low[i] = from[0];
    high[i] = from[1];
  }
  std::memcpy(&first, low, sizeof(first));
  std::memcpy(&second, high, sizeof(second));
}

}  // namespace medkern::MEDKERN_ISA
