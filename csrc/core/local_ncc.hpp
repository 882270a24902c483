// Local normalised cross-correlation of two images a and b, and its gradients.
//
// a, b: [volumes, z, y, x], contiguous; images of fewer axes have leading axes of size and
// window 1. Around voxel i, over a window of n voxels with zeros outside the image, let C, A and B
// be the sums of products of the deviations from the window's means, of a with b, a with a and b
// with b. Then
//     cc_i = C^2 / D  or  C / sqrt(D),    D = max(A, least) max(B, least) + offset.
// With f = sum_i g_i cc_i, and box[] the sum over a window,
//     df / da_j = b_j box[P]_j + a_j box[Q]_j + box[T]_j,    P = g dcc/dC, Q = 2 g dcc/dA,
// T = -(P sum_b + Q sum_a) / n; likewise for b with P, R = 2 g dcc/dB, U = -(P sum_a + R sum_b) /
// n.
//
// Sums run in float64 whatever the images, over images shifted by one value of their own
// (`centre`): A is a small difference of large sums. Zeros outside are -centre then, which enters
// in closed form. Sums slide along z and y by adding what enters and subtracting what leaves,
// within a tile, and are built along x by doubling: the cost does not depend on the window, errors
// do not pile up over the image, and sums of integers are exact. Tiles do not depend on threads,
// hence neither do the bits. Source: Avants et al., MedIA 2008; Balakrishnan et al., IEEE TMI 2019.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "common/float_type.hpp"

namespace medkern {

struct LocalNccProblem {
  int64_t volumes = 0, channels = 1;
  int64_t size[3] = {1, 1, 1}, window[3] = {1, 1, 1};  // z, y, x
  double least = 0, offset = 0;                        // of A and B each; of D
  bool squared = true;
  FloatType type = FloatType::float32;
  const void *a = nullptr, *b = nullptr;
  const double* centre = nullptr;  // [volumes, 2]: of a and b
  // Forward: sums of cc, one per tile, or cc itself in the compute type.
  double* sums = nullptr;
  void* map = nullptr;
  // Backward, in the compute type: g is [volumes, z, y, x], or one number per volume.
  const void* weights = nullptr;
  bool weight_per_voxel = false;
  double weight_scale = 1;
  bool both = false;
  int64_t first_volume = 0;      // of those whose coefficients are at hand
  void* coefficients = nullptr;  // [volumes at hand, 3 or 5, z, y, x]: P Q T, or P Q T R U
  void* grads = nullptr;         // [volumes / channels, 1 or 2, channels, z, y, x], as the images

  MEDKERN_INLINE int64_t voxels() const { return size[0] * size[1] * size[2]; }
  MEDKERN_INLINE int64_t count() const { return window[0] * window[1] * window[2]; }
  MEDKERN_INLINE int64_t planes() const { return both ? 5 : 3; }
};

// A work unit: part of one volume.
struct LocalNccTile {
  int64_t volume, begin[3], end[3];
};

// Tile sizes trade halos against the cache: the sums of a tile take 5 * 8 bytes per voxel of its
// y-x face.
MEDKERN_INLINE int64_t local_ncc_tile_size(const LocalNccProblem& p, int axis) {
  const int64_t least = axis == 2 ? 256 : 32, wide = 2 * p.window[axis];
  return wide > least ? wide : least;
}

MEDKERN_INLINE int64_t local_ncc_tiles(const LocalNccProblem& p, int axis) {
  const int64_t tile = local_ncc_tile_size(p, axis);
  return (p.size[axis] + tile - 1) / tile;
}

MEDKERN_INLINE int64_t local_ncc_tiles_per_volume(const LocalNccProblem& p) {
  return local_ncc_tiles(p, 0) * local_ncc_tiles(p, 1) * local_ncc_tiles(p, 2);
}

// Even shares, so that no tile is a sliver.
inline LocalNccTile local_ncc_tile(const LocalNccProblem& p, int64_t unit) {
  LocalNccTile t;
  for (int axis = 2; axis >= 0; --axis) {
    const int64_t tiles = local_ncc_tiles(p, axis), at = unit % tiles;
    unit /= tiles;
    t.begin[axis] = at * p.size[axis] / tiles;
    t.end[axis] = (at + 1) * p.size[axis] / tiles;
  }
  t.volume = unit;
  return t;
}

// Elements of one padded row of a tile: halo, and room for whole vectors.
MEDKERN_INLINE int64_t local_ncc_pitch(const LocalNccProblem& p) {
  const int64_t tile = local_ncc_tile_size(p, 2);
  const int64_t width = (p.size[2] < tile ? p.size[2] : tile) + p.window[2];
  return (width + 15) / 8 * 8;
}

// Rows that a tile keeps sums of.
MEDKERN_INLINE int64_t local_ncc_rows(const LocalNccProblem& p) {
  const int64_t tile = local_ncc_tile_size(p, 1);
  return (p.size[1] < tile ? p.size[1] : tile) + p.window[1] - 1;
}

constexpr int64_t kLocalNccRowBuffers = 28;

MEDKERN_INLINE size_t local_ncc_scratch(const LocalNccProblem& p) {
  const int64_t rows = 5 * local_ncc_rows(p) + kLocalNccRowBuffers;
  return static_cast<size_t>(rows * local_ncc_pitch(p)) * sizeof(double);
}

enum class LocalNccStage { forward, coefficients, gradient };

// Processes tiles [begin, end) with local_ncc_scratch(problem) bytes.
using LocalNccKernel = void (*)(const LocalNccProblem&, int64_t begin, int64_t end, void* scratch);

// The kernel for the instruction set in use.
LocalNccKernel local_ncc_kernel(LocalNccStage stage, FloatType type);

}  // namespace medkern
