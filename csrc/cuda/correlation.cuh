// CUDA kernels of the sums of correlation coefficients, and of their gradient: see
// core/correlation.hpp.
//
// Sums are in double and in two stages of a fixed order: within blocks, then over the blocks of an
// image. Of an array a block adds in a tree. Of spectra a warp takes 32 neighbouring columns, whose
// rings never fall: shuffles add the runs of equal rings, and the first lane of each run adds the
// result to its warp's sums in shared memory, kRingWindow rings at a time, further ones in blocks
// of their own. No atomics. Radii in float64, without contraction, so that rings are the CPU's;
// made once for all images. Bytes: one read of p and y, for the gradient one write; of spectra also
// 8 or 12 per frequency.
#pragma once

#include "core/common/storage.hpp"
#include "correlation.hpp"
#include "grid_stride.cuh"

namespace medkern::MEDKERN_ISA {

constexpr int kWarps = kThreads / 32;
constexpr int kRingWindow = 128;

MEDKERN_DEVICE_INLINE int lane_of_thread() { return static_cast<int>(threadIdx.x) % 32; }
MEDKERN_DEVICE_INLINE int warp_of_thread() { return static_cast<int>(threadIdx.x) / 32; }

template <class C>
struct CorrelationTerms {
  double sum[kCorrelationSums] = {};

  MEDKERN_DEVICE_INLINE void add(C product, C p_squared, C y_squared) {
    sum[0] += product;
    sum[1] += p_squared;
    sum[2] += y_squared;
  }
};

// Block `image * parts + part` takes every parts-th run of kThreads elements.
template <class S>
MEDKERN_GLOBAL void correlation_parts_fwd_kernel(CorrelationProblem p, int64_t parts,
                                                 double* partial) {
  using C = Compute<S>;
  MEDKERN_SHARED(double[kCorrelationSums], of_warp, kWarps);
  const int64_t block = blockIdx.x, image = block / parts, part = block % parts;
  const S* a = static_cast<const S*>(p.p) + image * p.elements;
  const S* b = static_cast<const S*>(p.y) + image * p.elements;
  CorrelationTerms<C> terms;
  for (int64_t i = part * kThreads + threadIdx.x; i < p.elements; i += parts * kThreads) {
    const C x = load_one<C>(a + i), y = load_one<C>(b + i);
    terms.add(x * y, x * x, y * y);
  }
  for (double& value : terms.sum) {
    for (int offset = 16; offset > 0; offset /= 2) {
      value += __shfl_down_sync(0xffffffffu, value, offset);
    }
  }
  if (lane_of_thread() == 0) {
    for (int c = 0; c < kCorrelationSums; ++c) of_warp[warp_of_thread()][c] = terms.sum[c];
  }
  __syncthreads();
  if (threadIdx.x >= kCorrelationSums) return;
  double total = 0;
  for (int w = 0; w < kWarps; ++w) total += of_warp[w][threadIdx.x];
  partial[block * kCorrelationSums + threadIdx.x] = total;
}

// A number per thread: partial [images, parts, count] -> [images, count].
template <class C>
MEDKERN_GLOBAL void correlation_total_fwd_kernel(const double* partial, int64_t images,
                                                 int64_t parts, int64_t count, C* out) {
  MEDKERN_GRID_STRIDE(i, images * count) {
    int64_t image, at;
    split(i, count, image, at);
    double total = 0;
    for (int64_t part = 0; part < parts; ++part) {
      total += partial[(image * parts + part) * count + at];
    }
    out[i] = static_cast<C>(total);
  }
}

template <class C>
MEDKERN_GLOBAL void correlation_rings_fwd_kernel(CorrelationProblem p, int32_t* rings, C* weights) {
  MEDKERN_GRID_STRIDE(i, p.rows * p.columns) {
    int64_t row, column;
    split(i, p.columns, row, column);
    double weight;
    rings[i] =
        static_cast<int32_t>(ring_of_column(p, squared_radius_of_row(p, row), column, weight));
    weights[i] = static_cast<C>(weight);
  }
}

// Block `(image * parts + part) * windows + window`; a warp takes every so many runs of 32 columns.
template <class C>
MEDKERN_GLOBAL void correlation_spectra_fwd_kernel(CorrelationProblem p, const int32_t* rings,
                                                   const C* weights, int64_t parts, int64_t windows,
                                                   double* partial) {
  MEDKERN_SHARED(double[kRingWindow][kCorrelationSums], sums, kWarps);
  const int64_t block = blockIdx.x, window = block % windows, image = block / windows / parts;
  const int64_t part = block / windows % parts, first_ring = window * kRingWindow;
  const int lane = lane_of_thread(), warp = warp_of_thread();
  double (*mine)[kCorrelationSums] = sums[warp];
  for (int i = lane; i < kRingWindow; i += 32) {
    for (int c = 0; c < kCorrelationSums; ++c) mine[i][c] = 0;
  }
  __syncwarp();
  const int64_t bins = p.rows * p.columns, runs = (p.columns + 31) / 32;
  const C* a = static_cast<const C*>(p.p) + image * bins * 2;
  const C* b = static_cast<const C*>(p.y) + image * bins * 2;
  for (int64_t run = part * kWarps + warp; run < p.rows * runs; run += parts * kWarps) {
    int64_t row, start;
    split(run, runs, row, start);
    const int64_t column = start * 32 + lane, at = row * p.columns + column;
    const int ring =
        column < p.columns ? static_cast<int>(rings[at] - first_ring) : -1 - kRingWindow;
    const bool inside = ring >= 0 && ring < kRingWindow;
    CorrelationTerms<C> terms;
    if (inside) {
      const C re = a[2 * at], im = a[2 * at + 1], y_re = b[2 * at], y_im = b[2 * at + 1];
      const C weight = weights[at];
      terms.add((re * y_re + im * y_im) * weight, (re * re + im * im) * weight,
                (y_re * y_re + y_im * y_im) * weight);
    }
    for (int offset = 1; offset < 32; offset *= 2) {
      const int other = __shfl_down_sync(0xffffffffu, ring, offset);
      const bool same = lane + offset < 32 && other == ring;
      for (double& value : terms.sum) {
        const double more = __shfl_down_sync(0xffffffffu, value, offset);
        if (same) value += more;
      }
    }
    const int before = __shfl_up_sync(0xffffffffu, ring, 1);
    if (inside && (lane == 0 || before != ring)) {
      for (int c = 0; c < kCorrelationSums; ++c) mine[ring][c] += terms.sum[c];
    }
    __syncwarp();
  }
  __syncthreads();
  const int64_t left = p.rings + 1 - first_ring;
  const int64_t count = (left < kRingWindow ? left : kRingWindow) * kCorrelationSums;
  double* out = partial + ((image * parts + part) * (p.rings + 1) + first_ring) * kCorrelationSums;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) {
    double total = 0;
    for (int w = 0; w < kWarps; ++w) total += sums[w][i / kCorrelationSums][i % kCorrelationSums];
    out[i] = total;
  }
}

