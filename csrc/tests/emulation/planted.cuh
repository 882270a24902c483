// Kernels with one mistake each, of the kinds that a GPU lets pass now and then.
#pragma once

#include "cuda/portable.cuh"

namespace medkern {

constexpr unsigned kEveryLane = 0xffffffffu;
constexpr int kBlock = 64;  // threads, in every kernel here

// y[i] = x[i + 1], around the block, through shared memory; or with one mistake.
enum class Mistake {
  none,
  no_barrier_before_read,
  no_barrier_before_overwrite,
  exit_before_barrier
};

template <Mistake mistake>
MEDKERN_GLOBAL void rotate_kernel(const float* x, int, float* y) {
  MEDKERN_SHARED(float, cell, kBlock);
  const int thread = static_cast<int>(threadIdx.x);
  const int i = static_cast<int>(blockIdx.x) * kBlock + thread;
  cell[thread] = x[i];
  if (mistake == Mistake::exit_before_barrier && thread == 5) return;
  if (mistake != Mistake::no_barrier_before_read) __syncthreads();
  const float next = cell[(thread + 1) % kBlock];
  if (mistake != Mistake::no_barrier_before_overwrite) __syncthreads();
  cell[thread] = next;
  __syncthreads();
  y[i] = cell[thread];
}

MEDKERN_GLOBAL void divergent_barrier_kernel(const float*, int, float*) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

MEDKERN_GLOBAL void missing_lanes_kernel(const float* x, int, float* y) {
  if (threadIdx.x < 16) y[threadIdx.x] = __shfl_sync(kEveryLane, x[threadIdx.x], 0);
  __syncthreads();
}

// The upper lanes do not wait for the lower ones, which wait for them.
MEDKERN_GLOBAL void mask_of_others_kernel(const float* x, int, float* y) {
  const unsigned mask = threadIdx.x % 32 < 16 ? kEveryLane : 0xffff0000u;
  y[threadIdx.x] = __shfl_sync(mask, x[threadIdx.x], 16);
}

MEDKERN_GLOBAL void masks_disagree_kernel(const float* x, int, float* y) {
  const unsigned mask = threadIdx.x % 32 < 16 ? kEveryLane : 0xffff8000u;
  y[threadIdx.x] = __shfl_sync(mask, x[threadIdx.x], 16);
}

MEDKERN_GLOBAL void lane_outside_mask_kernel(const float* x, int, float* y) {
  y[threadIdx.x] = __shfl_sync(0x0000ffffu, x[threadIdx.x], 0);
}

MEDKERN_GLOBAL void exited_lanes_kernel(const float* x, int, float* y) {
  if (threadIdx.x % 32 == 31) return;
  __syncthreads();
  y[threadIdx.x] = __shfl_sync(kEveryLane, x[threadIdx.x], 0);
}

MEDKERN_GLOBAL void two_places_kernel(const float* x, int, float* y) {
  float value;
  if (threadIdx.x % 2 == 0) {
    value = __shfl_sync(kEveryLane, x[threadIdx.x], 0);
  } else {
    value = __shfl_sync(kEveryLane, x[threadIdx.x], 1);
  }
  y[threadIdx.x] = value;
}

MEDKERN_GLOBAL void tail_read_kernel(const float* x, int n, float* y) {
  const int i = static_cast<int>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  const float value = x[i + 1];  // wanted: i + 1 < n ? x[i + 1] : 0
  if (i < n) y[i] = value;
}

MEDKERN_GLOBAL void tail_write_kernel(const float*, int n, float* y) {
  const int i = static_cast<int>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  if (i <= n) y[i] = 0;
}

MEDKERN_GLOBAL void static_shared_overrun_kernel(const float* x, int, float* y) {
  MEDKERN_SHARED(float, cell, kBlock);
  cell[threadIdx.x + 1] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = cell[threadIdx.x];
}

MEDKERN_GLOBAL void dynamic_shared_overrun_kernel(const float* x, int, float* y) {
  MEDKERN_DYNAMIC_SHARED(float, cell);
  cell[threadIdx.x + 1] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = cell[threadIdx.x];
}

// Relies on the lanes of a warp running in step.
MEDKERN_GLOBAL void warp_synchronous_kernel(const float* x, int, float* y) {
  MEDKERN_SHARED(float, cell, kBlock);
  volatile float* const seen = cell;
  const int thread = static_cast<int>(threadIdx.x);
  seen[thread] = x[thread];
  __syncthreads();
  if (thread < 32) {
    const float sum = seen[thread] + seen[thread + 32];
    seen[thread] = sum;
    y[thread] = sum + seen[thread ^ 1];
  }
}

MEDKERN_GLOBAL void race_between_blocks_kernel(const float*, int, float* y) {
  if (threadIdx.x == 0) y[0] += 1;
}

// The barrier must not hide the race: it is one of threads in different blocks.
MEDKERN_GLOBAL void race_before_barrier_kernel(const float*, int, float* y) {
  if (threadIdx.x == 0) y[0] += 1;
  __syncthreads();
  if (threadIdx.x > 0) y[blockIdx.x * kBlock + threadIdx.x] = 0;
}

MEDKERN_GLOBAL void race_within_block_kernel(const float*, int, float* y) { y[blockIdx.x] += 1; }

MEDKERN_GLOBAL void plain_read_of_atomic_kernel(const float*, int, float* y) {
  atomicAdd(&y[blockIdx.x], 1.0f);
  if (threadIdx.x == 0) y[8 + blockIdx.x] = y[blockIdx.x];
}

// The last block reads what the others wrote, with atomics but no fences.
MEDKERN_GLOBAL void missing_fence_kernel(const float* x, int, float* y) {
  if (threadIdx.x > 0) return;
  y[1 + blockIdx.x] = x[blockIdx.x];
  if (atomicAdd(&y[0], 1.0f) < static_cast<float>(gridDim.x - 1)) return;
  float sum = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) sum += y[1 + i];
  y[0] = sum;
}

