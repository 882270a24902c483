// Sums over the threads of a block, in an order that depends on nothing.
#pragma once

#include "grid_stride.cuh"

namespace medkern::MEDKERN_ISA {

// Sums each of `values` over the block of kThreads threads; thread 0 has the result. The shared
// array is free again after the next barrier.
template <class T, int N>
MEDKERN_DEVICE_INLINE void block_sums(T (&values)[N]) {
  MEDKERN_SHARED(T[N], of_warp, kThreads / 32);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  for (T& value : values) {
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
    T sum{};
    for (int w = 0; w < kThreads / 32; ++w) sum += of_warp[w][i];
    values[i] = sum;
  }
}

}  // namespace medkern::MEDKERN_ISA
