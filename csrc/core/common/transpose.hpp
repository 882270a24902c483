// Squares of vectors, turned.
#pragma once

#include "simd.hpp"

namespace medkern::MEDKERN_ISA {

// Rows become columns: each round, one per bit of an index, interleaves the halves.
template <class C>
MEDKERN_INLINE void transpose(Vec<C> (&rows)[kLanes<C>]) {
  constexpr int lanes = kLanes<C>;
#pragma GCC unroll 4
  for (int round = 1; round < lanes; round *= 2) {
    Vec<C> next[lanes];
#pragma GCC unroll 8
    for (int i = 0; i < lanes / 2; ++i) {
      interleave(rows[i], rows[i + lanes / 2], next[2 * i], next[2 * i + 1]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i) rows[i] = next[i];
  }
}

}  // namespace medkern::MEDKERN_ISA
