// The floating types of tensors, for kernels that take several at once.
#pragma once

#include <cstdint>

#include "inline.hpp"

namespace medkern {

enum class FloatType { float16, bfloat16, float32, float64 };

MEDKERN_INLINE int64_t bytes_of(FloatType type) {
  return type == FloatType::float64 ? 8 : type == FloatType::float32 ? 4 : 2;
}

}  // namespace medkern
