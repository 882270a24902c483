// The choice of a kernel by the floating type of tensors.
#pragma once

#include "core/common/float_type.hpp"
#include "core/common/storage.hpp"
#include "portable.cuh"

namespace medkern::MEDKERN_ISA {

// Calls run(S{}) for the storage type S.
template <class Run>
LaunchError for_float_type(FloatType type, Run run) {
  switch (type) {
    case FloatType::float16:
      return run(Half{});
    case FloatType::bfloat16:
      return run(BFloat16{});
    case FloatType::float32:
      return run(float{});
    default:
      return run(double{});
  }
}

}  // namespace medkern::MEDKERN_ISA
