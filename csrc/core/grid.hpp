// A regular grid of one to three axes and its neighbourhoods.
//
// Axes are D, H, W; a picture has D = 1, a line D = H = 1. A voxel's index is its row-major
// position. Lengths are in the units of the spacing (mm, or voxels where the spacing is 1).
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace medkern {

struct Grid {
  int64_t size[3] = {1, 1, 1};  // D, H, W

  int64_t count() const { return size[0] * size[1] * size[2]; }
  int64_t index(int64_t z, int64_t y, int64_t x) const { return (z * size[1] + y) * size[2] + x; }
};

struct Neighbour {
  int step[3];     // along D, H, W; each -1, 0 or 1
  int64_t offset;  // of the row-major index
  double length;   // of the step
};

// Neighbours across at most `connectivity` axes at once (1: faces; the grid's rank: all), in
// row-major order of their steps. Axes of one voxel have none: 2-D gives 4 or 8, 3-D 6, 18 or 26.
inline std::vector<Neighbour> neighbours(const Grid& grid, int connectivity,
                                         const double (&spacing)[3]) {
  std::vector<Neighbour> found;
  for (int dz = -1; dz <= 1; ++dz) {
    for (int dy = -1; dy <= 1; ++dy) {
      for (int dx = -1; dx <= 1; ++dx) {
        const int axes = (dz != 0) + (dy != 0) + (dx != 0);
        if (axes == 0 || axes > connectivity) continue;
        if ((dz && grid.size[0] == 1) || (dy && grid.size[1] == 1) || (dx && grid.size[2] == 1)) {
          continue;
        }
        const double z = dz * spacing[0], y = dy * spacing[1], x = dx * spacing[2];
        found.push_back({{dz, dy, dx}, grid.index(dz, dy, dx), std::sqrt(z * z + y * y + x * x)});
      }
    }
  }
  return found;
}

}  // namespace medkern
