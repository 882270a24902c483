// CUDA kernels of core/joint_moments.hpp: the CPU's blocks, in float64.
//
// A thread block holds kMomentBlock voxels of both images in registers, adds them up for their
// means and then the products of what is left, in trees; the blocks of a row are merged by another
// kernel, each thread its share in order and then the threads in a tree. Nothing depends on the
// device or the batch but the images. Bytes per voxel: one read of the images; the gradient reads
// them twice and writes once.
#pragma once

#include "block_sums.cuh"
#include "core/common/storage.hpp"
#include "joint_moments.hpp"

namespace medkern::MEDKERN_ISA {

constexpr int kMomentVoxels = static_cast<int>(kMomentBlock) / kThreads;  // of a thread

template <class S>
MEDKERN_DEVICE_INLINE double voxel_of(const void* image, int64_t at) {
  return static_cast<double>(load_one<Compute<S>>(static_cast<const S*>(image) + at));
}

template <class S>
MEDKERN_GLOBAL void joint_moments_fwd_kernel(JointMomentsProblem p, int64_t per_row) {
  MEDKERN_SHARED(double, means, 2);
  const int64_t row = blockIdx.x / per_row, first = blockIdx.x % per_row * kMomentBlock;
  const int64_t count = p.voxels - first < kMomentBlock ? p.voxels - first : kMomentBlock;
  const int64_t begin = row * p.voxels + first;
  const double guess_a = voxel_of<S>(p.a, begin), guess_b = voxel_of<S>(p.b, begin);
  double a[kMomentVoxels], b[kMomentVoxels], sums[2] = {0, 0};
  MEDKERN_UNROLL
  for (int j = 0; j < kMomentVoxels; ++j) {
    const int64_t i = static_cast<int64_t>(j) * kThreads + threadIdx.x;
    a[j] = i < count ? voxel_of<S>(p.a, begin + i) - guess_a : 0;
    b[j] = i < count ? voxel_of<S>(p.b, begin + i) - guess_b : 0;
    sums[0] += a[j];
    sums[1] += b[j];
  }
  block_sums(sums);
  if (threadIdx.x == 0) {
    means[0] = sums[0] / static_cast<double>(count);
    means[1] = sums[1] / static_cast<double>(count);
  }
  __syncthreads();
  double products[3] = {0, 0, 0};
  MEDKERN_UNROLL
  for (int j = 0; j < kMomentVoxels; ++j) {
    if (static_cast<int64_t>(j) * kThreads + threadIdx.x >= count) continue;
    const double x = a[j] - means[0], y = b[j] - means[1];
    products[0] += x * x;
    products[1] += y * y;
    products[2] += x * y;
  }
  block_sums(products);
  if (threadIdx.x != 0) return;
  p.blocks[blockIdx.x] = {static_cast<double>(count),
                          guess_a + means[0],
                          guess_b + means[1],
                          products[0],
                          products[1],
                          products[2]};
}

// One block per row.
template <class C>
MEDKERN_GLOBAL void joint_moments_fwd_merge_kernel(const JointMoments* blocks, int64_t per_row,
                                                   JointMoments* moments, C* out) {
  MEDKERN_SHARED(double[6], shares, kThreads);
  JointMoments mine;
  for (int64_t i = threadIdx.x; i < per_row; i += kThreads) {
    mine.merge(blocks[blockIdx.x * per_row + i]);
  }
  const auto put = [&](double (&to)[6]) {
    const double values[6] = {mine.count, mine.mean_a, mine.mean_b,
                              mine.var_a, mine.var_b,  mine.cross};
    for (int i = 0; i < 6; ++i) to[i] = values[i];
  };
  put(shares[threadIdx.x]);
  for (unsigned half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x >= half) continue;
    const double (&s)[6] = shares[threadIdx.x + half];
    mine.merge({s[0], s[1], s[2], s[3], s[4], s[5]});
    put(shares[threadIdx.x]);
  }
  if (threadIdx.x != 0) return;
  if (moments != nullptr) moments[blockIdx.x] = mine;
  if (out == nullptr) return;
  out[3 * blockIdx.x] = static_cast<C>(mine.var_a / mine.count);
  out[3 * blockIdx.x + 1] = static_cast<C>(mine.var_b / mine.count);
  out[3 * blockIdx.x + 2] = static_cast<C>(mine.cross / mine.count);
}

template <class S>
MEDKERN_GLOBAL void joint_moments_bwd_kernel(JointMomentsProblem p) {
  using C = Compute<S>;
  MEDKERN_GRID_STRIDE(i, p.rows * p.voxels) {
    int64_t row, at, sample, channel;
    split(i, p.voxels, row, at);
    split(row, p.channels, sample, channel);
    const JointMoments& m = p.moments[row];
    const C* g = static_cast<const C*>(p.weights) + 3 * row;
    const double x = voxel_of<S>(p.a, i) - m.mean_a, y = voxel_of<S>(p.b, i) - m.mean_b;
    const double covariance = static_cast<double>(g[2]) / m.count;
    const auto slope = [&](C variance, double own, double other) {
      return static_cast<C>(2 * static_cast<double>(variance) / m.count * own + covariance * other);
    };
    S* to = static_cast<S*>(p.grads) +
            (sample * (p.both ? 2 : 1) * p.channels + channel) * p.voxels + at;
    store_one(to, slope(g[0], x, y));
    if (p.both) store_one(to + p.channels * p.voxels, slope(g[1], y, x));
  }
}

}  // namespace medkern::MEDKERN_ISA
