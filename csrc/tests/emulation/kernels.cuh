// Correct kernels of many kinds: the emulation must run them right, in each order of threads, and
// no sanitizer may complain. smoke.cu compiles the same source with nvcc.
#pragma once

#include "cuda/mma.cuh"
#include "cuda/portable.cuh"

namespace medkern::MEDKERN_ISA {

constexpr unsigned kAllLanes = 0xffffffffu;

MEDKERN_DEVICE_INLINE int linear_thread() {
  return static_cast<int>(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z));
}

template <class T>
MEDKERN_DEVICE_INLINE T warp_sum(T value) {
  for (int offset = 16; offset > 0; offset /= 2) {
    value += __shfl_down_sync(kAllLanes, value, offset);
  }
  return value;
}

// *out += sum of x[0, n). Blocks are multiples of a warp.
template <class T>
MEDKERN_GLOBAL void sum_kernel(const T* __restrict__ x, int64_t n, double* out) {
  MEDKERN_SHARED(double, partial, 32);
  double sum = 0;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) {
    sum += static_cast<double>(__ldg(x + i));
  }
  sum = warp_sum(sum);
  const int lane = threadIdx.x % warpSize, warp = threadIdx.x / warpSize;
  if (lane == 0) partial[warp] = sum;
  __syncthreads();
  if (warp == 0) {
    sum = lane < static_cast<int>(blockDim.x / warpSize) ? partial[lane] : 0.0;
    sum = warp_sum(sum);
    if (lane == 0) atomicAdd(out, sum);
  }
}

// The last block to finish adds up what the others left: no second launch.
MEDKERN_GLOBAL void last_block_kernel(const float* x, float* partial, unsigned* finished,
                                      float* out) {
  MEDKERN_SHARED(int, is_last, 1);
  const float sum = warp_sum(x[blockIdx.x * 32 + threadIdx.x]);
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = sum;
    __threadfence();
    is_last[0] = atomicInc(finished, gridDim.x - 1) == gridDim.x - 1;
  }
  __syncthreads();
  if (is_last[0] == 0) return;
  __threadfence();
  float total = 0;
  for (unsigned i = threadIdx.x; i < gridDim.x; i += 32) total += partial[i];
  total = warp_sum(total);
  if (threadIdx.x == 0) *out = total;
}

// y[c, r] = x[r, c] through tiles of 32 x 32, blocks of 32 x 8.
template <class T>
MEDKERN_GLOBAL void transpose_kernel(const T* x, int rows, int columns, T* y) {
  MEDKERN_SHARED(T[33], tile, 32);
  const int left = static_cast<int>(blockIdx.x) * 32, top = static_cast<int>(blockIdx.y) * 32;
  const int lane = static_cast<int>(threadIdx.x);
  for (int r = static_cast<int>(threadIdx.y); r < 32; r += 8) {
    if (top + r < rows && left + lane < columns) {
      tile[r][lane] = x[static_cast<int64_t>(top + r) * columns + left + lane];
    }
  }
  __syncthreads();
  for (int c = static_cast<int>(threadIdx.y); c < 32; c += 8) {
    if (left + c < columns && top + lane < rows) {
      y[static_cast<int64_t>(left + c) * rows + top + lane] = tile[lane][c];
    }
  }
}

// Inclusive sums within groups of `Width` lanes.
template <int Width>
MEDKERN_GLOBAL void scan_kernel(const int* x, int* y) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  int sum = x[i];
  for (int offset = 1; offset < Width; offset *= 2) {
    const int before = __shfl_up_sync(kAllLanes, sum, offset, Width);
    if (static_cast<int>(threadIdx.x) % Width >= offset) sum += before;
  }
  y[i] = sum;
}

