// The kernels declared in boundary.hpp, compiled once per instruction set by csrc/isa/boundary.cpp.
#pragma once

#include "boundary.hpp"
#include "common/exponential.hpp"
#include "common/rows.hpp"

namespace medkern::MEDKERN_ISA {

MEDKERN_INLINE float log_of(float x) { return __builtin_logf(x); }
MEDKERN_INLINE double log_of(double x) { return __builtin_log(x); }

// Row k is class k.
template <class C>
struct BoundaryRows {
  const C* data;
  int64_t pitch;

  MEDKERN_INLINE const C* at(int64_t k, int64_t i) const { return data + k * pitch + i; }
};

// Some consecutive voxels of one sample. Rows of the type and the layout of the arithmetic are read
// where they are, others in the scratch rows `z` and `phi`, kBoundaryTile apart.
template <class C>
struct BoundaryTile {
  int64_t sample, first, count;
  C *z, *phi;
  BoundaryRows<C> logits, maps;
};

// Z: storage type of the logits and of their gradient.
template <class Z>
struct BoundaryRun {
  using C = Compute<Z>;
  using V = Vec<C>;
  using Tile = BoundaryTile<C>;
  static constexpr int lanes = kLanes<C>;
  static constexpr int64_t row = kBoundaryTile;
  static constexpr int32_t unlabelled = -1;

  template <class S>
  static void read_rows(const BoundaryView& v, const Tile& t, int64_t rows, C* to) {
    const S* from = static_cast<const S*>(v.data) + t.sample * v.batch + t.first * v.voxel;
    for (int64_t k = 0; k < rows; ++k) {
      read_row(from + k * v.channel, v.voxel, t.count, to + k * row);
    }
  }

  static void read_maps(const BoundaryProblem& p, const Tile& t) {
    C* to = t.phi + (p.classes - p.mapped) * row;
    switch (p.maps.type) {
      case FloatType::float16:
        return read_rows<Half>(p.maps, t, p.mapped, to);
      case FloatType::bfloat16:
        return read_rows<BFloat16>(p.maps, t, p.mapped, to);
      case FloatType::float32:
        return read_rows<float>(p.maps, t, p.mapped, to);
      case FloatType::float64:
        return read_rows<double>(p.maps, t, p.mapped, to);
    }
  }

  template <class S>
  static bool reads_in_place(const BoundaryView& v, const Tile& t) {
    return std::is_same_v<S, C> && v.voxel == 1 && t.count % lanes == 0;
  }

  template <class S>
  static BoundaryRows<C> in_place(const BoundaryView& v, const Tile& t) {
    const S* from = static_cast<const S*>(v.data) + t.sample * v.batch + t.first;
    return {reinterpret_cast<const C*>(from), v.channel};
  }

  static void read(const BoundaryProblem& p, Tile& t) {
    if (reads_in_place<Z>(p.logits, t)) {
      t.logits = in_place<Z>(p.logits, t);
    } else {
      read_rows<Z>(p.logits, t, p.classes, t.z);
      t.logits = {t.z, row};
    }
    const bool same = p.maps.type == (sizeof(C) == 8 ? FloatType::float64 : FloatType::float32);
    if (same && p.mapped == p.classes && reads_in_place<C>(p.maps, t)) {
      t.maps = in_place<C>(p.maps, t);
    } else {
      read_maps(p, t);
      t.maps = {t.phi, row};
    }
  }

  // The class of every voxel of the tile, p.classes where the label names none and `unlabelled`
  // where there is none; returns whether any is labelled.
  template <class Y>
  static bool read_labels(const BoundaryProblem& p, const Tile& t, int32_t* classes) {
    const int64_t step = p.labels.voxel;
    return step == 1 ? read_labels<Y>(p, t, 1, classes) : read_labels<Y>(p, t, step, classes);
  }

