// The tensor core's m16n8k16 product on float copies of the lanes' fragments.
#pragma once

#include "warp.hpp"

namespace medkern::emulation {

// What one lane hands in. With group = lane / 4 and pair = 2 * (lane % 4):
//   a[i] = A[group + 8 * bit1(i), pair + bit0(i) + 8 * bit2(i)]
//   b[i] = B[pair + bit0(i) + 8 * bit1(i), group]
//   c[i] = C[group + 8 * bit1(i), pair + bit0(i)]
struct MmaInput {
  float a[8], b[4], c[4];
};

MEDKERN_EMULATION_RUNTIME inline void combine_mma(const WarpOperation& operation) {
  const auto lane_of = [&](unsigned group, unsigned k) {
    return static_cast<const MmaInput*>(operation.input[4 * group + k % 8 / 2]);
  };
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    const auto* own = static_cast<const MmaInput*>(operation.input[lane]);
    auto* output = static_cast<float*>(operation.output[lane]);
    for (unsigned i = 0; i < 4; ++i) {
      double sum = static_cast<double>(own->c[i]);
      for (unsigned k = 0; k < 16; ++k) {
        const float a = lane_of(lane / 4, k)->a[k % 2 + i / 2 * 2 + k / 8 * 4];
        const float b = lane_of(lane % 4 * 2 + i % 2, k)->b[k % 2 + k / 8 * 2];
        sum += static_cast<double>(a) * static_cast<double>(b);
      }
      output[i] = static_cast<float>(sum);
    }
  }
}

inline void mma(const MmaInput& input, float (&output)[4], Site site) {
  meet("mma_16x8x16", 0xffffffffu, &input, output, combine_mma, site);
}

}  // namespace medkern::emulation
