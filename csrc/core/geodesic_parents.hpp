// Predecessors on the shortest paths of an exact distance map.
#pragma once

#include "geodesic_block.hpp"
#include "geodesic_workers.hpp"

namespace medkern::MEDKERN_ISA {

template <class Edge>
class ParentFinder {
 public:
  using T = typename Edge::Value;

  ParentFinder(const Edge& edge, const GeodesicProblem& p, int64_t index,
               const GeodesicItem<T>& item)
      : edge_(edge),
        item_(item),
        voxels_(item.grid.count()),
        parents_(p.parents + index * voxels_),
        near_(p.neighbours + index / p.classes * p.neighbour_count),
        count_(p.neighbour_count) {
    for (int i = 0; i < count_; ++i) {
      step_[i] = step_of<T>(p.metric, p.lam, near_[i].length);
      offset_[i] = near_[i].offset;
    }
    offset_[count_] = 0;
  }

  // Rows, independently of each other; then what they left open. False: no exact map.
  bool run(const Workers& workers) {
    const Grid& grid = item_.grid;
    workers.each(grid.size[0] * grid.size[1],
                 [&](int64_t row) { nearer_row(row / grid.size[1], row % grid.size[1]); });
    return workers.stop().status() != GeodesicStatus::done || settle_equals();
  }

 private:
  static constexpr int64_t kUnreachable = -1, kOpen = -2, kNext = -3;
  static constexpr int lanes = kLanes<T>;
  using V = Vec<T>;
  using Codes = Vec<std::conditional_t<sizeof(T) == 4, int32_t, int64_t>>;

  bool walled(int64_t p) const { return item_.mask && !item_.mask[p]; }

  // Whether D(p) = D(q) + w(q, p) for the neighbour q = p + near_[i].
  MEDKERN_INLINE bool is_tight(int64_t p, int i) const {
    const int64_t q = p + near_[i].offset;
    if (!(item_.distance[q] <= item_.distance[p]) || walled(q)) return false;
    const T w =
        edge_([&](int64_t c) { return item_.image[c * voxels_ + q]; },
              [&](int64_t c) { return item_.image[c * voxels_ + p]; }, item_.channels, step_[i]);
    return w + item_.distance[q] == item_.distance[p];
  }

  template <class Take>
  MEDKERN_INLINE void neighbours_of(int64_t z, int64_t y, int64_t x, const Take& take) const {
    const int64_t (&size)[3] = item_.grid.size;
    const auto inside = [](int64_t at, int64_t n) { return at >= 0 && at < n; };
    for (int i = 0; i < count_; ++i) {
      const int (&step)[3] = near_[i].step;
      if (!inside(z + step[0], size[0]) || !inside(y + step[1], size[1]) ||
          !inside(x + step[2], size[2])) {
        continue;
      }
      if (take(i)) return;
    }
  }

  // The parent among the nearer voxels, if any.
  int64_t nearer(int64_t z, int64_t y, int64_t x) const {
    const int64_t p = item_.grid.index(z, y, x);
    const T d = item_.distance[p];
    if (!(d < std::numeric_limits<T>::infinity()) || walled(p)) return kUnreachable;
    if (d == item_.starts[p]) return p;
    int64_t parent = kOpen;
    neighbours_of(z, y, x, [&](int i) {
      const int64_t q = p + near_[i].offset;
      if (!(item_.distance[q] < d) || !is_tight(p, i)) return false;
      parent = q;
      return true;
    });
    return parent;
  }

  // `nearer` of a whole row. Inside it, where x - 1 and x + 1 exist, a vector of voxels at a time.
  void nearer_row(int64_t z, int64_t y) const {
    const int64_t width = item_.grid.size[2], first = item_.grid.index(z, y, 0);
    int order[26], n = 0;  // of the neighbours in rows that exist, the last one first
    for (int i = count_; i-- > 0;) {
      const int64_t at_z = z + near_[i].step[0], at_y = y + near_[i].step[1];
      if (at_z >= 0 && at_z < item_.grid.size[0] && at_y >= 0 && at_y < item_.grid.size[1]) {
        order[n++] = i;
      }
    }
    const auto vector_at = [&](int64_t x) {
      const int64_t p = first + x;
      const Codes found = nearer_code(p, order, n);
      for (int lane = 0; lane < lanes; ++lane) {
        const int64_t parent = parent_of(p + lane, static_cast<int>(found[lane]));
        const bool meets_wall = item_.mask && (walled(p + lane) || (parent >= 0 && walled(parent)));
        parents_[p + lane] = meets_wall ? nearer(z, y, x + lane) : parent;
      }
    };
    const int64_t last = width - 1 - lanes;  // where the last vector starts
    for (int64_t x = 1; x < last; x += lanes) vector_at(x);
    if (last > 0) vector_at(last);
    for (int64_t x = 0; x < width; ++x) {
      if (x == 0 || x == width - 1 || last <= 0) parents_[first + x] = nearer(z, y, x);
    }
  }

