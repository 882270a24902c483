// Runs a C++ test with every instruction set of this machine; the storage types that its data have.
#pragma once

#include <cstdio>
#include <sstream>
#include <string>
#include <type_traits>

// Half and BFloat16 must be some variant's; the baseline's are as good as any.
#ifndef MEDKERN_ISA
#define MEDKERN_ISA baseline
#endif
#include "core/common/float_type.hpp"
#include "core/common/storage.hpp"
#include "isa/isa.hpp"

namespace medkern::test {

using medkern::MEDKERN_ISA::BFloat16;
using medkern::MEDKERN_ISA::Compute;
using medkern::MEDKERN_ISA::Half;

template <class S>
constexpr FloatType kFloatType = std::is_same_v<S, Half>       ? FloatType::float16
                                 : std::is_same_v<S, BFloat16> ? FloatType::bfloat16
                                 : std::is_same_v<S, float>    ? FloatType::float32
                                                               : FloatType::float64;

template <class Test>
int on_every_isa(const Test& test) {
  std::istringstream isas(medkern_isas());
  for (std::string isa; isas >> isa;) {
    if (medkern_set_isa(isa.c_str()) != 0) return 1;
    test();
    std::printf("%s passed\n", isa.c_str());
  }
  return 0;
}

}  // namespace medkern::test
