// The exact minimum barrier distance by one sweep over the levels of an image.
//
// The sweep raises the roof, level by level; voxels up to the roof are open. The floor of a voxel
// is the highest minimum of all paths to it through open voxels, so
//
//   rho(p) = min over roofs of (roof - floor(p)).
//
// When a voxel opens, its floor is the best of its open neighbours', or its own level. Every raised
// floor spreads: through voxels not below it unchanged (a stack), while a voxel below it takes its
// own level, which nothing can raise again, and waits in a bucket of that level; buckets are
// emptied from the top. So a voxel's floor is raised at most once per roof if one voxel opens or
// the openings wait in the buckets too, and time is O(raises * neighbours): 1 to 4 raises per voxel
// on most images of 8 bits, up to one per level in the worst case.
//
// Memory per voxel: two ranks, a distance and, with the levels, three indices; four more for
// witnesses.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "core/barrier.hpp"
#include "core/barrier_levels.hpp"

namespace medkern {

// A set of levels that finds its highest member in O(log_64 n).
class LevelSet {
 public:
  explicit LevelSet(int64_t levels) {
    do {
      levels = (levels + 63) / 64;
      words_.emplace_back(static_cast<size_t>(levels), 0);
    } while (levels > 1);
  }

  bool empty() const { return words_.back()[0] == 0; }

  void insert(int64_t level) {
    for (auto& words : words_) {
      uint64_t& word = words[static_cast<size_t>(level >> 6)];
      const bool known = word != 0;
      word |= uint64_t{1} << (level & 63);
      if (known) return;
      level >>= 6;
    }
  }

  int64_t take_highest() {
    int64_t level = 0;
    for (size_t i = words_.size(); i-- > 0;) {
      level = level * 64 + 63 - std::countl_zero(words_[i][static_cast<size_t>(level)]);
    }
    int64_t bit = level;
    for (auto& words : words_) {
      uint64_t& word = words[static_cast<size_t>(bit >> 6)];
      word &= ~(uint64_t{1} << (bit & 63));
      if (word) break;
      bit >>= 6;
    }
    return level;
  }

 private:
  std::vector<std::vector<uint64_t>> words_;  // bit i of one: word i of the one before is not 0
};

// Voxels by level. A voxel is in one bucket at most, so that lists through `next` hold them all.
template <class Index>
class Buckets {
 public:
  Buckets(int64_t levels, int64_t voxels)
      : head_(static_cast<size_t>(levels), -1), next_(static_cast<size_t>(voxels)), used_(levels) {}

  bool empty() const { return used_.empty(); }

  void push(int64_t level, Index voxel) {
    Index& head = head_[static_cast<size_t>(level)];
    if (head < 0) used_.insert(level);
    next_[static_cast<size_t>(voxel)] = head;
    head = voxel;
  }

  // Moves the highest bucket's voxels to the end of `into` and returns its level.
  int64_t take_highest(std::vector<Index>& into) {
    const int64_t level = used_.take_highest();
    Index& head = head_[static_cast<size_t>(level)];
    for (Index voxel = head; voxel >= 0; voxel = next_[static_cast<size_t>(voxel)]) {
      into.push_back(voxel);
    }
    head = -1;
    return level;
  }

 private:
  std::vector<Index> head_, next_;
  LevelSet used_;
};

// Where a path attains its extremes, in the walled grid; -1 where there is no path.
template <class Index>
struct Extremes {
  Index highest = -1, lowest = -1;
};

template <class Rank, class Value, class Index, bool kWitnesses>
class BarrierSweep {
 public:
  BarrierSweep(const WalledGrid& grid, const Levels<Value, Index>& levels, int connectivity,
               BarrierWork& work)
      : grid_(grid),
        levels_(levels),
        work_(work),
        offsets_(grid.offsets<Index>(connectivity)),
        voxels_(static_cast<size_t>(grid.count())),
        distance_(voxels_.size(), std::numeric_limits<Value>::infinity()),
        current_(kWitnesses ? voxels_.size() : 0),
        best_(current_.size()),
        buckets_(levels.count(), grid.count()) {
    for (int64_t level = 0; level < levels.count(); ++level) {
      for (Index i = levels.first[level]; i < levels.first[level + 1]; ++i) {
        voxels_[levels.order[i]].level = static_cast<Rank>(level);
      }
    }
  }

