// Launching the exact Euclidean distance transform: no torch, no device code.
#pragma once

#include <cstdint>

#include "core/grid.hpp"
#include "launch.hpp"

namespace medkern {

// Distance of every voxel to the nearest one of another label, inf where there is none. Where the
// label is 0 the distance is 0 or, with both_sides, like that of any other label, while that of the
// others is negative. Arrays are contiguous, on the device; distances are double where `wide`.
struct EuclideanArrays {
  const void* labels;     // [volumes, D, H, W], integers of label_bytes: 1, 2, 4 or 8
  const double* spacing;  // [volumes / sets, 3]
  void* distance;         // [volumes, D, H, W]
  void* scratch;          // the same size; unused where two of the extents are 1
  int64_t* nearest;       // [volumes, D, H, W], or null: row-major index of a nearest voxel
  int64_t* nearest_scratch;
  int64_t volumes, sets;
  Grid grid;
  int label_bytes;
  bool both_sides, wide;
};

// Of equally near voxels the first one in row-major order is taken (up to rounding, where the
// spacing makes squared distances inexact); a voxel of distance 0 is its own, -1 is none.
LaunchError launch_euclidean(const EuclideanArrays& arrays, Stream stream);

}  // namespace medkern
