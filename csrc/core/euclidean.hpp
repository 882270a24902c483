// Exact Euclidean distance transform of label images, 1-D, 2-D and 3-D, with nearest voxels.
//
//     D(p) = min over voxels q with label(q) != label(p) of |p - q|,    0 where label(p) = 0
//
// with |p - q| in the units of the spacing; for a mask that is the distance to the nearest zero.
// With `both_sides`, label 0 counts as a label like any other and labelled voxels are negative.
// Nothing outside the image counts; D is inf where there is no other label.
//
// labels: [volumes, D, H, W] contiguous, integers of 1, 2, 4 or 8 bytes, compared for equality
// only. distance: float or double, same shape; nearest: row-major index of q within its volume, the
// lowest of equals, -1 where there is none. The squared distance is separable: along W it comes
// from the ends of runs of one label, and each further axis takes the lower envelope of parabolas
//     f'(y) = min over s of f(s) + (y - s)^2,    f(s) taken as 0 where s has another label than y.
// (A voxel s beyond another label may be offered too: the voxel between is nearer.) Squares are in
// units of the spacing along W, hence exact integers on isotropic grids up to 2^24 (float) or 2^53.
//
// Cost: O(N log n) for axes of n voxels, O(N) in practice; one read and write of the distances per
// axis, and scratch of about 16 columns per thread.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "common/inline.hpp"
#include "common/parallel.hpp"

namespace medkern {

struct EuclideanProblem {
  int64_t volumes = 0;
  int64_t size[3] = {1, 1, 1};  // D, H, W
  const void* labels = nullptr;
  int label_bytes = 1;
  const double* spacing = nullptr;  // [volumes / sets, 3], of D, H, W
  int64_t sets = 1;                 // consecutive volumes of one spacing
  bool both_sides = false;
  bool wide = false;  // distances are double
  void* distance = nullptr;
  int64_t* nearest = nullptr;                // may be null
  const uint8_t* compares_labels = nullptr;  // [volumes]: more labels than 0 and one other count
};

constexpr int64_t kEuclideanColumns = 16;  // transformed side by side; one cache line of floats

// What one thread needs to transform columns of n voxels.
MEDKERN_INLINE int64_t euclidean_scratch_bytes(const EuclideanProblem& p, int64_t n) {
  const int64_t item = p.wide ? 8 : 4;  // of the distances, and of integers that go with them
  const int64_t index = p.nearest ? 8 : 0;
  return n * kEuclideanColumns * (4 * item + index) + 4 * n * item + 5 * 64;
}

// Rows of all volumes, [begin, end) of volumes * D * H: squared distances along W.
using EuclideanRows = void (*)(const EuclideanProblem&, bool last, int64_t begin, int64_t end);
// Groups of columns along `axis`, [begin, end) of euclidean_groups(): the envelope along it. `last`
// also turns squares into distances.
using EuclideanColumns = void (*)(const EuclideanProblem&, int axis, bool last, void* scratch,
                                  int64_t begin, int64_t end);
// Whether a volume of n voxels has two labels other than 0.
using EuclideanLabels = bool (*)(const void* labels, int64_t n);

struct EuclideanKernels {
  EuclideanRows rows;
  EuclideanColumns columns;
  EuclideanLabels labels;
};

// The kernels for the instruction set in use.
EuclideanKernels euclidean_kernels(int label_bytes, bool wide);

// Voxels between two neighbours along an axis; columns start at that many places in a plane.
MEDKERN_INLINE int64_t euclidean_stride(const EuclideanProblem& p, int axis) {
  return axis == 0 ? p.size[1] * p.size[2] : axis == 1 ? p.size[2] : 1;
}

MEDKERN_INLINE int64_t euclidean_groups_per_plane(const EuclideanProblem& p, int axis) {
  return (euclidean_stride(p, axis) + kEuclideanColumns - 1) / kEuclideanColumns;
}

MEDKERN_INLINE int64_t euclidean_groups(const EuclideanProblem& p, int axis) {
  const int64_t planes = p.volumes * (axis == 1 ? p.size[0] : 1);
  return planes * euclidean_groups_per_plane(p, axis);
}

namespace euclidean {

constexpr int64_t kVoxelsPerThread = 1 << 15;  // fewer do not repay waking a thread
constexpr int64_t kBlocksPerThread = 8;
constexpr int64_t kVoxelsPerCheck = 1 << 22;  // some milliseconds: how often to look for Ctrl-C

constexpr int64_t kCachedVoxels = 1 << 17;  // of a plane, whose distances stay in a core's cache
constexpr int64_t kPlanesPerThread = 4;     // fewer do not share out evenly

struct alignas(64) Line {
  unsigned char bytes[64];
};

inline int64_t lines(int64_t bytes) { return (bytes + 63) / 64; }

// body(worker, begin, end) over [0, units), stopping between portions when asked to. Each worker
// takes every workers-th block, as work is seldom spread evenly over an image.
template <class Body>
void share(const Parallel& parallel, int64_t units, int64_t voxels_per_unit, const Body& body) {
  const int64_t workers = std::max(parallel.threads(), 1);
  const int64_t portion = std::max<int64_t>(kVoxelsPerCheck * workers / voxels_per_unit, workers);
  const int64_t grain = std::max<int64_t>(kVoxelsPerThread / voxels_per_unit, 1);
  for (int64_t first = 0; first < units; first += portion) {
    parallel.check();
    const int64_t count = std::min(portion, units - first);
    const int64_t shares = std::clamp<int64_t>(count / grain, 1, workers);
    const int64_t blocks = std::min(count, shares == 1 ? 1 : shares * kBlocksPerThread);
    parallel.run(shares, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        for (int64_t b = i; b < blocks; b += shares) {
          body(i, first + count * b / blocks, first + count * (b + 1) / blocks);
        }
      }
    });
  }
}

}  // namespace euclidean

