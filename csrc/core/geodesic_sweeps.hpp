// Shortest paths by raster sweeps over the grid, forwards and backwards, rows in vectors.
//
// Run until nothing changes, they give the exact map: every pass relaxes every edge one way, and
// rows whose sources have not changed since are passed over. The number of passes grows with the
// bends of the paths, so this suits smooth images and many seeds.
#pragma once

#include <cstring>

#include "geodesic_block.hpp"
#include "geodesic_workers.hpp"

namespace medkern::MEDKERN_ISA {

template <class Edge, int Rows>
class SweepSolver {
 public:
  using T = typename Edge::Value;

  SweepSolver(const Edge& edge, const Stencil<T, Rows>& stencil, const BlockShape& shape,
              const GeodesicItem<T>& item, Stop& stop)
      : edge_(edge),
        stencil_(stencil),
        shape_(shape),
        item_(item),
        stop_(stop),
        memory_((1 + item.channels) * shape_.count),
        changed_(shape_.count / shape_.pitch) {
    block_.distance = memory_.get();
    block_.image = block_.distance + shape_.count;
    std::fill(block_.origin, block_.origin + 3, 0);
    std::fill(changed_.get(), changed_.get() + shape_.count / shape_.pitch, kNever);
    block_.load(shape_, item_);
    block_.place_seeds(shape_, item_,
                       [&](int64_t voxel, T) { changed_[voxel / shape_.pitch] = kSeeded; });
  }

  // At most `pairs` pairs of passes; returns how many ran. Converged where a pass changed nothing.
  int64_t run(int64_t pairs) {
    int64_t pair = 0;
    for (; pair < pairs && !converged_; ++pair) {
      const bool down = pass(1, 2 * pair + 1);
      const bool up = pass(-1, 2 * pair + 2);
      if (!stop_.keep_going()) break;
      converged_ = !down && !up;
    }
    return pair;
  }

  // The largest decrease that relaxing every edge once more would bring: 0 where the map is exact.
  T residual() const {
    if (converged_) return 0;
    T most = 0;
    for (int64_t z = 0; z < shape_.size[0]; ++z) {
      for (int64_t y = 0; y < shape_.size[1]; ++y) most = std::max(most, row_residual(z, y));
    }
    return most;
  }

  void store() const { block_.store(shape_, item_); }

 private:
  // Passes count from 1. A row with seeds is news to the first pass of either direction.
  static constexpr int64_t kNever = -2, kSeeded = 1;
  static constexpr int kOwnRow = Rows / 2;
  using Wide = Vec<T>;
  static constexpr int kWide = kLanes<T>;

  int64_t number(int64_t z, int64_t y) const { return shape_.index(z, y, 0) / shape_.pitch; }

  bool pass(int direction, int64_t now) {
    const int64_t depth = shape_.size[0], height = shape_.size[1];
    bool better = false;
    for (int64_t i = 0; i < depth * height; ++i) {
      if (i % 64 == 0 && !stop_.keep_going()) break;
      const int64_t row = direction > 0 ? i : depth * height - 1 - i;
      better = visit(direction, row / height, row % height, now) || better;
    }
    return better;
  }

  // Relaxes a row from the rows before it that have changed since this direction's last pass, and
  // then along itself.
  bool visit(int direction, int64_t z, int64_t y, int64_t now) {
    const int64_t self = number(z, y);
    bool better = false;
    const auto from = [&](int dz, int dy) {
      const int64_t source = self + dz * (shape_.plane / shape_.pitch) + dy;
      if (changed_[source] >= now - 1) better = relax_row(z, y, stencil_.row(dz, dy)) || better;
    };
    if constexpr (Rows == 9) {
      for (int dy = -1; dy <= 1; ++dy) from(-direction, dy);
    }
    from(0, -direction);
    if (better || (now == 1 && changed_[self] == kSeeded)) {
      better = chain(z, y, 1) || better;
      better = chain(z, y, -1) || better;
    }
    if (better) changed_[self] = now;
    return better;
  }

  // What paths through neighbour k of row r of the stencil offer to a voxel, V = T, or a vector of
  // voxels.
  template <class V>
  MEDKERN_INLINE V offers(const T* distance, const T* image, int r, int k) const {
    const int64_t source = stencil_.offset[r] + k;
    const auto from = [&](int64_t c) { return load_raw<V>(image + source + c * shape_.count); };
    const auto to = [&](int64_t c) { return load_raw<V>(image + c * shape_.count); };
    const V step = V{} + stencil_.step[r][k];
    return edge_(from, to, Edge::one_channel ? 1 : item_.channels, step) +
           load_raw<V>(distance + source);
  }