// counts[v] += how often v occurs in x[0, n); dynamic shared memory: `bins` counters.
MEDKERN_GLOBAL void histogram_kernel(const uint8_t* x, int n, int bins, unsigned* counts) {
  MEDKERN_DYNAMIC_SHARED(unsigned, local);
  const int first = linear_thread(), threads = static_cast<int>(blockDim.x * blockDim.y);
  for (int bin = first; bin < bins; bin += threads) local[bin] = 0;
  __syncthreads();
  const int step = threads * static_cast<int>(gridDim.x);
  for (int i = threads * static_cast<int>(blockIdx.x) + first; i < n; i += step) {
    atomicAdd(&local[x[i]], 1u);
  }
  __syncthreads();
  for (int bin = first; bin < bins; bin += threads) {
    if (local[bin] > 0) atomicAdd(&counts[bin], local[bin]);
  }
}

struct Splat {
  float x, y, precision, opacity;
};

// Front-to-back blending of round splats, one block per Tile x Tile pixels: batches of splats in
// shared memory, and the block stops where all its pixels are opaque.
template <int Tile>
MEDKERN_GLOBAL void MEDKERN_LAUNCH_BOUNDS(Tile* Tile)
    raster_kernel(const Splat* splats, int count, int width, int height, float* image) {
  MEDKERN_SHARED(Splat, batch, Tile * Tile);
  constexpr int kBatch = Tile * Tile;
  const int thread = linear_thread();
  const int px = static_cast<int>(blockIdx.x) * Tile + static_cast<int>(threadIdx.x);
  const int py = static_cast<int>(blockIdx.y) * Tile + static_cast<int>(threadIdx.y);
  const bool inside = px < width && py < height;
  float through = 1, color = 0;
  for (int first = 0; first < count; first += kBatch) {
    if (__syncthreads_count(!inside || through < 1e-3f) == kBatch) break;
    if (first + thread < count) batch[thread] = splats[first + thread];
    __syncthreads();
    for (int j = 0; inside && j < min(kBatch, count - first); ++j) {
      const float dx = batch[j].x - static_cast<float>(px);
      const float dy = batch[j].y - static_cast<float>(py);
      const float alpha = batch[j].opacity * __expf(-batch[j].precision * (dx * dx + dy * dy));
      if (through < 1e-3f) break;
      color += through * alpha * static_cast<float>(first + j);
      through *= 1 - alpha;
    }
  }
  if (inside) image[static_cast<int64_t>(py) * width + px] = color + through;
}

struct Extents {
  int depth, height, width;
};

// Sums over 3 x 3 x 3 neighbours with zeros outside; the block and its margin are in shared memory.
template <class T>
MEDKERN_GLOBAL void box_kernel(const T* x, Extents size, T* y) {
  MEDKERN_DYNAMIC_SHARED(T, cache);
  const int bx = static_cast<int>(blockDim.x), by = static_cast<int>(blockDim.y),
            bz = static_cast<int>(blockDim.z);
  const int left = static_cast<int>(blockIdx.x) * bx - 1,
            top = static_cast<int>(blockIdx.y) * by - 1,
            front = static_cast<int>(blockIdx.z) * bz - 1;
  const int cached = (bx + 2) * (by + 2) * (bz + 2);
  for (int i = linear_thread(); i < cached; i += bx * by * bz) {
    const int c = left + i % (bx + 2), r = top + i / (bx + 2) % (by + 2),
              p = front + i / (bx + 2) / (by + 2);
    const bool inside =
        c >= 0 && c < size.width && r >= 0 && r < size.height && p >= 0 && p < size.depth;
    cache[i] = inside ? x[(static_cast<int64_t>(p) * size.height + r) * size.width + c] : T{};
  }
  __syncthreads();
  const int c = left + 1 + static_cast<int>(threadIdx.x),
            r = top + 1 + static_cast<int>(threadIdx.y),
            p = front + 1 + static_cast<int>(threadIdx.z);
  if (c >= size.width || r >= size.height || p >= size.depth) return;
  T sum{};
  for (int i = 0; i < 27; ++i) {
    const int at = ((static_cast<int>(threadIdx.z) + i / 9) * (by + 2) +
                    static_cast<int>(threadIdx.y) + i / 3 % 3) *
                       (bx + 2) +
                   static_cast<int>(threadIdx.x) + i % 3;
    sum += cache[at];
  }
  y[(static_cast<int64_t>(p) * size.height + r) * size.width + c] = sum;
}

