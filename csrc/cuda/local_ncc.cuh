// CUDA kernels of the local normalised cross-correlation; formulas in core/local_ncc.hpp and
// core/local_ncc_window.hpp, in float64 throughout.
//
// A block takes a tile of one volume and walks its planes. It holds the sums along z of every y-x
// position of its frame (the tile and a halo), to which it adds the plane that enters the windows
// and from which it subtracts the one that leaves, both read again from the images; then it slides
// sums of these along y, one thread a column, and along x, one thread a row: the cost does not
// depend on the window. Frames lie in shared memory up to windows of 17, else in a workspace of a
// fraction of the images. What is outside of the image is 0 once the centre is subtracted.
// The backward writes coefficients, 3 or 5 a voxel, and sums those in the same way. Sums of
// correlations take two stages, block trees and a pass over the blocks of a volume, in a fixed
// order.
// Bytes per voxel: each pass reads its images, or planes of coefficients, about four times (two
// planes, with halos), mostly from the L2 cache.
#pragma once

#include <cmath>

#include "block_sums.cuh"
#include "core/common/storage.hpp"
#include "core/local_ncc_window.hpp"
#include "local_ncc.hpp"

namespace medkern::MEDKERN_ISA {

// The tile of this block.
struct LocalNccBlock {
  const LocalNccProblem& p;
  const LocalNccFrames& f;
  int64_t volume, begin[3], end[3];

  MEDKERN_DEVICE_INLINE LocalNccBlock(const LocalNccProblem& problem, const LocalNccFrames& frames)
      : p(problem), f(frames) {
    int64_t unit = blockIdx.x;
    for (int axis = 2; axis >= 0; --axis) {
      begin[axis] = unit % f.count[axis] * f.tile[axis];
      end[axis] =
          begin[axis] + f.tile[axis] < p.size[axis] ? begin[axis] + f.tile[axis] : p.size[axis];
      unit /= f.count[axis];
    }
    volume = p.first_volume + unit;
  }

  MEDKERN_DEVICE_INLINE int64_t extent(int axis) const { return end[axis] - begin[axis]; }
  MEDKERN_DEVICE_INLINE int64_t index(int64_t z, int64_t y, int64_t x) const {
    return (z * p.size[1] + y) * p.size[2] + x;
  }
  // Voxels of the window around `at` that the image has, along an axis.
  MEDKERN_DEVICE_INLINE int64_t inside(int axis, int64_t at) const {
    const int64_t low = at - f.reach[axis], high = at + f.reach[axis] + 1;
    return (high < p.size[axis] ? high : p.size[axis]) - (low > 0 ? low : 0);
  }
};

// The images as a source of sums: a, b, aa, bb, ab, less the centres.
template <class S>
struct LocalNccImages {
  using C = Compute<S>;
  static constexpr int kSums = 5;
  const S *a, *b;
  double centre_a, centre_b;

  MEDKERN_DEVICE_INLINE LocalNccImages(const LocalNccProblem& p, int64_t volume)
      : a(static_cast<const S*>(p.a) + volume * p.voxels()),
        b(static_cast<const S*>(p.b) + volume * p.voxels()),
        centre_a(centre(a, p.voxels())),
        centre_b(centre(b, p.voxels())) {}

  // A value of the image itself keeps differences of integers integers.
  static MEDKERN_DEVICE_INLINE double centre(const S* image, int64_t voxels) {
    const double value = static_cast<double>(load_one<C>(image + voxels / 2));
    return std::isfinite(value) ? value : 0.0;
  }

  MEDKERN_DEVICE_INLINE void pair(int64_t at, double& x, double& y) const {
    x = static_cast<double>(load_one<C>(a + at)) - centre_a;
    y = static_cast<double>(load_one<C>(b + at)) - centre_b;
  }

  MEDKERN_DEVICE_INLINE void read(int64_t at, double (&to)[kSums]) const {
    pair(at, to[0], to[1]);
    to[2] = to[0] * to[0];
    to[3] = to[1] * to[1];
    to[4] = to[0] * to[1];
  }
};

// Planes of coefficients as such a source.
template <class C, int K>
struct LocalNccCoefficients {
  static constexpr int kSums = K;
  const C* planes;
  int64_t voxels;

  MEDKERN_DEVICE_INLINE LocalNccCoefficients(const LocalNccProblem& p, int64_t volume)
      : planes(static_cast<const C*>(p.coefficients) + (volume - p.first_volume) * K * p.voxels()),
        voxels(p.voxels()) {}

