// Neighbouring values along x at the positions of a vector of voxels.
#pragma once

#include "common/simd.hpp"

namespace medkern::MEDKERN_ISA {

// image[z + y + x] and the value after it, for kLanes offsets.
template <class C>
MEDKERN_INLINE void load_pairs(const C* image, const int64_t* z, const int64_t* y, const int64_t* x,
                               Vec<C>& first, Vec<C>& second) {
  constexpr int lanes = kLanes<C>;
#if defined(__AVX512BW__)
  if constexpr (sizeof(C) == 4) {
    const auto pairs = [&](int from) {
      const Vec<int64_t> at =
          load<int64_t>(z + from) + load<int64_t>(y + from) + load<int64_t>(x + from);
      return reinterpret_cast<Vec<float>>(_mm512_mask_i64gather_pd(
          _mm512_setzero_pd(), 0xff, reinterpret_cast<__m512i>(at), image, 4));
    };
    deinterleave(pairs(0), pairs(8), first, second);
    return;
  }
#elif defined(__x86_64__)
  if constexpr (sizeof(C) == 4) {
    alignas(32) C low[lanes], high[lanes];
    for (int i = 0; i < lanes; i += 4) {
      const auto pair = [&](int k) {
        return reinterpret_cast<const __m64*>(image + z[i + k] + y[i + k] + x[i + k]);
      };
      const __m128 none = _mm_setzero_ps();
      const __m128 a = _mm_loadh_pi(_mm_loadl_pi(none, pair(0)), pair(1));
      const __m128 b = _mm_loadh_pi(_mm_loadl_pi(none, pair(2)), pair(3));
      _mm_store_ps(low + i, _mm_shuffle_ps(a, b, _MM_SHUFFLE(2, 0, 2, 0)));
      _mm_store_ps(high + i, _mm_shuffle_ps(a, b, _MM_SHUFFLE(3, 1, 3, 1)));
    }
    std::memcpy(&first, low, sizeof(first));
    std::memcpy(&second, high, sizeof(second));
    return;
  }
#endif
  alignas(64) C low[lanes], high[lanes];
  for (int i = 0; i < lanes; ++i) {
    const C* from = image + z[i] + y[i] + x[i];
    low[i] = from[0];
    high[i] = from[1];
  }
  std::memcpy(&first, low, sizeof(first));
  std::memcpy(&second, high, sizeof(second));
}

}  // namespace medkern::MEDKERN_ISA