  template <class Y>
  static MEDKERN_INLINE bool read_labels(const BoundaryProblem& p, const Tile& t, int64_t step,
                                         int32_t* classes) {
    const Y* from =
        static_cast<const Y*>(p.labels.data) + t.sample * p.labels.batch + t.first * step;
    const int64_t first = p.classes - p.mapped;
    int32_t any = 0;
    for (int64_t i = 0; i < t.count; ++i) {
      const int64_t y = from[i * step];
      const bool none = y < first || (sizeof(Y) == 1 && y == 255);
      classes[i] = static_cast<int32_t>(none ? unlabelled : y < p.classes ? y : p.classes);
      any |= !none;
    }
    return any != 0;
  }

  static bool read_labels(const BoundaryProblem& p, const Tile& t, int32_t* classes) {
    if (!p.labels.data) return false;
    return p.labels.bytes ? read_labels<uint8_t>(p, t, classes)
                          : read_labels<int64_t>(p, t, classes);
  }

  // What voxel i of the next tile needs of class k. Arithmetic alternates with reads of short rows,
  // which the hardware prefetcher cannot foresee: without this the kernels took 1.4 times as long.
  static MEDKERN_INLINE void prefetch_next(const BoundaryProblem& p, const Tile& t, int64_t k,
                                           int64_t i) {
    const int64_t voxel = t.first + row + i, unmapped = p.classes - p.mapped;
    prefetch(p.logits, t.sample, k, voxel);
    if (k >= unmapped) prefetch(p.maps, t.sample, k - unmapped, voxel);
  }

  static MEDKERN_INLINE void prefetch(const BoundaryView& v, int64_t sample, int64_t channel,
                                      int64_t voxel) {
    const int64_t at = sample * v.batch + channel * v.channel + voxel * v.voxel;
    __builtin_prefetch(static_cast<const char*>(v.data) + at * bytes_of(v.type));
  }

  static MEDKERN_INLINE V largest_logit(const BoundaryProblem& p, const Tile& t, int64_t i) {
    V largest = load<C>(t.logits.at(0, i));
    for (int64_t k = 1; k < p.classes; ++k) {
      const V other = load<C>(t.logits.at(k, i));
      largest = other > largest ? other : largest;
    }
    return largest;
  }

  // sum of value[0, kBoundaryTile), halving: the same order for every vector length
  static C pairwise_sum(C* value) {
    for (int64_t half = row / 2; half > 0; half /= 2) {
      for (int64_t i = 0; i < half; ++i) value[i] += value[i + half];
    }
    return value[0];
  }

  static void sum_tile(const BoundaryProblem& p, const Tile& t, BoundarySums& sums) {
    C largest[row], total[row], mean[row] = {};
    for (int64_t i = 0; i < t.count; i += lanes) {
      const V top = largest_logit(p, t, i);
      V exps{}, weighted{};
      for (int64_t k = 0; k < p.classes; ++k) {
        const V e = exp_of_negative<C>(load<C>(t.logits.at(k, i)) - top);
        prefetch_next(p, t, k, i);
        exps += e;
        weighted += e * load<C>(t.maps.at(k, i));
      }
      store(largest + i, top);
      store(total + i, exps);
      store(mean + i, weighted / exps);
    }
    sums.boundary += pairwise_sum(mean);
    int32_t classes[row];
    if (!read_labels(p, t, classes)) return;
    for (int64_t i = 0; i < t.count; ++i) {
      const int64_t y = classes[i];
      if (y == unlabelled) continue;
      if (y == p.classes) {
        ++sums.invalid;
        continue;
      }
      ++sums.labelled;
      sums.cross_entropy += (largest[i] - *t.logits.at(y, i)) + log_of(total[i]);
    }
  }

