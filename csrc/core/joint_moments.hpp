// Variances and covariance of two images, and their gradients.
//
// a, b: [rows, voxels], contiguous; moments [rows, 3]: var a, var b, cov(a, b), divided by voxels.
//     df / da_i = (2 g_0 (a_i - mean a) + g_2 (b_i - mean b)) / voxels, likewise for b.
//
// Every block of voxels is summed about its own mean while it is in the cache, in float64, and
// blocks are merged by the exact rule of Chan, Golub and LeVeque (1979): offsets do no harm. Sums
// run in kMomentLanes interleaved chains, and blocks merge in order: neither threads nor the
// instruction set change a bit. Cost: one read of the images; the gradient reads them twice and
// writes once.
#pragma once

#include <cstdint>

#include "common/float_type.hpp"

namespace medkern {

struct JointMoments {
  double count = 0, mean_a = 0, mean_b = 0, var_a = 0, var_b = 0, cross = 0;  // var, cross: sums

  MEDKERN_INLINE void merge(const JointMoments& other) {
    if (other.count == 0) return;
    const double total = count + other.count, share = other.count / total, both = count * share;
    const double step_a = other.mean_a - mean_a, step_b = other.mean_b - mean_b;
    mean_a = count == 0 ? other.mean_a : mean_a + step_a * share;
    mean_b = count == 0 ? other.mean_b : mean_b + step_b * share;
    var_a += other.var_a + step_a * step_a * both;
    var_b += other.var_b + step_b * step_b * both;
    cross += other.cross + step_a * step_b * both;
    count = total;
  }
};

struct JointMomentsProblem {
  int64_t rows = 0, voxels = 0, channels = 1;
  FloatType type = FloatType::float32;
  const void *a = nullptr, *b = nullptr;
  JointMoments* blocks = nullptr;         // forward: one per block
  const JointMoments* moments = nullptr;  // backward: one per row
  const void* weights = nullptr;          // backward: g [rows, 3] in the compute type
  bool both = false;
  void* grads = nullptr;  // [rows / channels, 1 or 2, channels, voxels], as the images
};

constexpr int64_t kMomentBlock = 4096;
constexpr int kMomentLanes = 32;

MEDKERN_INLINE int64_t joint_moments_blocks_per_row(const JointMomentsProblem& p) {
  return (p.voxels + kMomentBlock - 1) / kMomentBlock;
}

// Processes blocks [begin, end) of rows * joint_moments_blocks_per_row.
using JointMomentsKernel = void (*)(const JointMomentsProblem&, int64_t begin, int64_t end);

// The kernel for the instruction set in use.
JointMomentsKernel joint_moments_kernel(bool backward, FloatType type);

}  // namespace medkern