// Fills problem.distance, and problem.nearest where given.
inline void euclidean_distance(EuclideanProblem p, const Parallel& parallel) {
  using namespace euclidean;
  const int64_t voxels = p.size[0] * p.size[1] * p.size[2];
  if (p.volumes == 0 || voxels == 0) return;
  const EuclideanKernels kernels = euclidean_kernels(p.label_bytes, p.wide);

  std::vector<uint8_t> compares(static_cast<size_t>(p.volumes), p.both_sides);
  p.compares_labels = compares.data();
  if (!p.both_sides) {
    share(parallel, p.volumes, voxels, [&](int64_t, int64_t begin, int64_t end) {
      const auto* labels = static_cast<const char*>(p.labels);
      for (int64_t v = begin; v < end; ++v) {
        compares[static_cast<size_t>(v)] =
            kernels.labels(labels + v * voxels * p.label_bytes, voxels);
      }
    });
  }

  const int last = p.size[0] > 1 ? 0 : p.size[1] > 1 ? 1 : 2;
  const int64_t planes = p.volumes * p.size[0], plane = p.size[1] * p.size[2];
  const int64_t workers = std::max(parallel.threads(), 1);
  const int64_t each = lines(euclidean_scratch_bytes(p, std::max(p.size[0], p.size[1])));
  std::vector<Line> scratch(static_cast<size_t>(last < 2 ? each * workers : 0));
  const auto columns = [&](int axis, int64_t worker, int64_t begin, int64_t end) {
    kernels.columns(p, axis, axis == last, scratch.data() + worker * each, begin, end);
  };
  const auto rows = [&](int64_t begin, int64_t end) { kernels.rows(p, last == 2, begin, end); };

  if (p.size[1] > 1 && plane <= kCachedVoxels && planes >= kPlanesPerThread * workers) {
    // The rows of a plane are still in the cache when its columns follow at once.
    const int64_t groups = euclidean_groups_per_plane(p, 1);
    share(parallel, planes, plane, [&](int64_t worker, int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        rows(i * p.size[1], (i + 1) * p.size[1]);
        columns(1, worker, i * groups, (i + 1) * groups);
      }
    });
  } else {
    share(parallel, planes * p.size[1], p.size[2],
          [&](int64_t, int64_t begin, int64_t end) { rows(begin, end); });
    if (p.size[1] > 1) {
      share(parallel, euclidean_groups(p, 1), p.size[1] * kEuclideanColumns,
            [&](int64_t worker, int64_t begin, int64_t end) { columns(1, worker, begin, end); });
    }
  }
  if (p.size[0] > 1) {
    share(parallel, euclidean_groups(p, 0), p.size[0] * kEuclideanColumns,
          [&](int64_t worker, int64_t begin, int64_t end) { columns(0, worker, begin, end); });
  }
}

}  // namespace medkern
