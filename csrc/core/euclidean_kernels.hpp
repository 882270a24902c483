// The kernels declared in euclidean.hpp, compiled once per instruction set by
// csrc/isa/euclidean.cpp.
//
// The source s(y) of the envelope at y (the lowest minimiser) never decreases with y, so it lies
// between the sources of any rows before and after: rows are visited coarse to fine, each searching
// only there. Sixteen columns go side by side, a row of them in a few vectors, searching the union
// of their intervals. No intersections, divisions or stacks: a candidate costs an addition, a
// comparison and two selections.
//
// Rounding: excluded sources are worse by at least 2 w (1 - 2^-22 F / w) than those that exclude
// them, w being the weight of the axis and F the squared distance; up to F = 2^22 w (2000 voxels)
// in float the result is thus the very minimum over all sources. Beyond, it is that to rounding,
// and the same on every instruction set.
#pragma once

#include <limits>
#include <type_traits>

#include "common/simd.hpp"
#include "euclidean.hpp"

namespace medkern::MEDKERN_ISA {

// T: distances. Label: an unsigned type of the labels' width.
template <class T, class Label>
struct Euclidean {
  static constexpr int64_t columns = kEuclideanColumns;
  static constexpr int vectors = static_cast<int>(columns) / kLanes<T>;
  static constexpr T inf = std::numeric_limits<T>::infinity();
  using Int = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;

  // One row of sixteen columns.
  template <class V>
  struct Row {
    V part[vectors];
  };
  using Values = Row<Vec<T>>;
  using Ints = Row<Vec<Int>>;

  static MEDKERN_INLINE T root(T square) {
    if constexpr (sizeof(T) == 4) {
      return __builtin_sqrtf(square);
    } else {
      return __builtin_sqrt(square);
    }
  }

  static bool has_two_labels(const void* labels, int64_t n) {
    const Label* label = static_cast<const Label*>(labels);
    constexpr int64_t block = 4096;  // long enough to vectorise, short enough to stop early
    Label first = 0;
    for (int64_t begin = 0; begin < n; begin += block) {
      const int64_t end = begin + block < n ? begin + block : n;
      for (int64_t i = begin; first == 0 && i < end; ++i) first = label[i];
      Label others = 0;
      for (int64_t i = begin; i < end; ++i) {
        others |= label[i] != 0 && label[i] != first ? Label{1} : Label{0};
      }
      if (others) return true;
    }
    return false;
  }

  // Along W.

  static void rows(const EuclideanProblem& p, bool last, int64_t begin, int64_t end) {
    const int64_t n = p.size[2], per_volume = p.size[0] * p.size[1];
    for (int64_t row = begin; row < end; ++row) {
      const Label* label = static_cast<const Label*>(p.labels) + row * n;
      T* out = static_cast<T*>(p.distance) + row * n;
      int64_t* nearest = p.nearest ? p.nearest + row * n : nullptr;
      const int64_t index = row % per_volume * n;
      for (int64_t a = 0, b; a < n; a = b) {
        b = a + 1;
        while (b < n && label[b] == label[a]) ++b;
        if (label[a] == 0 && !p.both_sides) {
          for (int64_t x = a; x < b; ++x) out[x] = 0;
          for (int64_t x = a; nearest && x < b; ++x) nearest[x] = index + x;
        } else {
          run(a, b, n, index, out, nearest);
        }
      }
      if (last) finish(p, row / per_volume, label, out, n);
    }
  }

  // A run [a, b) of one label: its left half is nearest to a - 1, its right half to b.
  static MEDKERN_INLINE void run(int64_t a, int64_t b, int64_t n, int64_t index, T* out,
                                 int64_t* nearest) {
    if (a == 0 && b == n) {
      for (int64_t x = a; x < b; ++x) out[x] = inf;
      for (int64_t x = a; nearest && x < b; ++x) nearest[x] = -1;
      return;
    }
    const int64_t middle = a == 0 ? a : b == n ? b : (a + b + 1) / 2;
    for (int64_t x = a; x < middle; ++x) out[x] = square(x - a + 1);
    for (int64_t x = middle; x < b; ++x) out[x] = square(b - x);
    for (int64_t x = a; nearest && x < b; ++x) nearest[x] = index + (x < middle ? a - 1 : b);
  }

  static MEDKERN_INLINE T square(int64_t k) {
    return static_cast<T>(static_cast<double>(k) * static_cast<double>(k));
  }

  // Squares to signed distances in the units of the spacing.
  static MEDKERN_INLINE void finish(const EuclideanProblem& p, int64_t volume, const Label* label,
                                    T* out, int64_t n) {
    const T scale = static_cast<T>(p.spacing[volume / p.sets * 3 + 2]);
    for (int64_t x = 0; x < n; ++x) out[x] = root(out[x]) * scale;
    if (!p.both_sides) return;
    for (int64_t x = 0; x < n; ++x) out[x] = label[x] ? -out[x] : out[x];
  }

  // Along D or H: a group of up to sixteen columns of n voxels, `stride` apart.

