// The exact minimum barrier distance by one sweep over the levels of an image.
//
// The sweep raises the roof, level by level; voxels up to the roof are open. The floor of a voxel
// is the highest minimum of all paths to it through open voxels, so
//
//   rho(p) = min over roofs of (roof - floor(p)).
//
// When a voxel opens, its floor is the best of its open neighbours', or its own level. Every raised
// floor spreads: through voxels not below it unchanged (a stack), while a voxel below it takes its
// own level, which nothing can raise again, and waits in a queue for that level; the queue is
// emptied from the top. So a voxel's floor is raised at most once per roof if one voxel opens or
// the openings wait in the queue too, and time is O(raises * neighbours): 1 to 4 raises per voxel
// on most images of 8 bits, up to one per level in the worst case.
//
// Memory per voxel: its floor and an index, beside the result and the few that wait; four indices
// more for witnesses.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "core/barrier.hpp"
#include "core/barrier_order.hpp"
#include "core/barrier_queue.hpp"
#include "core/barrier_rows.hpp"

namespace medkern {

// Where a path attains its extremes; -1 where there is no path.
template <class Index>
struct Extremes {
  Index highest = -1, lowest = -1;
};

template <class T, class Index, bool kWitnesses>
class BarrierSweep {
 public:
  using Types = BarrierTypes<T>;
  using Floor = typename Types::Floor;
  using Lane = typename Types::Lane;
  using Value = BarrierValue<T>;

  // distance: [D, H, W], filled by run().
  BarrierSweep(const Grid& grid, int connectivity, const T* image, const bool* mask,
               Value* distance, BarrierWork& work)
      : count_(grid.count()),
        image_(image),
        distance_(distance),
        work_(work),
        floors_(static_cast<size_t>(count_), Types::kNone),
        current_(kWitnesses ? floors_.size() : 0),
        best_(current_.size()),
        rows_(grid, connectivity, image, floors_.data()) {
    for (int64_t i = 0; i < count_; ++i) {
      if (is_wall(image, mask, i)) floors_[i] = Types::kWall;
    }
  }

  // order: see ascending_order.
  void run(const std::vector<Index>& order, const bool* seeds) {
    for (int64_t i = 0; i < count_; ++i) {
      distance_[i] = std::numeric_limits<Value>::infinity();
      if (seeds[i] && floors_[i] != Types::kWall) start(static_cast<Index>(i));
    }
    const size_t count = order.size();
    for (size_t begin = 0, end = 0; begin < count; begin = end) {
      roof_ = image_[order[begin]];
      while (end < count && image_[order[end]] == roof_) ++end;
      if (end - begin == 1) {
        const Index voxel = order[begin];
        if (begin + kAhead < count) fetch(order[begin + kAhead]);
        if (!open(voxel)) continue;
        stack_.push_back(voxel);
        spread(floors_[voxel]);
      } else {
        for (size_t i = begin; i < end; ++i) {
          if (i + kAhead < count) fetch(order[i + kAhead]);
          if (open(order[i])) queue_.push(floors_[order[i]], order[i]);
        }
      }
      while (!queue_.empty()) spread(static_cast<Lane>(queue_.take_highest(stack_)));
    }
  }

  // Of several best paths, the one that the sweep found first.
  Extremes<Index> extremes(int64_t voxel) const { return best_[voxel]; }

 private:
  static constexpr size_t kAhead = 8;  // voxels to open whose neighbours are being fetched

  void fetch(Index voxel) const {
    rows_.prefetch(voxel);
    __builtin_prefetch(distance_ + voxel, 1);
  }

  // The path of the seed alone: its floor is its own level, even before it opens.
  void start(Index seed) {
    floors_[seed] = static_cast<Floor>(image_[seed]);
    distance_[seed] = 0;
    if constexpr (kWitnesses) current_[seed] = best_[seed] = {seed, seed};
  }

  // Whether `voxel`, whose level is the roof, has a floor to spread.
  bool open(Index voxel) {
    count_visits(1);
    Floor& floor = floors_[voxel];
    if (floor == roof_) return true;  // a seed
    const Lane best = rows_.highest_floor(voxel, roof_);
    if (best == Types::kNone) return false;
    floor = static_cast<Floor>(best);
    if constexpr (kWitnesses) current_[voxel] = {voxel, lowest_of_opening(voxel)};
    record(voxel, best);
    return true;
  }

  // Where the best path to a voxel that has just opened attains its minimum.
  Index lowest_of_opening(Index voxel) const {
    const Lane floor = floors_[voxel];
    if (floor == roof_) return voxel;
    return current_[rows_.neighbour_of_floor(voxel, roof_, floor)].lowest;
  }

  // Raises all voxels that the stacked ones, of this floor, lead to.
  void spread(Lane floor) {
    int64_t visits = 0;
    while (!stack_.empty()) {
      const Index voxel = stack_.back();
      stack_.pop_back();
      for (uint64_t bits = rows_.improvable(voxel, roof_, floor); bits != 0; bits &= bits - 1) {
        raise(voxel, voxel + rows_.offset(std::countr_zero(bits)), floor);
      }
      if (++visits == kPollEvery) count_visits(std::exchange(visits, 0));
    }
    count_visits(visits);
  }

  void raise(Index from, Index voxel, Lane floor) {
    const Lane level = image_[voxel];
    if constexpr (kWitnesses) {
      current_[voxel] = {current_[from].highest, level < floor ? voxel : current_[from].lowest};
    }
    if (level < floor) {
      queue_.push(level, voxel);
      floor = level;
    } else {
      stack_.push_back(voxel);
    }
    floors_[voxel] = static_cast<Floor>(floor);
    record(voxel, floor);
  }

  void record(Index voxel, Lane floor) {
    const Value barrier = static_cast<Value>(roof_ - floor), before = distance_[voxel];
    // No branch, which would wait for the memory of the distance.
    distance_[voxel] = barrier < before ? barrier : before;
    if constexpr (kWitnesses) {
      if (barrier < before) best_[voxel] = current_[voxel];
    }
  }

  void count_visits(int64_t visits) {
    visits_ += visits;
    if (visits_ < kPollEvery) return;
    visits_ = 0;
    work_.poll();
  }

  const int64_t count_;
  const T* image_;
  Value* distance_;
  BarrierWork& work_;
  std::vector<Floor> floors_;
  std::vector<Extremes<Index>> current_;  // of the path that last raised the floor
  std::vector<Extremes<Index>> best_;     // of the path that set the distance
  const BarrierRows<T, Index> rows_;
  FloorQueue<T, Index> queue_;
  std::vector<Index> stack_;
  int64_t visits_ = 0;
  Lane roof_ = 0;
};

}  // namespace medkern