  MEDKERN_DEVICE_INLINE void read(int64_t at, double (&to)[kSums]) const {
    for (int k = 0; k < K; ++k) to[k] = static_cast<double>(planes[k * voxels + at]);
  }
};

// Moves the sums along z from plane z - 1 to z: `enter` and `leave` are planes, or -1.
template <class Source>
MEDKERN_DEVICE_INLINE void slide_planes(const LocalNccBlock& block, const Source& source,
                                        int64_t enter, int64_t leave, double* planes) {
  constexpr int K = Source::kSums;
  const LocalNccFrames& f = block.f;
  const int64_t step = f.rows * f.pitch;
  for (int64_t i = threadIdx.x; i < f.rows * f.columns; i += kThreads) {
    int64_t row, column;
    split(i, f.columns, row, column);
    const int64_t y = block.begin[1] - f.reach[1] + row, x = block.begin[2] - f.reach[2] + column;
    if (y < 0 || y >= block.p.size[1] || x < 0 || x >= block.p.size[2]) continue;
    double* sums = planes + row * f.pitch + column;
    double values[K];
    if (enter >= 0) {
      source.read(block.index(enter, y, x), values);
      for (int k = 0; k < K; ++k) sums[k * step] += values[k];
    }
    if (leave >= 0) {
      source.read(block.index(leave, y, x), values);
      for (int k = 0; k < K; ++k) sums[k * step] -= values[k];
    }
  }
}

// Windows along one line, in place or not: to[i] = from[i] + ... + from[i + 2 reach].
MEDKERN_DEVICE_INLINE void slide_line(const double* from, double* to, int64_t step, int64_t reach,
                                      int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < 2 * reach; ++i) sum += from[i * step];
  for (int64_t i = 0; i < count; ++i) {
    sum += from[(i + 2 * reach) * step];
    const double leaving = from[i * step];
    to[i * step] = sum;
    sum -= leaving;
  }
}

// Calls emit(z, y, x, sums) for every voxel of the block's tile, with the sums over its window.
template <class Source, class Emit>
MEDKERN_DEVICE_INLINE void each_window(const LocalNccBlock& block, const Source& source,
                                       double* planes, Emit emit) {
  constexpr int K = Source::kSums;
  const LocalNccFrames& f = block.f;
  const int64_t reach = f.reach[0], size = block.p.size[0], begin = block.begin[0];
  const int64_t plane = f.rows * f.pitch, lines_of = f.tile[1] * f.pitch;
  double* lines = planes + K * plane;
  for (int64_t i = threadIdx.x; i < K * plane; i += kThreads) planes[i] = 0;
  __syncthreads();
  for (int64_t z = begin > reach ? begin - reach : 0; z < begin + reach && z < size; ++z) {
    slide_planes(block, source, z, -1, planes);
  }
  for (int64_t z = begin; z < block.end[0]; ++z) {
    slide_planes(block, source, z + reach < size ? z + reach : -1, z > begin ? z - reach - 1 : -1,
                 planes);
    __syncthreads();
    for (int64_t i = threadIdx.x; i < K * f.columns; i += kThreads) {
      int64_t k, x;
      split(i, f.columns, k, x);
      slide_line(planes + k * plane + x, lines + k * lines_of + x, f.pitch, f.reach[1],
                 block.extent(1));
    }
    __syncthreads();
    for (int64_t i = threadIdx.x; i < K * block.extent(1); i += kThreads) {
      int64_t k, y;
      split(i, block.extent(1), k, y);
      double* line = lines + k * lines_of + y * f.pitch;
      slide_line(line, line, 1, f.reach[2], block.extent(2));
    }
    __syncthreads();
    for (int64_t i = threadIdx.x; i < block.extent(1) * block.extent(2); i += kThreads) {
      int64_t y, x;
      split(i, block.extent(2), y, x);
      double sums[K];
      for (int k = 0; k < K; ++k) sums[k] = lines[k * lines_of + y * f.pitch + x];
      emit(z, block.begin[1] + y, block.begin[2] + x, sums);
    }
  }
}

// Where the block's sums are: its part of the workspace, or shared memory.
MEDKERN_DEVICE_INLINE double* local_ncc_memory(const LocalNccFrames& f, double* workspace) {
  MEDKERN_DYNAMIC_SHARED(double, shared);
  const int64_t doubles = 5 * (f.rows + f.tile[1]) * f.pitch;
  return workspace == nullptr ? shared : workspace + blockIdx.x * doubles;
}