// y = 2 x + 1 on vectors of `Bytes` that arrive two batches ahead; 64 threads, n a multiple of
// their vectors.
template <class T, int Bytes>
MEDKERN_GLOBAL void pipeline_kernel(const T* x, int n, T* y) {
  constexpr int kLane = Bytes / static_cast<int>(sizeof(T));
  MEDKERN_SHARED(T, buffer, 3 * 64 * kLane);
  const int thread = static_cast<int>(threadIdx.x), batch = 64 * kLane;
  const auto slot = [&](int k) { return buffer + (k % 3) * batch + thread * kLane; };
  const auto start = [&](int k) {
    copy_async<Bytes>(slot(k), x + min(k * batch, n - batch) + thread * kLane, k * batch < n);
    copy_async_commit();
  };
  start(0);
  start(1);
  for (int k = 0; k * batch < n; ++k) {
    start(k + 2);
    copy_async_wait<2>();
    DeviceVector<T, kLane> values = load_vector<T, kLane>(slot(k));
    for (int i = 0; i < kLane; ++i) values[i] = static_cast<T>(2 * values[i] + 1);
    store_vector(y + k * batch + thread * kLane, values);
  }
  copy_async_wait<0>();
}

// One result per kind of warp operation, 12 numbers per thread.
MEDKERN_GLOBAL void votes_kernel(const int* x, int* y) {
  const int lane = static_cast<int>(threadIdx.x) % 32, value = x[threadIdx.x];
  int* const out = y + 12 * threadIdx.x;
  out[0] = static_cast<int>(__ballot_sync(kAllLanes, value > 0));
  out[1] = __any_sync(kAllLanes, value == 7);
  out[2] = __all_sync(kAllLanes, value >= -3);
  out[3] = static_cast<int>(__match_any_sync(kAllLanes, value));
  out[4] = __reduce_add_sync(kAllLanes, value);
  out[5] = __reduce_min_sync(kAllLanes, value);
  out[6] = __reduce_max_sync(kAllLanes, value);
  out[7] = __shfl_sync(kAllLanes, value, 5, 8);
  out[8] = __shfl_xor_sync(kAllLanes, value, 3);
  if (lane < 16) {  // two halves of the warp on their own
    out[9] = __shfl_sync(0x0000ffffu, value, 2);
  } else {
    out[9] = __shfl_sync(0xffff0000u, value, 18);
  }
  __syncwarp();
  out[10] = __syncthreads_or(value == 7) + 2 * __syncthreads_and(value >= -3);
  out[11] = __popc(__activemask() & 1u << lane);
}

// d = a b + c for a [16, 16], b as its 8 columns of 16, c and d [16, 8]; one warp.
template <class S>
MEDKERN_GLOBAL void mma_kernel(const S* a, const S* b, const float* c, float* d) {
  MmaC sum;
  for (int i = 0; i < 4; ++i) sum.value[i] = c[mma_row(i) * 8 + mma_column(i)];
  sum = mma_16x8x16<S>(load_mma_a(a, 16), load_mma_b(b, 16), sum);
  for (int i = 0; i < 4; ++i) d[mma_row(i) * 8 + mma_column(i)] = sum.value[i];
}

// Atomics, each on a counter of its own.
MEDKERN_GLOBAL void atomics_kernel(int* out, unsigned long long* wide, float* real) {
  const int i =
      static_cast<int>(blockIdx.x * blockDim.x * blockDim.y * blockDim.z) + linear_thread();
  atomicAdd(&out[0], i);
  atomicMin(&out[1], -i);
  atomicMax(&out[2], i);
  atomicOr(&out[3], 1 << i % 31);
  atomicAnd(&out[4], ~(1 << i % 31));
  atomicExch(&out[5], 9);
  if (atomicCAS(&out[6], 0, i + 1) == 0) atomicAdd(&out[7], 1);
  atomicAdd(&wide[0], 1ull << 33);
  atomicMax(&wide[1], static_cast<unsigned long long>(i));
  atomicAdd(real, 0.5f);
}

}  // namespace medkern::MEDKERN_ISA
