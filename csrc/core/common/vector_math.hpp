// What philox.hpp and the formulas shared with devices need, on vectors of kLanes<C> numbers.
#pragma once

#include "root.hpp"
#include "simd.hpp"

namespace medkern::MEDKERN_ISA {

template <class C>
struct VectorMath {
  static constexpr int lanes = kLanes<C>;
  using Lane = C;
  using Real = Vec<C>;
  using Word = Vec<uint32_t, lanes>;
  using Single = Vec<float, lanes>;

  static MEDKERN_INLINE void multiply(Word a, uint32_t b, Word& high, Word& low) {
    constexpr int half = lanes / 2;
    using Wide = Vec<uint64_t, half>;
    const Wide pairs = reinterpret_cast<Wide>(a);
    const Wide even = low_products(pairs, b), odd = low_products(pairs >> 32, b);
    constexpr uint64_t upper = 0xFFFFFFFF00000000u;
    low = reinterpret_cast<Word>((even & ~upper) | (odd << 32));
    high = reinterpret_cast<Word>((even >> 32) | (odd & upper));
  }
  static MEDKERN_INLINE Single single(Word w) {  // below 2^31, which converts in one instruction
    return __builtin_convertvector(reinterpret_cast<Vec<int32_t, lanes>>(w), Single);
  }
  static MEDKERN_INLINE Word bits(Single v) { return reinterpret_cast<Word>(v); }
  static MEDKERN_INLINE Single from_bits(Word w) { return reinterpret_cast<Single>(w); }
  static MEDKERN_INLINE Real widen(Single v) { return __builtin_convertvector(v, Real); }
  static MEDKERN_INLINE Real whole(Word w) {
    return __builtin_convertvector(reinterpret_cast<Vec<int32_t, lanes>>(w), Real);
  }
  static MEDKERN_INLINE Real root(Real v) { return MEDKERN_ISA::root(v); }
  static MEDKERN_INLINE Real where_odd(Word w, Real odd, Real even) {
    using Mask = Vec<std::conditional_t<sizeof(C) == 4, int32_t, int64_t>, lanes>;
    const auto bit = reinterpret_cast<Vec<int32_t, lanes>>(w & 1u);
    return __builtin_convertvector(bit, Mask) != 0 ? odd : even;
  }
  template <class F>
  static MEDKERN_INLINE Real each(Real v, const F& f) {
    Real out = v;
    for (int i = 0; i < lanes; ++i) out[i] = f(v[i]);
    return out;
  }

 private:
  // The lower halves of the lanes times b.
  template <class Wide>
  static MEDKERN_INLINE Wide low_products(Wide a, uint32_t b) {
#if defined(__x86_64__)
    const Wide factor = Wide{} + b;
    if constexpr (sizeof(Wide) == 16) return Wide(_mm_mul_epu32(__m128i(a), __m128i(factor)));
#if defined(__AVX2__)
    if constexpr (sizeof(Wide) == 32) return Wide(_mm256_mul_epu32(__m256i(a), __m256i(factor)));
#endif
#if defined(__AVX512F__)  // the unmasked form makes GCC 12 warn in its own header
    if constexpr (sizeof(Wide) == 64) {
      return Wide(_mm512_maskz_mul_epu32(0xff, __m512i(a), __m512i(factor)));
    }
#endif
#endif
    return (a & 0xFFFFFFFFu) * uint64_t{b};
  }
};

}  // namespace medkern::MEDKERN_ISA
