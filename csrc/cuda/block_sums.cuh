// Sums over the threads of a block, in a fixed order.
#pragma once

#include "grid_stride.cuh"

namespace medkern::MEDKERN_ISA {

// Sums each of `values` over the kThreads threads of the block; thread 0 has the result. The shared
// array is free again after the next barrier.
template <int N>
MEDKERN_DEVICE_INLINE void block_sums(double (&values)[N]) {
  MEDKERN_SHARED(double[N], of_warp, kThreads / 32);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  for (double& value : values) {
    for (int offset = 16; offset > 0; offset /= 2) {
      value += __shfl_down_sync(0xffffffffu, value, offset);
    }
  }
  if (lane == 0) {
    for (int i = 0; i < N; ++i) of_warp[warp][i] = values[i];
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int i = 0; i < N; ++i) {
    double sum = 0;
    for (int w = 0; w < kThreads / 32; ++w) sum += of_warp[w][i];
    values[i] = sum;
  }
}

}  // namespace medkern::MEDKERN_ISA
