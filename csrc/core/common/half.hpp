// float16 and bfloat16 as storage: exact widening, round-to-nearest-even narrowing, quiet NaNs
// kept.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "inline.hpp"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace medkern::MEDKERN_ISA {

struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

MEDKERN_INLINE float float_from_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

MEDKERN_INLINE uint32_t bits_from_float(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

MEDKERN_INLINE float to_float(BFloat16 b) {
  return float_from_bits(static_cast<uint32_t>(b.bits) << 16);
}

MEDKERN_INLINE float to_float(Half h) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(h.bits));
#else
  const uint32_t sign = static_cast<uint32_t>(h.bits & 0x8000u) << 16;
  const uint32_t exponent = (h.bits >> 10) & 31u;
  const uint32_t mantissa = h.bits & 0x3ffu;
  if (exponent == 0) {  // zero and subnormals: mantissa units of 2^-24, exact in float
    const float magnitude = static_cast<float>(mantissa) * 5.9604644775390625e-8f;
    return float_from_bits(sign | bits_from_float(magnitude));
  }
  if (exponent == 31) return float_from_bits(sign | 0x7f800000u | (mantissa << 13));
  return float_from_bits(sign | ((exponent + 112u) << 23) | (mantissa << 13));
#endif
}

template <class S>
MEDKERN_INLINE S from_float(float value) {
#if defined(__CUDA_ARCH__)
  if constexpr (std::is_same_v<S, BFloat16>) {
    return {__bfloat16_as_ushort(__float2bfloat16_rn(value))};
  } else {
    return {__half_as_ushort(__float2half_rn(value))};
  }
#else
  const uint32_t bits = bits_from_float(value);
  if constexpr (std::is_same_v<S, BFloat16>) {
    if (value != value) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};
    return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
  } else {
    const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
    const uint32_t magnitude = bits & 0x7fffffffu;
    uint32_t half;
    if (magnitude > 0x7f800000u) {
      half = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
    } else if (magnitude >= 0x477ff000u) {  // 65520 and above round to infinity
      half = 0x7c00u;
    } else if (magnitude < 0x38800000u) {  // below 2^-14: adding 0.5 rounds at 2^-24
      half = bits_from_float(float_from_bits(magnitude) + 0.5f) - 0x3f000000u;
    } else {
      half = ((magnitude + 0xfffu + ((magnitude >> 13) & 1u)) >> 13) - (112u << 10);
    }
    return {static_cast<uint16_t>(sign | half)};
  }
#endif
}

}  // namespace medkern::MEDKERN_ISA

namespace medkern {
using namespace MEDKERN_ISA;
}  // namespace medkern