  // Leaves the gradient in t.z, where the logits may have been.
  static void differentiate_tile(const BoundaryProblem& p, const Tile& t) {
    const C* weights = static_cast<const C*>(p.weights) + 3 * t.sample;
    int32_t classes[row];
    const bool labelled = read_labels(p, t, classes);
    C pull[row] = {};  // g_1 where labelled
    for (int64_t i = 0; labelled && i < t.count; ++i) {
      const bool named = classes[i] != unlabelled && classes[i] < p.classes;
      pull[i] = named ? weights[1] : C{};
    }
    for (int64_t i = 0; i < t.count; i += lanes) {
      const V top = largest_logit(p, t, i);
      V exps{}, weighted{};
      for (int64_t k = 0; k < p.classes; ++k) {
        const V e = exp_of_negative<C>(load<C>(t.logits.at(k, i)) - top);
        prefetch_next(p, t, k, i);
        exps += e;
        weighted += e * load<C>(t.maps.at(k, i));
        store(t.z + k * row + i, e);
      }
      const V scale = V{} + 1 / exps, mean = weighted * scale, pulled = load<C>(pull + i);
      for (int64_t k = 0; k < p.classes; ++k) {
        C* z = t.z + k * row + i;
        const V push = weights[0] * (load<C>(t.maps.at(k, i)) - mean);
        store(z, (load<C>(z) * scale) * (push + pulled));
      }
    }
    for (int64_t i = 0; labelled && i < t.count; ++i) {
      const int64_t y = classes[i];
      if (y != unlabelled && y < p.classes) t.z[y * row + i] -= weights[1];
    }
  }

  // Calls body(tile, block) for every tile of the blocks, with its logits and maps in the scratch.
  template <class Body>
  static MEDKERN_INLINE void each_tile(const BoundaryProblem& p, int64_t begin, int64_t end,
                                       void* scratch, const Body& body) {
    Tile t;
    t.z = static_cast<C*>(scratch);
    t.phi = t.z + p.classes * row;
    for (int64_t i = 0; i < (p.classes - p.mapped) * row; ++i) t.phi[i] = C{};
    const int64_t per_sample = boundary_blocks_per_sample(p);
    for (int64_t block = begin; block < end; ++block) {
      t.sample = block / per_sample;
      const int64_t start = (block % per_sample) * kBoundaryBlock;
      const int64_t rest = p.voxels - start, stop = rest < kBoundaryBlock ? rest : kBoundaryBlock;
      for (int64_t at = 0; at < stop; at += row) {
        t.first = start + at;
        t.count = stop - at < row ? stop - at : row;
        read(p, t);
        body(t, block);
      }
    }
  }

  static void forward(const BoundaryProblem& p, int64_t begin, int64_t end, void* scratch) {
    for (int64_t block = begin; block < end; ++block) p.sums[block] = {};
    each_tile(p, begin, end, scratch,
              [&](const Tile& t, int64_t block) { sum_tile(p, t, p.sums[block]); });
  }

  static void backward(const BoundaryProblem& p, int64_t begin, int64_t end, void* scratch) {
    each_tile(p, begin, end, scratch, [&](const Tile& t, int64_t) {
      differentiate_tile(p, t);
      const BoundaryView& v = p.grad;
      Z* to = static_cast<Z*>(v.data) + t.sample * v.batch + t.first * v.voxel;
      for (int64_t k = 0; k < p.classes; ++k) {
        write_row(t.z + k * row, p.streams, v.voxel, t.count, to + k * v.channel);
      }
    });
    if (p.streams) stream_fence();
  }

  static BoundaryKernel select(bool backwards) { return backwards ? backward : forward; }
};

BoundaryKernel boundary_kernel(bool backward, FloatType logits) {
  switch (logits) {
    case FloatType::float16:
      return BoundaryRun<Half>::select(backward);
    case FloatType::bfloat16:
      return BoundaryRun<BFloat16>::select(backward);
    case FloatType::float64:
      return BoundaryRun<double>::select(backward);
    default:
      return BoundaryRun<float>::select(backward);
  }
}

}  // namespace medkern::MEDKERN_ISA
