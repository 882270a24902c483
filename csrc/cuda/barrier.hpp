// Launching the exact minimum barrier distance: no torch, no device code.
#pragma once

#include <cstdint>

#include "core/grid.hpp"
#include "launch.hpp"

namespace medkern {

// The least max I - min I over the paths from a seed; inf where there is no path. Arrays are
// contiguous, on the device; T is float or double and holds the intensities exactly.
template <class T>
struct BarrierArrays {
  const T* image;     // [batch, D, H, W]; NaN: a wall
  const bool* seeds;  // [batch, sets, D, H, W]
  const bool* mask;   // [batch, D, H, W] or null; false: a wall
  const T* levels;    // [level_count]: every intensity of the images, in any order, and maybe more
  T* distance;        // [batch, sets, D, H, W]
  int64_t batch, sets, level_count;
  Grid grid;
  int connectivity;
  int64_t levels_at_once;  // how many the workspace holds: the more, the fewer launches
};

template <class T>
int64_t barrier_workspace_bytes(const BarrierArrays<T>& a);

// Work grows with the number of levels: 256 for bytes. Waits for the stream like launch_geodesic.
LaunchError launch_barrier(const BarrierArrays<float>& a, void* workspace, Stream stream);
LaunchError launch_barrier(const BarrierArrays<double>& a, void* workspace, Stream stream);

}  // namespace medkern
