// Sums whose bits do not depend on the length of vectors.
#pragma once

#include "simd.hpp"

namespace medkern::MEDKERN_ISA {

constexpr int kMostLanes = 16;  // 64 bytes of float32

// 64 bytes of partial sums: value i of a row goes to lane i modulo `width`.
template <class C>
struct LaneSums {
  static constexpr int width = 64 / static_cast<int>(sizeof(C)), parts = 64 / kVectorBytes;

  Vec<C> part[parts] = {};

  MEDKERN_INLINE void add_to(double* totals) const {
    C lane[width];
    for (int i = 0; i < parts; ++i) store(lane + i * kLanes<C>, part[i]);
    for (int i = 0; i < width; ++i) totals[i] += lane[i];
  }
};

// The sum of `width` lanes, halving.
template <class C>
double sum_of_lanes(double* lane) {
  for (int half = LaneSums<C>::width / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
  }
  return lane[0];
}

}  // namespace medkern::MEDKERN_ISA