  struct Group {
    int64_t n, stride, width;  // width: columns that there are
    int64_t volume, offset;    // of the first voxel, within the volume
    T weight;                  // squared spacing along the axis over that along W
    Values* f;                 // [n] squared distances so far
    Values* best;              // [n] and with this axis
    Ints* source;              // [n] the row that they come from
    Ints* run;                 // [n] number of the run of one label
    int64_t* nearest;          // [n, columns]
    T* parabola;               // [2 n - 1] weight (s - y)^2 at n - 1 + s - y
    Int *first, *last;         // [n] least and greatest source of a row
  };

  template <class U>
  static MEDKERN_INLINE U* take(unsigned char*& at, int64_t count) {
    U* taken = reinterpret_cast<U*>(at);
    at += (count * static_cast<int64_t>(sizeof(U)) + 63) / 64 * 64;
    return taken;
  }

  static Group group_on(const EuclideanProblem& p, int64_t n, int64_t stride, void* scratch) {
    auto* at = static_cast<unsigned char*>(scratch);
    Group g{};
    g.n = n;
    g.stride = stride;
    g.f = take<Values>(at, n);
    g.best = take<Values>(at, n);
    g.source = take<Ints>(at, n);
    g.run = take<Ints>(at, n);
    if (p.nearest) g.nearest = take<int64_t>(at, n * columns);
    g.parabola = take<T>(at, 2 * n - 1);
    g.first = take<Int>(at, n);
    g.last = take<Int>(at, n);
    return g;
  }

  static void columns_of(const EuclideanProblem& p, int axis, bool last, void* scratch,
                         int64_t begin, int64_t end) {
    const int64_t stride = euclidean_stride(p, axis),
                  per_plane = euclidean_groups_per_plane(p, axis);
    const int64_t planes = axis == 1 ? p.size[0] : 1;
    Group g = group_on(p, p.size[axis], stride, scratch);
    for (int64_t i = begin, sample = -1; i < end; ++i) {
      const int64_t plane = i / per_plane;
      const int64_t column = i % per_plane * columns;
      g.volume = plane / planes;
      g.offset = plane % planes * g.n * stride + column;
      g.width = stride - column < columns ? stride - column : columns;
      if (g.volume / p.sets != sample) {
        sample = g.volume / p.sets;
        set_parabola(g, p.spacing + sample * 3, axis);
      }
      if (p.compares_labels[g.volume]) {
        transform<true>(p, g, last);
      } else {
        transform<false>(p, g, last);
      }
    }
  }

  static void set_parabola(Group& g, const double* spacing, int axis) {
    const double ratio = spacing[axis] / spacing[2];
    g.weight = static_cast<T>(ratio * ratio);
    for (int64_t k = 0; k < g.n; ++k) {
      const double steps = static_cast<double>(k);
      const T value = static_cast<T>(steps * steps * (ratio * ratio));
      g.parabola[g.n - 1 + k] = g.parabola[g.n - 1 - k] = value;
    }
  }

  template <bool Compares>
  static void transform(const EuclideanProblem& p, Group& g, bool last) {
    const int64_t start = g.volume * p.size[0] * p.size[1] * p.size[2] + g.offset;
    T* distance = static_cast<T*>(p.distance) + start;
    const Label* label = static_cast<const Label*>(p.labels) + start;
    const auto [least, most] = load_squares(g, distance);
    if (most == 0) return;  // background only
    // Without a zero in any column there is none in this plane.
    if (!Compares && least == inf) return;
    if (Compares) number_runs(g, label);
    envelope<Compares>(g);
    for (int64_t y = 0; y < g.n; ++y) {
      T* out = distance + y * g.stride;
      const T* best = reinterpret_cast<const T*>(&g.best[y]);
      for (int64_t j = 0; j < g.width; ++j) out[j] = best[j];
      if (last) finish(p, g.volume, label + y * g.stride, out, g.width);
    }
    if (p.nearest) carry_nearest<Compares>(g, p.nearest + start);
  }

  struct Range {
    T least, most;
  };

  // Columns that do not exist are background, which never widens a search.
  static Range load_squares(Group& g, const T* distance) {
    Values least, most;
    for (int v = 0; v < vectors; ++v) {
      least.part[v] = Vec<T>{} + inf;
      most.part[v] = Vec<T>{};
    }
    for (int64_t y = 0; y < g.n; ++y) {
      const T* row = distance + y * g.stride;
      if (g.width == columns) {
        std::memcpy(&g.f[y], row, sizeof(Values));
      } else {
        g.f[y] = {};
        std::memcpy(&g.f[y], row, static_cast<size_t>(g.width) * sizeof(T));
      }
      for (int v = 0; v < vectors; ++v) {
        const Vec<T> f = g.f[y].part[v];
        least.part[v] = f < least.part[v] ? f : least.part[v];
        most.part[v] = f > most.part[v] ? f : most.part[v];
      }
    }
    return {lowest<T>(least), highest<T>(most)};
  }

