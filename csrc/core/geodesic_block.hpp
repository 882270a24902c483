// A box of the grid in work memory, with one voxel of halo around it.
//
// Neighbours of any voxel of the box are at fixed offsets and none needs a check of bounds: what
// lies outside the grid or the mask has a NaN for its image, so that no edge to or from it is ever
// shorter than anything.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "geodesic_edge.hpp"

namespace medkern::MEDKERN_ISA {

struct BlockShape {
  int64_t size[3];  // without the halo
  int64_t halo_z;   // 0 in a picture, whose rows have 3 neighbouring rows, not 9
  int64_t pitch, plane, count;

  BlockShape(const int64_t (&box)[3], bool picture)
      : size{box[0], box[1], box[2]},
        halo_z(picture ? 0 : 1),
        pitch(box[2] + 2),
        plane(pitch * (box[1] + 2)),
        // One more: rows of neighbours are read four voxels at a time.
        count(plane * (box[0] + 2 * halo_z) + 1) {}

  MEDKERN_INLINE int64_t index(int64_t z, int64_t y, int64_t x) const {
    return (z + halo_z) * plane + (y + 1) * pitch + x + 1;
  }
};

// One (batch, class) of a problem.
template <class T>
struct GeodesicItem {
  const Grid& grid;
  int64_t channels;
  const T* image;   // [channels, D, H, W]
  const T* starts;  // [D, H, W]
  const bool* mask;
  T* distance;
  T ceiling;  // above every distance wanted: what is not reached starts there
};

// Distances not above the limit are those below this.
template <class T>
T ceiling_of(double limit) {
  const T near = static_cast<T>(limit);
  return static_cast<double>(near) <= limit
             ? std::nextafter(near, std::numeric_limits<T>::infinity())
             : near;
}

template <class T>
GeodesicItem<T> item_of(const GeodesicProblem& p, int64_t index) {
  const int64_t voxels = p.grid.count(), b = index / p.classes;
  return {p.grid,
          p.channels,
          static_cast<const T*>(p.image) + b * p.channels * voxels,
          static_cast<const T*>(p.starts) + index * voxels,
          p.mask ? p.mask + b * voxels : nullptr,
          static_cast<T*>(p.distance) + index * voxels,
          ceiling_of<T>(p.limit)};
}

template <class T>
class Block {
 public:
  T* distance;  // [count]
  T* image;     // [channels, count]
  int64_t origin[3];

  // Calls row(first, last, local, global) for the part of every row that lies in the grid, with
  // `margin` voxels of halo.
  template <class Row>
  void rows(const BlockShape& shape, const Grid& grid, int64_t margin, const Row& row) const {
    const int64_t first_z = std::max<int64_t>(-margin, -origin[0]);
    const int64_t first_y = std::max<int64_t>(-margin, -origin[1]);
    const int64_t first_x = std::max<int64_t>(-margin, -origin[2]);
    const int64_t last_z = std::min(shape.size[0] + margin, grid.size[0] - origin[0]);
    const int64_t last_y = std::min(shape.size[1] + margin, grid.size[1] - origin[1]);
    const int64_t last_x = std::min(shape.size[2] + margin, grid.size[2] - origin[2]);
    for (int64_t z = first_z; z < last_z; ++z) {
      for (int64_t y = first_y; y < last_y; ++y) {
        row(shape.index(z, y, first_x),
            grid.index(origin[0] + z, origin[1] + y, origin[2] + first_x), last_x - first_x);
      }
    }
  }

  void load(const BlockShape& shape, const GeodesicItem<T>& item) {
    std::fill(distance, distance + shape.count, item.ceiling);
    std::fill(image, image + shape.count, std::numeric_limits<T>::quiet_NaN());
    std::fill(image + shape.count, image + item.channels * shape.count, T{0});
    const int64_t voxels = item.grid.count();
    rows(shape, item.grid, 1, [&](int64_t local, int64_t global, int64_t n) {
      for (int64_t c = 0; c < item.channels; ++c) {
        std::copy_n(item.image + c * voxels + global, n, image + c * shape.count + local);
      }
      if (!item.mask) return;
      for (int64_t x = 0; x < n; ++x) {
        if (!item.mask[global + x]) image[local + x] = std::numeric_limits<T>::quiet_NaN();
      }
    });
  }

  // Sets the seeds' distances and calls seed(voxel, distance) on each.
  template <class Seed>
  void place_seeds(const BlockShape& shape, const GeodesicItem<T>& item, const Seed& seed) {
    rows(shape, item.grid, 0, [&](int64_t local, int64_t global, int64_t n) {
      for (int64_t x = 0; x < n; ++x) {
        const T start = item.starts[global + x];
        if (!(start < item.ceiling) || (item.mask && !item.mask[global + x])) continue;
        distance[local + x] = start;
        seed(local + x, start);
      }
    });
  }

  void store(const BlockShape& shape, const GeodesicItem<T>& item) const {
    constexpr T inf = std::numeric_limits<T>::infinity();
    rows(shape, item.grid, 0, [&](int64_t local, int64_t global, int64_t n) {
      for (int64_t x = 0; x < n; ++x) {
        const T d = distance[local + x];
        item.distance[global + x] = d < item.ceiling ? d : inf;
      }
    });
  }
};

// The neighbouring rows of a voxel in a block, and the steps to the voxels in them.
template <class T, int Rows>
struct Stencil {
  int64_t offset[Rows];  // of the neighbour at x - 1
  T step[Rows][4];       // of x - 1, x, x + 1; inf where there is no neighbour
  T shortest;            // of all steps

  Stencil(const BlockShape& shape, const GeodesicProblem& p, const Neighbour* near) {
    constexpr T inf = std::numeric_limits<T>::infinity();
    constexpr int planes = Rows / 3;
    for (int r = 0; r < Rows; ++r) {
      const int dz = planes == 3 ? r / 3 - 1 : 0, dy = r % 3 - 1;
      offset[r] = dz * shape.plane + dy * shape.pitch - 1;
      std::fill(step[r], step[r] + 4, inf);
    }
    shortest = inf;
    for (int i = 0; i < p.neighbour_count; ++i) {
      T& s = step[row(near[i].step[0], near[i].step[1])][near[i].step[2] + 1];
      s = step_of<T>(p.metric, p.lam, near[i].length);
      shortest = std::min(shortest, s);
    }
  }

  static int row(int dz, int dy) { return (Rows == 9 ? 3 * (dz + 1) : 0) + dy + 1; }
};

}  // namespace medkern::MEDKERN_ISA
