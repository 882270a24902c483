// Tensor cores: D[16, 8] = A[16, 16] B[16, 8] + C[16, 8] by one full warp, in float16 or bfloat16
// with float32 accumulation (mma.sync m16n8k16, sm_80 and later).
//
// A warp holds the matrices in pieces. Of A and B, lane l holds pairs of neighbours along k; of C
// and D, value i is at row mma_row(i), column mma_column(i). All 32 lanes must call together.
#pragma once

#include "core/common/half.hpp"
#include "portable.cuh"

#if defined(MEDKERN_EMULATED)
#include "emulation/mma.hpp"
#endif

namespace medkern::MEDKERN_ISA {

struct MmaA {
  uint32_t pair[4];  // two 16-bit values each, the lower one at the even k
};
struct MmaB {
  uint32_t pair[2];
};
struct MmaC {
  float value[4];
};

MEDKERN_DEVICE_INLINE int mma_lane() {
  const unsigned rank = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  return static_cast<int>(rank % 32u);
}

MEDKERN_DEVICE_INLINE int mma_row(int i) { return mma_lane() / 4 + i / 2 * 8; }
MEDKERN_DEVICE_INLINE int mma_column(int i) { return mma_lane() % 4 * 2 + i % 2; }

template <class S>
MEDKERN_DEVICE_INLINE uint32_t load_pair(const S* source) {
  static_assert(sizeof(S) == 2, "float16 or bfloat16");
  const DeviceVector<S, 2> pair = load_vector<S, 2>(source);
  return pair[0].bits | static_cast<uint32_t>(pair[1].bits) << 16;
}

// A from rows of k, `stride` values apart; the start and the stride must be even.
template <class S>
MEDKERN_DEVICE_INLINE MmaA load_mma_a(const S* rows, int64_t stride) {
  const int group = mma_lane() / 4, k = mma_lane() % 4 * 2;
  const S* const upper = rows + group * stride + k;
  const S* const lower = upper + 8 * stride;
  return {{load_pair(upper), load_pair(lower), load_pair(upper + 8), load_pair(lower + 8)}};
}

// B from its columns, each a row of k in memory, `stride` values apart; both must be even.
template <class S>
MEDKERN_DEVICE_INLINE MmaB load_mma_b(const S* columns, int64_t stride) {
  const S* const column = columns + mma_lane() / 4 * stride + mma_lane() % 4 * 2;
  return {{load_pair(column), load_pair(column + 8)}};
}

#if defined(MEDKERN_EMULATED)

template <class S>
float half_of_pair(uint32_t pair, int which) {
  return to_float(S{static_cast<uint16_t>(pair >> (16 * which))});
}

template <class S>
MmaC mma_16x8x16(const MmaA& a, const MmaB& b, const MmaC& c,
                 emulation::Site site = emulation::Site::current()) {
  emulation::MmaInput input;
  for (int i = 0; i < 8; ++i) input.a[i] = half_of_pair<S>(a.pair[i / 2], i % 2);
  for (int i = 0; i < 4; ++i) {
    input.b[i] = half_of_pair<S>(b.pair[i / 2], i % 2);
    input.c[i] = c.value[i];
  }
  MmaC d;
  emulation::mma(input, d.value, site);
  return d;
}

#else

#define MEDKERN_MMA(type)                                                                        \
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type                            \
               ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"            \
               : "+f"(d.value[0]), "+f"(d.value[1]), "+f"(d.value[2]), "+f"(d.value[3])          \
               : "r"(a.pair[0]), "r"(a.pair[1]), "r"(a.pair[2]), "r"(a.pair[3]), "r"(b.pair[0]), \
                 "r"(b.pair[1]))

template <class S>
__device__ __forceinline__ MmaC mma_16x8x16(const MmaA& a, const MmaB& b, const MmaC& c) {
  MmaC d = c;
  if constexpr (std::is_same_v<S, BFloat16>) {
    MEDKERN_MMA("bf16");
  } else {
    static_assert(std::is_same_v<S, Half>, "float16 or bfloat16");
    MEDKERN_MMA("f16");
  }
  return d;
}
#undef MEDKERN_MMA

#endif

}  // namespace medkern::MEDKERN_ISA
