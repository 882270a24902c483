// Warping by a displacement field: out(p) = image(p + u(p)), its transpose in the image and its
// derivative in u. 2-D is 3-D with a depth of 1.
//
// image [batch, channels, *size], u [batch, ndim, *out] in axis order, out [batch, channels, *out];
// all contiguous. Voxel x of axis a lies at whole[a][x] + part[a][x] of the image (x + 0 for
// displacements in voxels); only part + scale u is rounded, never the sum with `whole`. Then, axis
// by axis, 1 (nearest), 2 (linear) or 4 (cubic) voxels are weighted: see reference/warp.py.
//
// Where an image has several channels, or storage and compute type differ, groups of kWarpWidths
// channels are rearranged to [voxel][width], so that one load fetches a voxel of all of them. A
// single channel is gathered: both taps along x in one 64-bit load.
//
// float16, bfloat16 and float32 compute in float32, float64 in float64. The transpose adds to a
// voxel in the order of the output voxels, in whatever slabs the threads work: same bits for any
// number of them. Channels are summed in an order that depends on their number only.
// Cost: reads of image and u, writes of out; linear 3-D: 21 FLOP a voxel and channel.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/float_type.hpp"

namespace medkern {

enum class WarpMode { nearest = 1, linear = 2, cubic = 4 };  // taps per axis
enum class WarpPadding { zeros, border, reflection };

constexpr int64_t kWarpChunk = 64;        // voxels of a row whose taps are held in the L1 cache
constexpr int kWarpWidths[] = {1, 4, 8};  // channels of a group; the last for all that have more
constexpr int64_t kWarpFar = int64_t{1} << 30;  // voxels outside: whoever is farther is there

struct WarpProblem {
  int ndim = 3;
  int64_t batch = 0, channels = 0;
  int64_t size[3] = {1, 1, 1}, out[3] = {1, 1, 1};
  WarpPadding padding = WarpPadding::zeros;
  double scale[3] = {1, 1, 1};         // voxels per unit of displacement
  double step[3] = {1, 1, 1};          // voxels per output voxel
  const void* displacement = nullptr;  // in the compute type; on a GPU of any
  bool add_displacement = false;       // compose: out += u
  // On the CPU, of every output index: int32_t for float, int64_t for double; the compute type.
  const void* whole[3] = {};
  const void* part[3] = {};

  MEDKERN_INLINE int64_t voxels() const { return size[0] * size[1] * size[2]; }
  MEDKERN_INLINE int64_t out_voxels() const { return out[0] * out[1] * out[2]; }
  MEDKERN_INLINE int64_t rows() const { return out[0] * out[1]; }
  MEDKERN_INLINE int slab_axis() const { return ndim == 3 ? 0 : 1; }
};

// Channels [first, first + count) of one sample, `count` <= the kernels' width. Planar arrays start
// at their first channel; `grouped` is [voxel][width] in the compute type.
struct WarpGroup {
  int64_t sample = 0, count = 0;
  const void* grouped = nullptr;  // the image
  void* sums = nullptr;           // transpose: where it is added up, like `grouped`
  const void* grad = nullptr;     // planar, storage type
  void* out = nullptr;            // planar: storage type, or of u in the compute type
  bool first = true;              // slope: write, do not add
};

struct WarpRange {
  int64_t low, high;
};

struct WarpKernels {
  // planar storage <-> [voxel][width], voxels [begin, end); `plane` voxels from channel to channel
  void (*group)(const void* planar, int64_t plane, int64_t count, void* grouped, int64_t begin,
                int64_t end);
  void (*ungroup)(const void* grouped, int64_t plane, int64_t count, void* planar, int64_t begin,
                  int64_t end);
  // rows [begin, end) of problem.rows()
  void (*forward)(const WarpProblem&, const WarpGroup&, int64_t begin, int64_t end);
  void (*slope)(const WarpProblem&, const WarpGroup&, int64_t begin, int64_t end);
  // Which indices of slab_axis() each row adds to.
  void (*ranges)(const WarpProblem&, int64_t sample, WarpRange*, int64_t begin, int64_t end);
  // Clears indices [low, high) of slab_axis() and adds all that lands there; ranges may be null.
  void (*transpose)(const WarpProblem&, const WarpGroup&, const WarpRange*, WarpRange slab);
};

// Nearest neighbours of all channels, copied: image and out of `bytes` per value; `lost` stands for
// a value without a position.
struct WarpCopy {
  const void* image = nullptr;
  void* out = nullptr;
  uint64_t lost = 0;
};
using WarpCopyKernel = void (*)(const WarpProblem&, const WarpCopy&, int64_t sample, int64_t begin,
                                int64_t end);

// For the instruction set in use.
WarpKernels warp_kernels(WarpMode mode, FloatType type, int width);
WarpCopyKernel warp_copy_kernel(int bytes, bool float64);

}  // namespace medkern
