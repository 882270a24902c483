// The vectorial minimum barrier distance of images with several channels, greedy: an upper bound.
//
// A path has a bounding box of its colours; its cost is the norm over channels of the box's sides.
// Every voxel keeps one path, and Dijkstra's algorithm extends the cheapest first. The kept path
// need not be a prefix of a better one, so the result is at least the minimum over all paths, and
// at least the norm of the channels' own exact distances. Ties are settled in row-major order; all
// arithmetic is in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <queue>
#include <utility>
#include <vector>

#include "core/barrier.hpp"

namespace medkern {

enum class BarrierNorm { l1, l2, linf };

template <class T>
class VectorialBarrier {
 public:
  VectorialBarrier(const BarrierProblem<T>& problem, const WalledGrid& grid, BarrierNorm norm,
                   int64_t unit, BarrierWork& work)
      : problem_(problem),
        grid_(grid),
        norm_(norm),
        work_(work),
        offsets_(grid.template offsets<int64_t>(problem.connectivity)),
        colour_(problem.image_of(unit / problem.sets)),
        plain_(static_cast<size_t>(grid.count()), -1),
        boxes_(static_cast<size_t>(problem.grid.count() * problem.channels)),
        candidate_(static_cast<size_t>(problem.channels)),
        cost_(static_cast<size_t>(grid.count()), std::numeric_limits<double>::infinity()) {
    const bool* mask = problem.mask_of(unit / problem.sets);
    grid.each([&](int64_t here, int64_t plain) {
      if (!mask || mask[plain]) plain_[here] = plain;
    });
  }

  void run(const bool* seeds) {
    grid_.each([&](int64_t here, int64_t plain) {
      if (seeds[plain] && plain_[here] >= 0) start(here);
    });
    int64_t visits = 0;
    while (!queue_.empty()) {
      const auto [cost, voxel] = queue_.top();
      queue_.pop();
      if (cost > cost_[voxel]) continue;
      for (const int64_t offset : offsets_) {
        if (plain_[voxel + offset] >= 0) extend(voxel, voxel + offset);
      }
      if (++visits % (kPollEvery / 16) == 0) work_.poll();
    }
  }

  double distance(int64_t voxel) const { return cost_[voxel]; }

 private:
  struct Side {
    T lowest, highest;
  };
  using Entry = std::pair<double, int64_t>;

  T colour(int64_t plain, int64_t channel) const {
    return colour_[channel * problem_.grid.count() + plain];
  }
  Side* box(int64_t plain) { return &boxes_[plain * problem_.channels]; }

  void start(int64_t voxel) {
    const int64_t plain = plain_[voxel];
    for (int64_t c = 0; c < problem_.channels; ++c) {
      box(plain)[c] = {colour(plain, c), colour(plain, c)};
    }
    cost_[voxel] = 0;
    queue_.emplace(0, voxel);
  }

  void extend(int64_t from, int64_t to) {
    if (cost_[from] >= cost_[to]) return;  // boxes only grow
    const Side* before = box(plain_[from]);
    for (int64_t c = 0; c < problem_.channels; ++c) {
      const T value = colour(plain_[to], c);
      candidate_[c] = {std::min(before[c].lowest, value), std::max(before[c].highest, value)};
    }
    const double cost = candidate_cost();
    if (!(cost < cost_[to])) return;
    cost_[to] = cost;
    std::copy(candidate_.begin(), candidate_.end(), box(plain_[to]));
    queue_.emplace(cost, to);
  }

  double candidate_cost() const {
    double sum = 0;
    for (const Side& side : candidate_) {
      const double length = static_cast<double>(side.highest) - static_cast<double>(side.lowest);
      switch (norm_) {
        case BarrierNorm::l1:
          sum += length;
          break;
        case BarrierNorm::l2:
          sum += length * length;
          break;
        case BarrierNorm::linf:
          sum = std::max(sum, length);
      }
    }
    return norm_ == BarrierNorm::l2 ? std::sqrt(sum) : sum;
  }

  const BarrierProblem<T>& problem_;
  const WalledGrid& grid_;
  BarrierNorm norm_;
  BarrierWork& work_;
  const std::vector<int64_t> offsets_;
  const T* colour_;
  std::vector<int64_t> plain_;  // row-major index of each voxel of the walled grid; -1: a wall
  std::vector<Side> boxes_;     // [D, H, W, channels]
  std::vector<Side> candidate_;
  std::vector<double> cost_;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue_;
};

}  // namespace medkern
