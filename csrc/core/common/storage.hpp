// Single values in and out of memory: storage types, and the types that arithmetic runs in.
#pragma once

#ifndef MEDKERN_ISA
#error "define MEDKERN_ISA (baseline, avx2, avx512 or cuda): see csrc/isa and csrc/cuda"
#endif

#include <type_traits>

#include "half.hpp"
#include "inline.hpp"

namespace medkern::MEDKERN_ISA {

// What a storage type computes in.
template <class S>
struct ComputeOf {
  using type = S;
};
template <>
struct ComputeOf<Half> {
  using type = float;
};
template <>
struct ComputeOf<BFloat16> {
  using type = float;
};
template <class S>
using Compute = typename ComputeOf<S>::type;

template <class C, class S>
MEDKERN_INLINE C load_one(const S* p) {
  if constexpr (std::is_same_v<S, Half> || std::is_same_v<S, BFloat16>) {
    return to_float(*p);
  } else {
    return static_cast<C>(*p);
  }
}

template <class S, class C>
MEDKERN_INLINE void store_one(S* p, C value) {
  if constexpr (std::is_same_v<S, Half> || std::is_same_v<S, BFloat16>) {
    *p = from_float<S>(value);
  } else {
    *p = static_cast<S>(value);
  }
}

}  // namespace medkern::MEDKERN_ISA
