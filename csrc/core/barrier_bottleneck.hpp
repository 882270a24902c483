// The bottleneck distance: the lowest maximum of all paths from the seeds, exact.
//
// One sweep over the levels in ascending order: when a voxel opens beside a reached one, or is a
// seed, it and all open voxels connected to it are reached, and the level is their distance. Every
// voxel is reached once: O(N * neighbours). Memory per voxel: a distance, two indices, two bytes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "core/barrier.hpp"
#include "core/barrier_levels.hpp"

namespace medkern {

template <class Value, class Index>
class BottleneckSweep {
 public:
  BottleneckSweep(const WalledGrid& grid, const Levels<Value, Index>& levels, int connectivity,
                  BarrierWork& work)
      : grid_(grid),
        levels_(levels),
        work_(work),
        offsets_(grid.offsets<Index>(connectivity)),
        state_(static_cast<size_t>(grid.count()), kClosed),
        seeded_(state_.size()),
        distance_(state_.size(), std::numeric_limits<Value>::infinity()),
        highest_(state_.size(), -1) {}

  void run(const bool* seeds) {
    grid_.each([&](int64_t here, int64_t plain) { seeded_[here] = seeds[plain]; });
    int64_t visits = 0;
    for (int64_t level = 0; level < levels_.count(); ++level) {
      for (Index i = levels_.first[level]; i < levels_.first[level + 1]; ++i) {
        const Index voxel = levels_.order[i];
        state_[voxel] = kOpen;
        if (seeded_[voxel] || beside_reached(voxel)) spread(voxel, levels_.value[level]);
        if (++visits % kPollEvery == 0) work_.poll();
      }
    }
  }

  Value distance(int64_t voxel) const { return distance_[voxel]; }
  // Where the maximum is attained; -1 where unreachable. Of several such voxels, the one whose
  // opening reached this voxel: among equals, row-major order decides.
  Index highest(int64_t voxel) const { return highest_[voxel]; }

 private:
  enum State : uint8_t { kClosed, kOpen, kReached };

  bool beside_reached(Index voxel) const {
    return std::any_of(offsets_.begin(), offsets_.end(),
                       [&](Index offset) { return state_[voxel + offset] == kReached; });
  }

  void reach(Index voxel, Index origin, Value level) {
    state_[voxel] = kReached;
    distance_[voxel] = level;
    highest_[voxel] = origin;
    stack_.push_back(voxel);
  }

  void spread(Index origin, Value level) {
    reach(origin, origin, level);
    for (int64_t visits = 1; !stack_.empty(); ++visits) {
      const Index voxel = stack_.back();
      stack_.pop_back();
      for (const Index offset : offsets_) {
        if (state_[voxel + offset] == kOpen) reach(voxel + offset, origin, level);
      }
      if (visits % kPollEvery == 0) work_.poll();
    }
  }

  const WalledGrid& grid_;
  const Levels<Value, Index>& levels_;
  BarrierWork& work_;
  const std::vector<Index> offsets_;
  std::vector<State> state_;
  std::vector<uint8_t> seeded_;
  std::vector<Value> distance_;
  std::vector<Index> highest_;
  std::vector<Index> stack_;
};

}  // namespace medkern
