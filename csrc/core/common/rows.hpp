// Rows of values at any stride, in and out of memory.
#pragma once

#include "simd.hpp"

namespace medkern::MEDKERN_ISA {

// `count` values `stride` apart, widened to C; zeros up to the end of the last vector.
template <class C, class S>
void read_row(const S* from, int64_t stride, int64_t count, C* to) {
  int64_t i = 0;
  if constexpr (std::is_same_v<Compute<S>, C>) {
    if (stride == 1) {
      for (; i + kLanes<C> <= count; i += kLanes<C>) store(to + i, load<C>(from + i));
    }
  }
  for (; i < count; ++i) to[i] = load_one<C>(from + i * stride);
  for (; i % kLanes<C> != 0; ++i) to[i] = C{};
}

template <class C, class S>
void write_row(const C* from, bool streams, int64_t stride, int64_t count, S* to) {
  int64_t i = 0;
  if (stride == 1) {
    for (; i + kLanes<C> <= count; i += kLanes<C>) {
      streams ? stream(to + i, load<C>(from + i)) : store(to + i, load<C>(from + i));
    }
  }
  for (; i < count; ++i) store_one(to + i * stride, from[i]);
}

}  // namespace medkern::MEDKERN_ISA
