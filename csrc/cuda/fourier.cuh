// CUDA kernels of the losses on half spectra: the bins of core/fourier_bins.hpp.
//
// Largest values and sums take two stages, trees within blocks and then a pass over the blocks of
// an image, in a fixed order; sums are in double. Bytes per bin: forward one read of x and y;
// the gradient the same and one write. The focal loss reads y once more for its largest value.
#pragma once

#include "core/common/storage.hpp"
#include "core/fourier_bins.hpp"
#include "fourier.hpp"
#include "grid_stride.cuh"

namespace medkern::MEDKERN_ISA {

template <class C>
MEDKERN_DEVICE_INLINE Bin<C> read_bin(const void* spectrum, int64_t index) {
  const auto pair = load_vector<C, 2>(static_cast<const C*>(spectrum) + 2 * index);
  return {pair[0], pair[1]};
}

struct Largest {
  template <class T>
  static MEDKERN_DEVICE_INLINE T join(T a, T b) {
    return b > a ? b : a;
  }
};
struct Sum {
  template <class T>
  static MEDKERN_DEVICE_INLINE T join(T a, T b) {
    return a + b;
  }
};

// The values of the block's threads joined; thread 0 has the result.
template <class Join, class T>
MEDKERN_DEVICE_INLINE T block_join(T value) {
  MEDKERN_SHARED(T, of_warp, kThreads / 32);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  for (int offset = 16; offset > 0; offset /= 2) {
    value = Join::join(value, __shfl_down_sync(0xffffffffu, value, offset));
  }
  if (lane == 0) of_warp[warp] = value;
  __syncthreads();
  if (threadIdx.x != 0) return value;
  for (int w = 1; w < kThreads / 32; ++w) value = Join::join(value, of_warp[w]);
  return value;
}

// Block `image * parts + part` takes every parts-th run of kThreads bins.
template <class C>
MEDKERN_GLOBAL void fourier_top_fwd_kernel(SpectrumProblem p, int64_t parts, C* partial) {
  const int64_t block = blockIdx.x, image = block / parts, part = block % parts;
  const int64_t bins = p.height * spectrum_columns(p.width);
  C top{};
  for (int64_t i = part * kThreads + threadIdx.x; i < bins; i += parts * kThreads) {
    const Bin<C> y = read_bin<C>(p.y, image * bins + i);
    top = Largest::join(top, y.re * y.re + y.im * y.im);
  }
  top = block_join<Largest>(top);
  if (threadIdx.x == 0) partial[block] = top;
}

// One block per image.
template <class Join, class T, class Out>
MEDKERN_GLOBAL void fourier_parts_fwd_kernel(const T* partial, int64_t parts, Out* out) {
  const int64_t image = blockIdx.x;
  T value{};
  for (int64_t i = threadIdx.x; i < parts; i += kThreads) {
    value = Join::join(value, partial[image * parts + i]);
  }
  value = block_join<Join>(value);
  if (threadIdx.x == 0) out[image] = static_cast<Out>(value);
}

template <class C, SpectrumLoss Loss>
MEDKERN_DEVICE_INLINE auto device_bins(const SpectrumProblem& p, int64_t image) {
  using Bins = SpectrumBins<ScalarMath<C>, Loss>;
  const C parameter = static_cast<C>(p.parameter);
  const C top = Loss == SpectrumLoss::focal ? static_cast<const C*>(p.peak)[image] : C{};
  return Bins{parameter, p.log, Bins::focal(parameter, p.log, top, std::sqrt(top))};
}

MEDKERN_DEVICE_INLINE int bin_count(const SpectrumProblem& p, int64_t column) {
  return column == 0 || 2 * column == p.width ? 1 : 2;
}

template <class C, SpectrumLoss Loss>
MEDKERN_GLOBAL void fourier_sum_fwd_kernel(SpectrumProblem p, int64_t parts, double* partial) {
  const int64_t block = blockIdx.x, image = block / parts, part = block % parts;
  const int64_t columns = spectrum_columns(p.width), bins = p.height * columns;
  const auto bin = device_bins<C, Loss>(p, image);
  double sum = 0;
  for (int64_t i = part * kThreads + threadIdx.x; i < bins; i += parts * kThreads) {
    int64_t row, column;
    split(i, columns, row, column);
    const C value =
        bin.value(read_bin<C>(p.x, image * bins + i), read_bin<C>(p.y, image * bins + i));
    sum += bin_count(p, column) * static_cast<double>(value);
  }
  sum = block_join<Sum>(sum);
  if (threadIdx.x == 0) partial[block] = sum;
}

template <class C, SpectrumLoss Loss>
MEDKERN_GLOBAL void fourier_slope_bwd_kernel(SpectrumProblem p) {
  const int64_t columns = spectrum_columns(p.width), bins = p.height * columns;
  MEDKERN_GRID_STRIDE(i, p.images * bins) {
    int64_t image, at, row, column;
    split(i, bins, image, at);
    split(at, columns, row, column);
    const auto slope =
        device_bins<C, Loss>(p, image).slope(read_bin<C>(p.x, i), read_bin<C>(p.y, i));
    const C scale = static_cast<const C*>(p.grad)[image] * static_cast<C>(bin_count(p, column));
    DeviceVector<C, 2> out;
    out[0] = slope.re * scale;
    out[1] = slope.im * scale;
    store_vector(static_cast<C*>(p.out) + 2 * i, out);
  }
}

}  // namespace medkern::MEDKERN_ISA
