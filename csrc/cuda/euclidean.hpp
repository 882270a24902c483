// Launching the exact Euclidean distance transform: no torch, no device code.
#pragma once

#include <cstdint>

#include "core/grid.hpp"
#include "launch.hpp"

namespace medkern {

// Distance of every voxel to the nearest one of another label; 0 where the label is 0, inf where
// there is no other label. With labels 0 and 1 it is the transform of a mask, with 1 and 2 both
// sides of one. Arrays are contiguous, on the device; T is float or double.
template <class T>
struct EuclideanArrays {
  const int32_t* labels;  // [batch, D, H, W]
  const double* spacing;  // [batch, 3]
  T* distance;            // [batch, D, H, W]
  T* scratch;             // the same size; unused where two of the extents are 1
  int64_t* nearest;       // [batch, D, H, W], or null: the row-major index of a nearest voxel
  int64_t* nearest_scratch;
  int64_t batch;
  Grid grid;
};

// Of equally near voxels the first one in row-major order is taken (up to rounding, where the
// spacing makes squared distances inexact); its own index where the label is 0, -1 where there is
// none.
LaunchError launch_euclidean(const EuclideanArrays<float>& arrays, Stream stream);
LaunchError launch_euclidean(const EuclideanArrays<double>& arrays, Stream stream);

}  // namespace medkern
