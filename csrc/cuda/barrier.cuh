// CUDA kernels of the bottleneck distance and of the exact minimum barrier distance, the latter by
// threshold decomposition:
//   rho(p) = min over levels u of M_u(p) - u,
// with M_u(p) the least max I over the paths from a seed through voxels of I >= u. For the level of
// a best path's minimum the difference is its barrier, for every other level it is a path's or
// more. The floods M_u are fixpoints of max(M(q), I(p)): items of active_tiles.cuh.
//
// Levels come from the highest down, some at a time. A lower level opens voxels and closes none, so
// each flood starts from the last one above it, and only tiles with a voxel that opens are visited.
#pragma once

#include <cmath>

#include "active_tiles.cuh"
#include "barrier.hpp"

namespace medkern::MEDKERN_ISA {

// What spreads: max(M(q), I(p)).
template <class T>
struct FloodItem {
  const T* image;

  MEDKERN_DEVICE_INLINE T offer(T value, int64_t, int64_t to, T) const {
    return image[to] > value ? image[to] : value;
  }
};

// The bottleneck distance: one flood for every unit, a set of seeds of a sample. Its field is the
// result itself.
template <class T>
struct BottleneckFront {
  using Value = T;
  using Item = FloodItem<T>;

  BarrierArrays<T> a;

  MEDKERN_DEVICE_INLINE int64_t voxels() const {
    return a.grid.size[0] * a.grid.size[1] * a.grid.size[2];
  }
  MEDKERN_DEVICE_INLINE const T* image_of(int64_t unit) const {
    return a.image + unit / a.sets * voxels();
  }
  MEDKERN_DEVICE_INLINE T* values(int64_t unit) const { return a.distance + unit * voxels(); }
  MEDKERN_DEVICE_INLINE Item item(int64_t unit) const { return {image_of(unit)}; }
  MEDKERN_DEVICE_INLINE T step(int64_t, int, int, int) const { return T{}; }

  MEDKERN_DEVICE_INLINE T start(int64_t unit, int64_t voxel) const {
    const T intensity = image_of(unit)[voxel];
    const bool masked = a.mask != nullptr && !a.mask[unit / a.sets * voxels() + voxel];
    if (masked || std::isnan(intensity)) return static_cast<T>(NAN);
    return a.seeds[unit * voxels() + voxel] ? intensity : static_cast<T>(INFINITY);
  }
  MEDKERN_DEVICE_INLINE bool stirs(int64_t, int64_t, T start) const { return start < INFINITY; }
};

// Floods of `at_once` levels for every unit: item unit * at_once + i is of the level `first` + i
// from the top.
template <class T>
struct BarrierFront {
  using Value = T;
  using Item = FloodItem<T>;

  BottleneckFront<T> whole;
  BarrierLevels<T> levels;
  T* floods;        // [units, at_once, D, H, W]
  const T* before;  // [units, D, H, W]: the flood of the level above `first`, if there is one
  int64_t first, at_once;

  MEDKERN_DEVICE_INLINE int64_t voxels() const { return whole.voxels(); }
  MEDKERN_DEVICE_INLINE T level(int64_t i) const { return levels.values[levels.count - 1 - i]; }
  MEDKERN_DEVICE_INLINE T* values(int64_t item) const { return floods + item * voxels(); }
  MEDKERN_DEVICE_INLINE Item item(int64_t item) const { return whole.item(item / at_once); }
  MEDKERN_DEVICE_INLINE T step(int64_t, int, int, int) const { return T{}; }

  // Whether the voxel was open in the floods before this front's.
  MEDKERN_DEVICE_INLINE bool was_open(int64_t unit, int64_t voxel) const {
    return first > 0 && whole.image_of(unit)[voxel] >= level(first - 1);
  }

  MEDKERN_DEVICE_INLINE T start(int64_t item, int64_t voxel) const {
    const int64_t unit = item / at_once;
    if (!(whole.image_of(unit)[voxel] >= level(first + item % at_once))) return static_cast<T>(NAN);
    return was_open(unit, voxel) ? before[unit * voxels() + voxel] : whole.start(unit, voxel);
  }

  MEDKERN_DEVICE_INLINE bool stirs(int64_t item, int64_t voxel, T start) const {
    if (first == 0) return start < INFINITY;  // nothing but seeds is reached
    return !std::isnan(start) && !was_open(item / at_once, voxel);
  }
};

template <class Tile, class Front>
MEDKERN_GLOBAL void barrier_fwd_start_kernel(Front front, TileGrid g, TileQueue queue,
                                             int64_t items) {
  start_tiles<Tile>(front, g, queue, items);
}

template <class Tile, class Front>
MEDKERN_GLOBAL void barrier_fwd_round_kernel(Front front, TileGrid g, TileQueue queue, int round) {
  visit_queued_tiles<Tile>(front, g, queue, round);
}

// The least M_u - u of these levels, and of those before; keeps the lowest level's flood for the
// next front, if there is one. Walls, NaN, are never less.
template <class T>
MEDKERN_GLOBAL void barrier_fwd_least_kernel(BarrierFront<T> front, T* keep, int64_t count) {
  const int64_t voxels = front.voxels();
  T* const distance = front.whole.a.distance;
  MEDKERN_GRID_STRIDE(i, count) {
    int64_t unit, voxel;
    split(i, voxels, unit, voxel);
    T least = front.first == 0 ? static_cast<T>(INFINITY) : distance[i];
    T flood = static_cast<T>(INFINITY);
    for (int64_t level = 0; level < front.at_once; ++level) {
      flood = front.values(unit * front.at_once + level)[voxel];
      const T barrier = flood - front.level(front.first + level);
      if (barrier < least) least = barrier;
    }
    distance[i] = least;
    if (keep != nullptr) keep[i] = flood;
  }
}

// Walls were NaN while values spread.
template <class T>
MEDKERN_GLOBAL void barrier_fwd_finish_kernel(T* distance, int64_t count) {
  MEDKERN_GRID_STRIDE(i, count) {
    if (std::isnan(distance[i])) distance[i] = static_cast<T>(INFINITY);
  }
}

}  // namespace medkern::MEDKERN_ISA