  static void number_runs(Group& g, const Label* label) {
    Int* run = reinterpret_cast<Int*>(g.run);
    for (int64_t j = 0; j < columns; ++j) run[j] = 0;
    for (int64_t y = 1; y < g.n; ++y) {
      const Label *before = label + (y - 1) * g.stride, *here = label + y * g.stride;
      const Int* above = run;
      run += columns;
      for (int64_t j = 0; j < g.width; ++j) run[j] = above[j] + (here[j] != before[j]);
      for (int64_t j = g.width; j < columns; ++j) run[j] = 0;
    }
  }

  template <class S, class V>
  static MEDKERN_INLINE S lowest(const Row<V>& row) {
    S values[columns];
    std::memcpy(values, &row, sizeof(values));
    S least = values[0];
    for (int64_t j = 1; j < columns; ++j) least = values[j] < least ? values[j] : least;
    return least;
  }

  template <class S, class V>
  static MEDKERN_INLINE S highest(const Row<V>& row) {
    S values[columns];
    std::memcpy(values, &row, sizeof(values));
    S most = values[0];
    for (int64_t j = 1; j < columns; ++j) most = values[j] > most ? values[j] : most;
    return most;
  }

  // Rows 2^k - 1 (mod 2^(k+1)) after all rows 2^k above and below them.
  template <bool Compares>
  static void envelope(Group& g) {
    // A source may be the voxel that ends the next run, one row past that run's own sources.
    constexpr int64_t slack = Compares ? 1 : 0;
    int64_t step = 1;
    while (2 * step <= g.n) step *= 2;
    for (; step > 0; step /= 2) {
      for (int64_t y = step - 1; y < g.n; y += 2 * step) {
        int64_t from = y >= step ? g.first[y - step] - slack : 0;
        int64_t to = y + step < g.n ? g.last[y + step] + slack : g.n - 1;
        const int64_t reach = farthest_useful(g, y);
        if (from < y - reach) from = y - reach;
        if (to > y + reach) to = y + reach;
        search<Compares>(g, y, from < 0 ? 0 : from, to < g.n ? to : g.n - 1);
      }
    }
  }

  // Sources farther than this are worse than the row's own.
  static MEDKERN_INLINE int64_t farthest_useful(const Group& g, int64_t y) {
    const T own = highest<T>(g.f[y]) / g.weight;
    const T limit = static_cast<T>(g.n);
    return own < limit * limit ? static_cast<int64_t>(root(own)) + 1 : g.n;
  }

  template <bool Compares>
  static MEDKERN_INLINE void search(Group& g, int64_t y, int64_t from, int64_t to) {
    const T* parabola = g.parabola + g.n - 1 - y;
    Values best;
    Ints source;
    for (int v = 0; v < vectors; ++v) {
      best.part[v] = Vec<T>{} + inf;
      source.part[v] = Vec<Int>{} + static_cast<Int>(y);
    }
    for (int64_t s = from; s <= to; ++s) {
      for (int v = 0; v < vectors; ++v) {
        Vec<T> f = g.f[s].part[v];
        if (Compares) f = g.run[s].part[v] == g.run[y].part[v] ? f : Vec<T>{};
        const Vec<T> value = f + parabola[s];
        const auto better = value < best.part[v];
        best.part[v] = better ? value : best.part[v];
        source.part[v] = better ? Vec<Int>{} + static_cast<Int>(s) : source.part[v];
      }
    }
    g.best[y] = best;
    g.source[y] = source;
    g.first[y] = lowest<Int>(source);
    g.last[y] = highest<Int>(source);
  }

  template <bool Compares>
  static void carry_nearest(Group& g, int64_t* nearest) {
    for (int64_t y = 0; y < g.n; ++y) {
      const int64_t* row = nearest + y * g.stride;
      for (int64_t j = 0; j < g.width; ++j) g.nearest[y * columns + j] = row[j];
    }
    const Int* source = reinterpret_cast<const Int*>(g.source);
    const Int* run = reinterpret_cast<const Int*>(g.run);
    for (int64_t y = 0; y < g.n; ++y) {
      for (int64_t j = 0; j < g.width; ++j) {
        const int64_t s = source[y * columns + j], at = s * columns + j;
        const bool itself = Compares && run[at] != run[y * columns + j];
        nearest[y * g.stride + j] = itself ? g.offset + s * g.stride + j : g.nearest[at];
      }
    }
  }
};

template <class T, class Label>
EuclideanKernels euclidean_kernels_of() {
  using K = Euclidean<T, Label>;
  return {&K::rows, &K::columns_of, &K::has_two_labels};
}

template <class T>
EuclideanKernels euclidean_kernels_for(int label_bytes) {
  switch (label_bytes) {
    case 1:
      return euclidean_kernels_of<T, uint8_t>();
    case 2:
      return euclidean_kernels_of<T, uint16_t>();
    case 4:
      return euclidean_kernels_of<T, uint32_t>();
    default:
      return euclidean_kernels_of<T, uint64_t>();
  }
}

EuclideanKernels euclidean_kernels(int label_bytes, bool wide) {
  return wide ? euclidean_kernels_for<double>(label_bytes)
              : euclidean_kernels_for<float>(label_bytes);
}

}  // namespace medkern::MEDKERN_ISA
