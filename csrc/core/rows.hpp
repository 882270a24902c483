// Rows of images in and out of float64.
#pragma once

#include "common/simd.hpp"

namespace medkern::MEDKERN_ISA {

// to[i] = from[i] - shift
template <class S>
MEDKERN_INLINE void widen_row(const S* from, int64_t count, double shift, double* to) {
  constexpr int lanes = kLanes<double>;
  int64_t i = 0;
  if constexpr (std::is_same_v<S, float> || std::is_same_v<S, double>) {
    for (; i + lanes <= count; i += lanes) store(to + i, load<double>(from + i) - shift);
  } else {
    for (; i + kLanes<float> <= count; i += kLanes<float>) {
      float wide[kLanes<float>];
      store(wide, load<float>(from + i));
      for (int k = 0; k < kLanes<float>; k += lanes) {
        store(to + i + k, load<double>(wide + k) - shift);
      }
    }
  }
  for (; i < count; ++i) to[i] = static_cast<double>(load_one<Compute<S>>(from + i)) - shift;
}

template <class S>
MEDKERN_INLINE void narrow_row(const double* from, int64_t count, S* to) {
  constexpr int lanes = kLanes<double>;
  int64_t i = 0;
  if constexpr (std::is_same_v<S, float> || std::is_same_v<S, double>) {
    for (; i + lanes <= count; i += lanes) store(to + i, load<double>(from + i));
  }
  for (; i < count; ++i) store_one(to + i, static_cast<Compute<S>>(from[i]));
}

}  // namespace medkern::MEDKERN_ISA