  // Relaxes voxels from three neighbours in row r; returns where that helped.
  template <class V>
  MEDKERN_INLINE auto relax(T* distance, const T* image, int r) const {
    const V before = load_raw<V>(distance);
    V best = before;
    for (int k = 0; k < 3; ++k) {
      const V offer = offers<V>(distance, image, r, k);
      best = offer < best ? offer : best;
    }
    std::memcpy(distance, &best, sizeof(best));
    return best < before;
  }

  bool relax_row(int64_t z, int64_t y, int r) {
    const int64_t at = shape_.index(z, y, 0), n = shape_.size[2];
    T* const distance = block_.distance + at;
    const T* const image = block_.image + at;
    bool better = false;
    if (n < kWide) {
      for (int64_t x = 0; x < n; ++x) better = relax<T>(distance + x, image + x, r) || better;
      return better;
    }
    auto helped = relax<Wide>(distance + n - kWide, image + n - kWide, r);
    for (int64_t x = 0; x + kWide < n; x += kWide) {
      helped |= relax<Wide>(distance + x, image + x, r);
    }
    return any(helped);
  }

  // One way along a row. The chain is slow, since every voxel waits for the one before it, and
  // passed over where none of a vector's voxels would start it.
  bool chain(int64_t z, int64_t y, int direction) {
    const int64_t n = shape_.size[2];
    int64_t at = shape_.index(z, y, direction > 0 ? 0 : n - 1);
    bool better = false;
    const auto voxels = [&](int64_t count) {
      for (; count > 0; --count, at += direction) {
        const T offer = offers<T>(block_.distance + at, block_.image + at, kOwnRow, 1 - direction);
        if (offer < block_.distance[at]) {
          block_.distance[at] = offer;
          better = true;
        }
      }
    };
    int64_t left = n;
    for (; left >= kWide; left -= kWide) {
      const int64_t low = direction > 0 ? at : at - kWide + 1;
      const auto offer =
          offers<Wide>(block_.distance + low, block_.image + low, kOwnRow, 1 - direction);
      if (any(offer < load_raw<Wide>(block_.distance + low))) {
        voxels(kWide);
      } else {
        at += direction * kWide;
      }
    }
    voxels(left);
    return better;
  }

  // How far one more relaxation of all its edges would lower a voxel, V = T, or a vector of them.
  template <class V>
  MEDKERN_INLINE V fall(const T* distance, const T* image) const {
    const V before = load_raw<V>(distance);
    V best = before;
    for (int r = 0; r < Rows; ++r) {
      for (int k = 0; k < 3; ++k) {
        const V offer = offers<V>(distance, image, r, k);
        best = offer < best ? offer : best;
      }
    }
    // A voxel never reached, which holds the ceiling, falls from infinity.
    const V reached = V{} + item_.ceiling, inf = V{} + std::numeric_limits<T>::infinity();
    return best < before ? (before < reached ? before : inf) - best : V{};
  }

  T row_residual(int64_t z, int64_t y) const {
    const int64_t at = shape_.index(z, y, 0), n = shape_.size[2];
    const T* const distance = block_.distance + at;
    const T* const image = block_.image + at;
    T most = 0;
    if (n < kWide) {
      for (int64_t x = 0; x < n; ++x) most = std::max(most, fall<T>(distance + x, image + x));
      return most;
    }
    Wide falls = fall<Wide>(distance + n - kWide, image + n - kWide);
    for (int64_t x = 0; x + kWide < n; x += kWide) {
      const Wide here = fall<Wide>(distance + x, image + x);
      falls = here > falls ? here : falls;
    }
    for (int i = 0; i < kWide; ++i) most = std::max(most, falls[i]);
    return most;
  }

  const Edge& edge_;
  const Stencil<T, Rows>& stencil_;
  const BlockShape& shape_;
  const GeodesicItem<T>& item_;
  Stop& stop_;
  const Array<T> memory_;
  const Array<int64_t> changed_;  // per row of the block: the last pass that changed it
  Block<T> block_;
  bool converged_ = false;
};

}  // namespace medkern::MEDKERN_ISA