template <class S>
MEDKERN_GLOBAL void correlation_array_bwd_kernel(CorrelationProblem p) {
  using C = Compute<S>;
  MEDKERN_GRID_STRIDE(i, p.images * p.elements) {
    int64_t image, at;
    split(i, p.elements, image, at);
    const C* g = static_cast<const C*>(p.weights) + image * kCorrelationSums;
    const C a = load_one<C>(static_cast<const S*>(p.p) + i);
    const C b = load_one<C>(static_cast<const S*>(p.y) + i);
    store_one(static_cast<S*>(p.grad) + i, g[0] * b + (g[1] + g[1]) * a);
  }
}

template <class C>
MEDKERN_GLOBAL void correlation_spectra_bwd_kernel(CorrelationProblem p, const int32_t* rings,
                                                   const C* weights) {
  const int64_t bins = p.rows * p.columns;
  MEDKERN_GRID_STRIDE(i, p.images * bins) {
    int64_t image, at;
    split(i, bins, image, at);
    const C* g =
        static_cast<const C*>(p.weights) + (image * (p.rings + 1) + rings[at]) * kCorrelationSums;
    const C of_y = weights[at] * g[0], of_p = weights[at] * (g[1] + g[1]);
    for (int64_t j = 2 * i; j < 2 * i + 2; ++j) {
      static_cast<C*>(p.grad)[j] =
          of_y * static_cast<const C*>(p.y)[j] + of_p * static_cast<const C*>(p.p)[j];
    }
  }
}

}  // namespace medkern::MEDKERN_ISA
