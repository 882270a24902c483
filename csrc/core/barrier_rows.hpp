// The neighbours of a voxel, four of a row at a time.
//
// Whether a neighbour is open, and has a lower floor, is as good as random: a branch for each would
// be guessed wrong. So the answers of all come back as the bits of one word: bit 4 r + i is voxel
// i, from the left, of the r-th row around the voxel; voxel 3 of a row never counts. Voxels at the
// border of the grid, which have fewer neighbours, go one by one.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "core/grid.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace medkern {

// Floor: holds every intensity, one below all (no path) and one above all (a wall); as narrow as
// can be. Lane: what both are compared in.
template <class T>
struct BarrierTypes {
  using Floor = std::conditional_t<std::is_floating_point_v<T>, T,
                                   std::conditional_t<sizeof(T) == 1, int16_t, int32_t>>;
  using Lane = std::conditional_t<std::is_floating_point_v<T>, T, int32_t>;
  using Limits = std::numeric_limits<Floor>;
  static constexpr Floor kNone = Limits::has_infinity ? -Limits::infinity() : Limits::min();
  static constexpr Floor kWall = Limits::has_infinity ? Limits::infinity() : Limits::max();
};

namespace detail {

template <class T>
struct QuadOf {
  typedef T type __attribute__((vector_size(4 * sizeof(T))));
};
template <class T>
using Quad = typename QuadOf<T>::type;

template <class Lane, class S>
inline Quad<Lane> load_quad(const S* p) {
  Quad<S> raw;
  std::memcpy(&raw, p, sizeof(raw));
  if constexpr (std::is_same_v<S, Lane>) {
    return raw;
  } else {
    return __builtin_convertvector(raw, Quad<Lane>);
  }
}

// Bit i says whether lane i of a comparison holds.
inline unsigned bits_of(Quad<int32_t> holds) {
#if defined(__x86_64__)
  return static_cast<unsigned>(_mm_movemask_ps(reinterpret_cast<__m128>(holds)));
#else
  return static_cast<unsigned>((holds[0] & 1) | (holds[1] & 2) | (holds[2] & 4) | (holds[3] & 8));
#endif
}
inline unsigned bits_of(Quad<int64_t> holds) {
  return static_cast<unsigned>((holds[0] & 1) | (holds[1] & 2) | (holds[2] & 4) | (holds[3] & 8));
}

// Division by a constant, exact below 2^32 (D. Lemire, O. Kaser, N. Kurz, Faster remainder by
// direct computation, 2019).
class Divisor {
 public:
  explicit Divisor(int64_t value)
      : value_(value), inverse_(~uint64_t{0} / static_cast<uint64_t>(value) + 1) {}

  template <class Index>
  Index quotient(Index index) const {
    if (sizeof(Index) > 4 || value_ == 1) return static_cast<Index>(index / value_);
    __extension__ typedef unsigned __int128 Wide;
    return static_cast<Index>(Wide{inverse_} * static_cast<uint32_t>(index) >> 64);
  }

 private:
  int64_t value_;
  uint64_t inverse_;
};

}  // namespace detail

template <class T, class Index>
class BarrierRows {
 public:
  using Floor = typename BarrierTypes<T>::Floor;
  using Lane = typename BarrierTypes<T>::Lane;

  BarrierRows(const Grid& grid, int connectivity, const T* levels, const Floor* floors)
      : grid_(grid), width_(grid.size[2]), height_(grid.size[1]), levels_(levels), floors_(floors) {
    const int deep = grid.size[0] > 1;
    for (int dz = -deep; dz <= deep; ++dz) {
      for (int dy = -1; dy <= 1; ++dy) add_row(dz, dy, connectivity);
    }
    const int64_t reach = grid.index(deep, 1, 1), count = grid.count();
    const bool inner = grid.size[2] > 2 && grid.size[1] > 2 && (!deep || grid.size[0] > 2);
    first_inner_ = inner ? reach : count;
    end_inner_ = count - reach - 1;  // four voxels are read from the last row
  }

  Index offset(int bit) const { return offsets_[bit]; }

  // The neighbours up to the roof that a path of this floor raises.
  uint64_t improvable(Index voxel, Lane roof, Lane floor) const {
    if (!is_inner(voxel)) {
      return each_beside(voxel, [=](Lane level, Lane there) {
        return level <= roof && there < floor && there < level;
      });
    }
    uint64_t bits = 0;
    for (int i = 0; i < rows_; ++i) {
      const auto level = levels_of(voxel, i);
      const auto there = floors_of(voxel, i);
      const auto holds = (level <= roof) & (there < floor) & (there < level);
      bits |= static_cast<uint64_t>(detail::bits_of(holds)) << 4 * i;
    }
    return bits & lanes_;
  }

