// An approximation of the minimum barrier distance by raster scans: an upper bound.
//
// Every voxel keeps one path, by its lowest and highest value. A forward half scan visits the
// voxels in row-major order and takes the neighbours before them, those of other rows first, then
// the one in the row; a backward half scan mirrors it. A neighbour's path replaces the voxel's own
// where its extension has a smaller barrier. The kept path need not be a prefix of a better one,
// hence the approximation, also where nothing changes any more.
//
// J. Zhang et al., Minimum barrier salient object detection at 80 fps, ICCV 2015.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "core/barrier.hpp"

namespace medkern {

template <class Value, class T>
class BarrierRaster {
 public:
  BarrierRaster(const BarrierProblem<T>& problem, const WalledGrid& grid, int64_t unit,
                BarrierWork& work)
      : grid_(grid),
        work_(work),
        image_(static_cast<size_t>(grid.count()), kNowhere),
        lowest_(image_.size(), -kNowhere),
        highest_(image_.size(), kNowhere) {
    for (const int64_t offset : grid.template offsets<int64_t>(problem.connectivity)) {
      if (offset < -1) rows_before_.push_back(offset);
    }
    const int64_t sample = unit / problem.sets;
    const T* image = problem.image_of(sample);
    const bool *mask = problem.mask_of(sample), *seeds = problem.seeds_of(unit);
    grid.each([&](int64_t here, int64_t plain) {
      if (mask && !mask[plain]) return;
      image_[here] = static_cast<Value>(image[plain]);
      if (seeds[plain]) lowest_[here] = highest_[here] = image_[here];
    });
  }

  // Half scans until nothing changes, at most `most`. Returns how many were run, negated where one
  // of the last two still changed something.
  int64_t run(int64_t most) {
    int64_t scans = 0, idle = 0;
    while (scans < most && idle < 2) {
      const bool changed = scan(scans % 2 == 0 ? 1 : -1);
      ++scans;
      idle = changed ? 0 : idle + 1;
    }
    return idle == 2 ? scans : -scans;
  }

  Value distance(int64_t voxel) const { return highest_[voxel] - lowest_[voxel]; }

 private:
  // Walls have this intensity: no path through one is shorter than any other.
  static constexpr Value kNowhere = std::numeric_limits<Value>::infinity();

  bool scan(int direction) {
    const int64_t planes = grid_.inner.size[0], rows = grid_.inner.size[1];
    bool changed = false;
    for (int64_t i = 0; i < planes * rows; ++i) {
      const int64_t at = direction > 0 ? i : planes * rows - 1 - i;
      const int64_t row = grid_.row(at / rows, at % rows);
      for (const int64_t offset : rows_before_) changed |= take_row(row, direction * offset);
      changed |= take_along(row, direction);
      if ((visits_ += grid_.inner.size[2]) >= kPollEvery) {
        visits_ = 0;
        work_.poll();
      }
    }
    return changed;
  }

  bool take_row(int64_t row, int64_t offset) {
    const int64_t width = grid_.inner.size[2];
    const Value* __restrict image = &image_[row];
    Value* __restrict low = &lowest_[row], * __restrict high = &highest_[row];
    const Value* __restrict from_low = &lowest_[row + offset];
    const Value* __restrict from_high = &highest_[row + offset];
    int changed = 0;
    for (int64_t x = 0; x < width; ++x) {
      const Value new_low = from_low[x] < image[x] ? from_low[x] : image[x];
      const Value new_high = from_high[x] > image[x] ? from_high[x] : image[x];
      const bool better = new_high - new_low < high[x] - low[x];
      low[x] = better ? new_low : low[x];
      high[x] = better ? new_high : high[x];
      changed |= better;
    }
    return changed != 0;
  }

  bool take_along(int64_t row, int direction) {
    const int64_t width = grid_.inner.size[2];
    int64_t at = direction > 0 ? row : row + width - 1;
    Value low = -kNowhere, high = kNowhere;  // of the voxel before
    bool changed = false;
    for (int64_t x = 0; x < width; ++x, at += direction) {
      low = std::min(low, image_[at]);
      high = std::max(high, image_[at]);
      if (high - low < highest_[at] - lowest_[at]) {
        lowest_[at] = low;
        highest_[at] = high;
        changed = true;
      } else {
        low = lowest_[at];
        high = highest_[at];
      }
    }
    return changed;
  }

  const WalledGrid& grid_;
  BarrierWork& work_;
  std::vector<int64_t> rows_before_;  // offsets of neighbours in rows before the voxel's
  std::vector<Value> image_, lowest_, highest_;
  int64_t visits_ = 0;
};

}  // namespace medkern
