// Shortest paths by raster sweeps over the grid, forwards and backwards, rows in vectors.
//
// Run until nothing changes, they give the exact map: every pass relaxes every edge one way, and
// rows whose sources have not changed since are passed over. The number of passes grows with the
// bends of the paths, so this suits smooth images and many seeds.
#pragma once

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

  int64_t number(int64_t z, int64_t y) const { return shape_.index(z, y, 0) / shape_.pitch; }

  bool pass(int direction, int64_t now) {
    bool any = false;
    const int64_t depth = shape_.size[0], height = shape_.size[1];
    for (int64_t i = 0; i < depth; ++i) {
      if (!stop_.keep_going()) return any;
      const int64_t z = direction > 0 ? i : depth - 1 - i;
      for (int64_t j = 0; j < height; ++j) {
        any = visit(direction, z, direction > 0 ? j : height - 1 - j, now) || any;
      }
    }
    return any;
  }

  // Relaxes a row from the rows before it that have changed since this direction's last pass, and
  // then along itself.
  bool visit(int direction, int64_t z, int64_t y, int64_t now) {
    const int64_t self = number(z, y);
    bool better = false;
    const auto from = [&](int dz, int dy) {
      const int64_t source = self + dz * (shape_.plane / shape_.pitch) + dy;
      if (changed_[source] >= now - 1) better = relax_row(z, y, dz, dy) || better;
    };
    if constexpr (Rows == 9) {
      for (int dy = -1; dy <= 1; ++dy) from(-direction, dy);
    }
    from(0, -direction);
    if (better || (now == 1 && changed_[self] == kSeeded)) better = chain(z, y) || better;
    if (better) changed_[self] = now;
    return better;
  }

  bool relax_row(int64_t z, int64_t y, int dz, int dy) {
    const int64_t at = shape_.index(z, y, 0), n = shape_.size[2], channels = item_.channels;
    const int r = stencil_.row(dz, dy);
    T* __restrict d = block_.distance + at;
    const T* __restrict source = block_.distance + at + stencil_.offset[r];
    const T* image = block_.image + at;
    const T* source_image = image + stencil_.offset[r];
    int better = 0;
    for (int64_t x = 0; x < n; ++x) {
      T best = d[x];
      for (int k = 0; k < 3; ++k) {
        const T w = weight(source_image + x + k, image + x, channels, stencil_.step[r][k]);
        const T offer = w + source[x + k];
        best = offer < best ? offer : best;
      }
      better |= best < d[x];
      d[x] = best;
    }
    return better != 0;
  }

  // Both ways along a row.
  bool chain(int64_t z, int64_t y) {
    const int64_t at = shape_.index(z, y, 0), n = shape_.size[2], channels = item_.channels;
    const T step = stencil_.step[stencil_.row(0, 0)][0];
    T* const d = block_.distance + at;
    const T* const image = block_.image + at;
    bool better = false;
    const auto relax = [&](int64_t from, int64_t to) {
      const T offer = weight(image + from, image + to, channels, step) + d[from];
      better = better || offer < d[to];
      d[to] = offer < d[to] ? offer : d[to];
    };
    for (int64_t x = 1; x < n; ++x) relax(x - 1, x);
    for (int64_t x = n - 1; x > 0; --x) relax(x, x - 1);
    return better;
  }

  MEDKERN_INLINE T weight(const T* from, const T* to, int64_t channels, T step) const {
    return edge_([&](int64_t c) { return from[c * shape_.count]; },
                 [&](int64_t c) { return to[c * shape_.count]; }, channels, step);
  }

  T row_residual(int64_t z, int64_t y) const {
    const int64_t at = shape_.index(z, y, 0);
    T most = 0;
    for (int64_t p = at; p < at + shape_.size[2]; ++p) {
      T best = block_.distance[p];
      for (int r = 0; r < Rows; ++r) {
        for (int k = 0; k < 3; ++k) {
          const int64_t q = p + stencil_.offset[r] + k;
          const T offer =
              weight(block_.image + q, block_.image + p, item_.channels, stencil_.step[r][k]) +
              block_.distance[q];
          best = offer < best ? offer : best;
        }
      }
      if (best < block_.distance[p]) most = std::max(most, reached(p) - best);
    }
    return most;
  }

  // A voxel never reached, which holds the ceiling, falls from infinity.
  T reached(int64_t p) const {
    const T d = block_.distance[p];
    return d < item_.ceiling ? d : std::numeric_limits<T>::infinity();
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
