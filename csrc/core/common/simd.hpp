// Fixed-width vectors on the compiler's vector extensions.
//
// Every family compiles once per instruction set (csrc/isa), each time with another MEDKERN_ISA, so
// that all names below live in their own namespace and never merge across instruction sets.
// Arithmetic is float for float16, bfloat16 and float32 storage, double for float64.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "storage.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace medkern::MEDKERN_ISA {

#if defined(__AVX512BW__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <class T>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

template <class T, int Lanes>
struct VecOf {
  typedef T type __attribute__((vector_size(sizeof(T) * Lanes)));
};
template <class T, int Lanes = kLanes<T>>
using Vec = typename VecOf<T, Lanes>::type;

template <class V, class P>
MEDKERN_INLINE V load_raw(const P* p) {
  V v;
  std::memcpy(&v, p, sizeof(V));
  return v;
}

// kLanes<C> values of storage type S from an unaligned address, as compute type C.
template <class C, class S>
MEDKERN_INLINE Vec<C> load(const S* p) {
  constexpr int lanes = kLanes<C>;
  if constexpr (std::is_same_v<S, C>) {
    return load_raw<Vec<C>>(p);
  } else if constexpr (std::is_same_v<S, BFloat16>) {
    const auto wide = __builtin_convertvector((load_raw<Vec<uint16_t, lanes>>(p)), Vec<uint32_t>);
    return reinterpret_cast<Vec<float>>(wide << 16);
  } else if constexpr (std::is_same_v<S, Half>) {
#if defined(__F16C__) && defined(__AVX512F__)
    return reinterpret_cast<Vec<float>>(_mm512_maskz_cvtph_ps(0xffff, load_raw<__m256i>(p)));
#elif defined(__F16C__) && defined(__AVX2__)
    return reinterpret_cast<Vec<float>>(_mm256_cvtph_ps(load_raw<__m128i>(p)));
#else
    Vec<float> v;
    for (int i = 0; i < lanes; ++i) v[i] = to_float(p[i]);
    return v;
#endif
  } else {
    return __builtin_convertvector((load_raw<Vec<S, lanes>>(p)), Vec<C>);
  }
}

template <class S, class V>
MEDKERN_INLINE void store(S* p, V v) {
  using C = std::remove_cv_t<std::remove_reference_t<decltype(v[0])>>;
  constexpr int lanes = kLanes<C>;
  if constexpr (std::is_same_v<S, C>) {
    std::memcpy(p, &v, sizeof(V));
  } else if constexpr (std::is_same_v<S, BFloat16>) {
    const auto bits = reinterpret_cast<Vec<uint32_t>>(v);
    auto rounded = (bits + (((bits >> 16) & 1u) + 0x7fffu)) >> 16;  // nearest, ties to even
    rounded = (v == v) ? rounded : ((bits >> 16) | 0x40u);          // a NaN stays a quiet NaN
    const auto narrow = __builtin_convertvector(rounded, Vec<uint16_t, lanes>);
    std::memcpy(p, &narrow, sizeof(narrow));
  } else if constexpr (std::is_same_v<S, Half>) {
#if defined(__F16C__) && defined(__AVX512F__)
    const __m256i h =
        _mm512_maskz_cvtps_ph(0xffff, reinterpret_cast<__m512>(v), _MM_FROUND_TO_NEAREST_INT);
    std::memcpy(p, &h, sizeof(h));
#elif defined(__F16C__) && defined(__AVX2__)
    const __m128i h = _mm256_cvtps_ph(reinterpret_cast<__m256>(v), _MM_FROUND_TO_NEAREST_INT);
    std::memcpy(p, &h, sizeof(h));
#else
    for (int i = 0; i < lanes; ++i) p[i] = from_float<Half>(v[i]);
#endif
  } else {
    const auto narrow = __builtin_convertvector(v, Vec<S, lanes>);
    std::memcpy(p, &narrow, sizeof(narrow));
  }
}

// Bytes that `store` of S writes at a time.
template <class S, class V>
constexpr int kStoredBytes = kLanes<std::remove_cvref_t<decltype(V{}[0])>> * int{sizeof(S)};

// Like store, past the caches where the address allows; needs stream_fence() before others read.
template <class S, class V>
MEDKERN_INLINE void stream(S* p, V v) {
#if defined(__x86_64__)
  constexpr int bytes = kStoredBytes<S, V>;
  if (bytes >= 16 && reinterpret_cast<uintptr_t>(p) % bytes == 0) {
    alignas(64) unsigned char buffer[bytes];
    store(reinterpret_cast<S*>(buffer), v);  // stays in a register
    if constexpr (bytes == 64) {
#if defined(__AVX512F__)
      _mm512_stream_si512(reinterpret_cast<__m512i*>(p), load_raw<__m512i>(buffer));
#endif
    } else if constexpr (bytes == 32) {
#if defined(__AVX__)
      _mm256_stream_si256(reinterpret_cast<__m256i*>(p), load_raw<__m256i>(buffer));
#endif
    } else {
      _mm_stream_si128(reinterpret_cast<__m128i*>(p), load_raw<__m128i>(buffer));
    }
    return;
  }
#endif
  store(p, v);
}

MEDKERN_INLINE void stream_fence() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

template <int... I, class V>
MEDKERN_INLINE V shuffle(V a, V b, std::integer_sequence<int, I...>) {
#if defined(__clang__) || __GNUC__ >= 12
  return __builtin_shufflevector(a, b, I...);
#else
  typedef std::conditional_t<sizeof(a[0]) == 2, int16_t,
                             std::conditional_t<sizeof(a[0]) == 4, int32_t, int64_t>>
      Index;
  return __builtin_shuffle(a, b, Vec<Index>{I...});
#endif
}

template <class V>
constexpr int lanes_of = sizeof(V) / sizeof(std::declval<V>()[0]);

template <int... I>
constexpr auto even_lanes(std::integer_sequence<int, I...>) {
  return std::integer_sequence<int, 2 * I...>{};
}
template <int... I>
constexpr auto odd_lanes(std::integer_sequence<int, I...>) {
  return std::integer_sequence<int, 2 * I + 1 ...>{};
}
template <int First, int N, int... I>
constexpr auto zip_lanes(std::integer_sequence<int, I...>) {
  return std::integer_sequence<int, (First + I / 2 + (I % 2) * N)...>{};
}

template <class V, int... I>
MEDKERN_INLINE V reversed(V v, std::integer_sequence<int, I...>) {
  return shuffle(v, v, std::integer_sequence<int, (lanes_of<V> - 1 - I)...>{});
}
template <class V>
MEDKERN_INLINE V reversed(V v) {
  return reversed(v, std::make_integer_sequence<int, lanes_of<V>>{});
}

// (x0 x1 .. | x8 x9 ..) -> (x0 x2 ..), (x1 x3 ..)
template <class V>
MEDKERN_INLINE void deinterleave(V lo, V hi, V& even, V& odd) {
  using Index = std::make_integer_sequence<int, lanes_of<V>>;
  even = shuffle(lo, hi, even_lanes(Index{}));
  odd = shuffle(lo, hi, odd_lanes(Index{}));
}

template <class V>
MEDKERN_INLINE void interleave(V even, V odd, V& lo, V& hi) {
  constexpr int n = lanes_of<V>;
  using Index = std::make_integer_sequence<int, n>;
  lo = shuffle(even, odd, zip_lanes<0, n>(Index{}));
  hi = shuffle(even, odd, zip_lanes<n / 2, n>(Index{}));
}

}  // namespace medkern::MEDKERN_ISA