  // Of `lanes` voxels from p on, the first neighbour that is nearer and tight, or count_.
  MEDKERN_INLINE Codes nearer_code(int64_t p, const int* order, int n) const {
    const V d = load<T>(item_.distance + p);
    Codes found = Codes{} + count_;
    for (int j = 0; j < n; ++j) {
      const int64_t q = p + near_[order[j]].offset;
      const V at_q = load<T>(item_.distance + q);
      const V w = edge_([&](int64_t c) { return load<T>(item_.image + c * voxels_ + q); },
                        [&](int64_t c) { return load<T>(item_.image + c * voxels_ + p); },
                        item_.channels, V{} + step_[order[j]]);
      const auto takes = (at_q < d) & (w + at_q == d);
      found = takes ? Codes{} + order[j] : found;
    }
    return found;
  }

  MEDKERN_INLINE int64_t parent_of(int64_t p, int code) const {
    const T d = item_.distance[p];
    const int64_t tight = p + offset_[code], parent = code == count_ ? kOpen : tight;
    if (!(d < std::numeric_limits<T>::infinity())) return kUnreachable;
    return d == item_.starts[p] ? p : parent;
  }

  template <class Take>
  void neighbours_of(int64_t p, const Take& take) const {
    const Grid& grid = item_.grid;
    neighbours_of(p / grid.size[2] / grid.size[1], p / grid.size[2] % grid.size[1],
                  p % grid.size[2], take);
  }

  // The first settled neighbour as far as p from which p is tight, or kOpen.
  int64_t settled_equal(int64_t p) const {
    int64_t parent = kOpen;
    neighbours_of(p, [&](int i) {
      const int64_t q = p + near_[i].offset;
      if (parents_[q] < 0 || !is_tight(p, i)) return false;
      parent = q;
      return true;
    });
    return parent;
  }

  // Level by level: a level's parents are all chosen before any of it counts as settled.
  bool settle_equals() {
    int64_t open = 0;
    for (int64_t p = 0; p < voxels_; ++p) open += parents_[p] == kOpen;
    if (open == 0) return true;
    const Array<int64_t> level(open), chosen(open), next(open);
    int64_t n = 0;
    for (int64_t p = 0; p < voxels_; ++p) {
      if (parents_[p] == kOpen && settled_equal(p) != kOpen) level[n++] = p;
    }
    while (n > 0) {
      for (int64_t i = 0; i < n; ++i) chosen[i] = settled_equal(level[i]);
      for (int64_t i = 0; i < n; ++i) parents_[level[i]] = chosen[i];
      open -= n;
      n = gather_next(level.get(), n, next.get());
      std::copy_n(next.get(), n, level.get());
    }
    return open == 0;
  }

  int64_t gather_next(const int64_t* level, int64_t n, int64_t* next) {
    int64_t found = 0;
    for (int64_t i = 0; i < n; ++i) {
      neighbours_of(level[i], [&](int k) {
        const int64_t p = level[i] + near_[k].offset;
        if (parents_[p] == kOpen && settled_equal(p) != kOpen) {
          parents_[p] = kNext;
          next[found++] = p;
        }
        return false;
      });
    }
    return found;
  }

  const Edge& edge_;
  const GeodesicItem<T>& item_;
  const int64_t voxels_;
  int64_t* const parents_;
  const Neighbour* const near_;
  const int count_;
  T step_[26];
  int64_t offset_[27];  // the last one, of none, is there to be read
};

}  // namespace medkern::MEDKERN_ISA
