// Launching the exact minimum barrier and bottleneck distances: no torch, no device code.
#pragma once

#include <cstdint>

#include "core/grid.hpp"
#include "launch.hpp"

namespace medkern {

// Over the paths from a seed, the least max I - min I, or the least max I; inf where there is no
// path. Arrays are contiguous, on the device; T is float or double and holds the intensities
// exactly.
template <class T>
struct BarrierArrays {
  const T* image;     // [batch, D, H, W]; NaN: a wall
  const bool* seeds;  // [batch, sets, D, H, W]
  const bool* mask;   // [batch, D, H, W] or null; false: a wall
  T* distance;        // [batch, sets, D, H, W]
  int64_t batch, sets;
  Grid grid;
  int connectivity;

  int64_t units() const { return batch * sets; }
};

// The intensities of all images of a problem, ascending, perhaps with others among them.
template <class T>
struct BarrierLevels {
  const T* values;  // [count], on the device
  int64_t count;
  int64_t at_once;  // how many the workspace holds: the more, the fewer launches
};

template <class T>
int64_t barrier_workspace_bytes(const BarrierArrays<T>& a, const BarrierLevels<T>& levels);

template <class T>
int64_t bottleneck_workspace_bytes(const BarrierArrays<T>& a);

// Both wait for the stream like launch_geodesic. A barrier touches every voxel once per level.
template <class T>
LaunchError launch_barrier(const BarrierArrays<T>& a, const BarrierLevels<T>& levels,
                           void* workspace, Stream stream);

template <class T>
LaunchError launch_bottleneck(const BarrierArrays<T>& a, void* workspace, Stream stream);

}  // namespace medkern