  // The highest floor of the neighbours up to the roof, and none if there is none.
  Lane highest_floor(Index voxel, Lane roof) const {
    constexpr Lane kNone = BarrierTypes<T>::kNone;
    if (!is_inner(voxel)) {
      Lane best = kNone;
      each_beside(voxel, [&](Lane level, Lane there) {
        if (level <= roof && there <= roof) best = std::max(best, there);
        return false;
      });
      return best;
    }
    detail::Quad<Lane> best = {kNone, kNone, kNone, kNone};
    for (int i = 0; i < rows_; ++i) {
      const auto there = floors_of(voxel, i);
      // Open, and no wall.
      const auto holds = (levels_of(voxel, i) <= roof) & (there <= roof) & allowed_[i];
      best = (holds & (there > best)) ? there : best;
    }
    return std::max(std::max(best[0], best[1]), best[2]);
  }

  // A neighbour up to the roof with this floor; there is one.
  Index neighbour_of_floor(Index voxel, Lane roof, Lane floor) const {
    const uint64_t found =
        each_beside(voxel, [=](Lane level, Lane there) { return level <= roof && there == floor; });
    return voxel + offsets_[std::countr_zero(found)];
  }

  void prefetch(Index voxel) const {
    for (int i = 0; i < rows_; ++i) {
      const Index at =
          std::clamp<Index>(voxel + starts_[i] + 1, 0, static_cast<Index>(grid_.count() - 1));
      __builtin_prefetch(floors_ + at);
      __builtin_prefetch(levels_ + at);
    }
  }

 private:
  using Holds = decltype(detail::Quad<Lane>{} < detail::Quad<Lane>{});

  void add_row(int dz, int dy, int connectivity) {
    starts_[rows_] = static_cast<Index>(grid_.index(dz, dy, -1));
    for (int dx = -1; dx <= 1; ++dx) {
      const int axes = (dz != 0) + (dy != 0) + (dx != 0), bit = 4 * rows_ + dx + 1;
      offsets_[bit] = static_cast<Index>(grid_.index(dz, dy, dx));
      if (axes == 0 || axes > connectivity) continue;
      lanes_ |= uint64_t{1} << bit;
      allowed_[rows_][dx + 1] = -1;
      beside_.push_back({{dz, dy, dx}, bit});
    }
    ++rows_;
  }

  detail::Quad<Lane> levels_of(Index voxel, int row) const {
    return detail::load_quad<Lane>(levels_ + voxel + starts_[row]);
  }
  detail::Quad<Lane> floors_of(Index voxel, int row) const {
    return detail::load_quad<Lane>(floors_ + voxel + starts_[row]);
  }

  // Whether all neighbours, and the fourth voxels of their rows, are in the grid.
  bool is_inner(Index voxel) const {
    if (voxel < first_inner_ || voxel >= end_inner_) return false;
    const Index row = width_.quotient(voxel);
    const int64_t x = voxel - row * grid_.size[2];
    if (x == 0 || x == grid_.size[2] - 1) return false;
    if (grid_.size[0] == 1) return true;
    const int64_t y = row - height_.quotient(row) * grid_.size[1];
    return y != 0 && y != grid_.size[1] - 1;
  }

  template <class Test>
  uint64_t each_beside(Index voxel, const Test& test) const {
    const Index row = width_.quotient(voxel), plane = height_.quotient(row);
    const int64_t at[3] = {plane, row - plane * grid_.size[1], voxel - row * grid_.size[2]};
    uint64_t bits = 0;
    for (const Beside& n : beside_) {
      bool inside = true;
      for (int axis = 0; axis < 3; ++axis) {
        const int64_t to = at[axis] + n.step[axis];
        inside = inside && to >= 0 && to < grid_.size[axis];
      }
      if (!inside) continue;
      const Index next = voxel + offsets_[n.bit];
      if (test(static_cast<Lane>(levels_[next]), static_cast<Lane>(floors_[next]))) {
        bits |= uint64_t{1} << n.bit;
      }
    }
    return bits;
  }

  struct Beside {
    int step[3], bit;
  };

  const Grid grid_;
  const detail::Divisor width_, height_;
  const T* levels_;
  const Floor* floors_;
  int rows_ = 0;
  Index starts_[9];        // of the rows, from the voxel
  Holds allowed_[9] = {};  // which voxels of a row are neighbours
  uint64_t lanes_ = 0;     // the same, as bits
  Index offsets_[36];      // by bit
  std::vector<Beside> beside_;
  int64_t first_inner_, end_inner_;
};

}  // namespace medkern