// Calls emit(at, row, window) for every voxel of the block's tile.
template <class S, class Emit>
MEDKERN_DEVICE_INLINE void each_correlation(const LocalNccBlock& block, double* memory, Emit emit) {
  const LocalNccImages<S> images(block.p, block.volume);
  each_window(block, images, memory, [&](int64_t z, int64_t y, int64_t x, const double (&sums)[5]) {
    const auto inside = static_cast<double>(block.inside(0, z) * block.inside(1, y));
    const LocalNccRow row(block.p, inside, images.centre_a, images.centre_b);
    const auto inside_x = static_cast<double>(block.inside(2, x));
    emit(block.index(z, y, x), row, LocalNccWindow<double>(row, sums, inside_x));
  });
}

template <class S>
MEDKERN_GLOBAL void local_ncc_fwd_kernel(LocalNccProblem p, LocalNccFrames f, double* workspace) {
  using C = Compute<S>;
  const LocalNccBlock block(p, f);
  C* map = static_cast<C*>(p.map) + block.volume * p.voxels();
  double total[1] = {0};
  each_correlation<S>(block, local_ncc_memory(f, workspace),
                      [&](int64_t at, const LocalNccRow&, const LocalNccWindow<double>& window) {
                        const double value = window.correlation(p.squared);
                        if (p.map != nullptr) map[at] = static_cast<C>(value);
                        total[0] += value;
                      });
  if (p.sums == nullptr) return;
  block_sums(total);
  if (threadIdx.x == 0) p.sums[blockIdx.x] = total[0];
}

// One block per volume.
template <class C>
MEDKERN_GLOBAL void local_ncc_fwd_mean_kernel(const double* sums, int64_t tiles, double voxels,
                                              C* means) {
  double total[1] = {0};
  for (int64_t i = threadIdx.x; i < tiles; i += kThreads) total[0] += sums[blockIdx.x * tiles + i];
  block_sums(total);
  if (threadIdx.x == 0) means[blockIdx.x] = static_cast<C>(total[0] / voxels);
}

template <class S>
MEDKERN_GLOBAL void local_ncc_bwd_coefficients_kernel(LocalNccProblem p, LocalNccFrames f,
                                                      double* workspace) {
  using C = Compute<S>;
  const LocalNccBlock block(p, f);
  const int64_t voxels = p.voxels(), count = p.planes();
  const C* weights = static_cast<const C*>(p.weights);
  C* planes = static_cast<C*>(p.coefficients) + (block.volume - p.first_volume) * count * voxels;
  each_correlation<S>(
      block, local_ncc_memory(f, workspace),
      [&](int64_t at, const LocalNccRow& row, const LocalNccWindow<double>& window) {
        const double g = p.weight_per_voxel
                             ? static_cast<double>(weights[block.volume * voxels + at])
                             : static_cast<double>(weights[block.volume]) * p.weight_scale;
        double values[5];
        window.coefficients(row, p.squared, g, values);
        MEDKERN_UNROLL
        for (int k = 0; k < 5; ++k) {
          if (k < count) planes[k * voxels + at] = static_cast<C>(values[k]);
        }
      });
}

template <class S, int K>
MEDKERN_GLOBAL void local_ncc_bwd_kernel(LocalNccProblem p, LocalNccFrames f, double* workspace) {
  using C = Compute<S>;
  const LocalNccBlock block(p, f);
  const LocalNccImages<S> images(p, block.volume);
  const int64_t sample = block.volume / p.channels, channel = block.volume % p.channels;
  S* grad_a =
      static_cast<S*>(p.grads) + (sample * (K == 5 ? 2 : 1) * p.channels + channel) * p.voxels();
  S* grad_b = grad_a + p.channels * p.voxels();
  each_window(block, LocalNccCoefficients<C, K>(p, block.volume), local_ncc_memory(f, workspace),
              [&](int64_t z, int64_t y, int64_t x, const double (&sums)[K]) {
                const int64_t at = block.index(z, y, x);
                double a, b;
                images.pair(at, a, b);
                store_one(grad_a + at, static_cast<C>(b * sums[0] + a * sums[1] + sums[2]));
                if constexpr (K == 5) {
                  store_one(grad_b + at, static_cast<C>(a * sums[0] + b * sums[3] + sums[4]));
                }
              });
}

}  // namespace medkern::MEDKERN_ISA