MEDKERN_GLOBAL void unset_shared_kernel(const float*, int, float* y) {
  MEDKERN_SHARED(float, cell, kBlock);
  if (threadIdx.x > 0) cell[threadIdx.x] = 1;
  __syncthreads();
  y[threadIdx.x] = cell[threadIdx.x];
}

// Shared memory starts afresh in each block, whatever the one before left there.
MEDKERN_GLOBAL void left_by_other_block_kernel(const float*, int, float* y) {
  MEDKERN_DYNAMIC_SHARED(float, cell);
  if (blockIdx.x == 1) cell[threadIdx.x] = 1;
  __syncthreads();
  y[blockIdx.x * kBlock + threadIdx.x] = cell[threadIdx.x];
}

MEDKERN_GLOBAL void missing_wait_kernel(const float* x, int, float* y) {
  MEDKERN_SHARED(float, cell, kBlock);
  copy_async<4>(cell + threadIdx.x, x + threadIdx.x);
  copy_async_commit();
  y[threadIdx.x] = cell[threadIdx.x];
}

// Waits for its own copies, then reads its neighbour's.
MEDKERN_GLOBAL void wait_without_barrier_kernel(const float* x, int, float* y) {
  MEDKERN_SHARED(float, cell, kBlock);
  copy_async<4>(cell + threadIdx.x, x + threadIdx.x);
  copy_async_commit();
  copy_async_wait<0>();
  y[threadIdx.x] = cell[threadIdx.x ^ 1];
}

MEDKERN_GLOBAL void misaligned_vector_kernel(const float* x, int, float* y) {
  if (threadIdx.x == 0) store_vector(y, load_vector<float, 4>(x + 1));
}

MEDKERN_GLOBAL void much_shared_kernel(const float*, int, float* y) {
  MEDKERN_DYNAMIC_SHARED(float, cell);
  MEDKERN_SHARED(float, more, 10 * 1024);
  more[threadIdx.x] = cell[threadIdx.x] = 0;
  y[threadIdx.x] = more[threadIdx.x];
}

}  // namespace medkern