  void run(const bool* seeds) {
    grid_.each([&](int64_t here, int64_t plain) {
      if (seeds[plain] && voxels_[here].level != kWall) start(static_cast<Index>(here));
    });
    for (roof_ = 0; roof_ < levels_.count(); ++roof_) {
      const Index begin = levels_.first[roof_], end = levels_.first[roof_ + 1];
      if (end - begin == 1) {
        const Index voxel = levels_.order[begin];
        if (!open(voxel)) continue;
        stack_.push_back(voxel);
        spread(voxels_[voxel].floor);
      } else {
        for (Index i = begin; i < end; ++i) {
          const Index voxel = levels_.order[i];
          if (open(voxel)) buckets_.push(voxels_[voxel].floor, voxel);
        }
      }
      while (!buckets_.empty()) spread(static_cast<Rank>(buckets_.take_highest(stack_)));
    }
  }

  Value distance(int64_t voxel) const { return distance_[voxel]; }
  // Of several best paths, the one that the sweep found first.
  Extremes<Index> extremes(int64_t voxel) const { return best_[voxel]; }

 private:
  static constexpr Rank kWall = std::numeric_limits<Rank>::max();

  struct Voxel {
    Rank level = kWall;
    Rank floor = -1;  // -1: no path yet
  };

  // The path of the seed alone: its floor is its own level, even before it opens.
  void start(Index seed) {
    voxels_[seed].floor = voxels_[seed].level;
    distance_[seed] = 0;
    if constexpr (kWitnesses) current_[seed] = best_[seed] = {seed, seed};
  }

  // Whether `voxel`, whose level is the roof, has a floor to spread.
  bool open(Index voxel) {
    count_visits(1);
    Voxel& opened = voxels_[voxel];
    if (opened.floor == opened.level) return true;  // a seed
    const Rank roof = roof_;
    Rank best = -1;
    for (const Index offset : offsets_) {
      const Voxel n = voxels_[voxel + offset];
      // No branches, which would be guessed wrong; a seed above the roof has a floor already.
      best = std::max<Rank>(best, n.level > roof ? Rank{-1} : n.floor);
    }
    if (best < 0) return false;
    opened.floor = best;
    if constexpr (kWitnesses) current_[voxel] = {voxel, lowest_of_opening(voxel)};
    record(voxel, levels_.value[roof_] - levels_.value[opened.floor]);
    return true;
  }

  // Where the best path to a voxel that has just opened attains its minimum.
  Index lowest_of_opening(Index voxel) const {
    const Voxel opened = voxels_[voxel];
    if (opened.floor == opened.level) return voxel;
    const auto leads = [&](Index offset) {
      const Voxel n = voxels_[voxel + offset];
      return n.level <= roof_ && n.floor == opened.floor;
    };
    return current_[voxel + *std::find_if(offsets_.begin(), offsets_.end(), leads)].lowest;
  }

  // Raises all voxels that the stacked ones, of this floor, lead to.
  void spread(Rank floor) {
    // Local, as a store to a rank might change a member.
    const Rank roof = roof_;
    Voxel* const voxels = voxels_.data();
    const Index *const offsets = offsets_.data(), *const end = offsets + offsets_.size();
    const Value* const value = levels_.value.data();
    const Value barrier = value[roof] - value[floor];
    int64_t visits = 0;
    while (!stack_.empty()) {
      const Index voxel = stack_.back();
      stack_.pop_back();
      for (const Index* offset = offsets; offset != end; ++offset) {
        const Index next = voxel + *offset;
        Voxel& n = voxels[next];
        if (n.level > roof || n.floor >= floor || n.floor == n.level) continue;
        if constexpr (kWitnesses) {
          const Index lowest = n.level < floor ? next : current_[voxel].lowest;
          current_[next] = {current_[voxel].highest, lowest};
        }
        if (n.level < floor) {
          n.floor = n.level;
          record(next, value[roof] - value[n.level]);
          buckets_.push(n.level, next);
        } else {
          n.floor = floor;
          record(next, barrier);
          stack_.push_back(next);
        }
      }
      if (++visits == kPollEvery) count_visits(std::exchange(visits, 0));
    }
    count_visits(visits);
  }

  void record(Index voxel, Value barrier) {
    if (!(barrier < distance_[voxel])) return;
    distance_[voxel] = barrier;
    if constexpr (kWitnesses) best_[voxel] = current_[voxel];
  }

  void count_visits(int64_t visits) {
    visits_ += visits;
    if (visits_ < kPollEvery) return;
    visits_ = 0;
    work_.poll();
  }

  const WalledGrid& grid_;
  const Levels<Value, Index>& levels_;
  BarrierWork& work_;
  const std::vector<Index> offsets_;
  std::vector<Voxel> voxels_;
  std::vector<Value> distance_;
  std::vector<Extremes<Index>> current_;  // of the path that last raised the floor
  std::vector<Extremes<Index>> best_;     // of the path that set the distance
  Buckets<Index> buckets_;
  std::vector<Index> stack_;
  int64_t visits_ = 0;
  Rank roof_ = 0;
};

}  // namespace medkern
