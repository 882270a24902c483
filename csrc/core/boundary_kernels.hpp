// The kernels declared in boundary.hpp, compiled once per instruction set by csrc/isa/boundary.cpp.
#pragma once

#include "boundary.hpp"
#include "common/simd.hpp"

namespace medkern::MEDKERN_ISA {

// exp(x) = 2^n exp(r) with n = round(x / log 2): adding `magic`, which is 1.5 times the first power
// of two whose unit in the last place is 1, rounds and leaves n in the low bits.
template <class C>
struct ExpConstants;
template <>
struct ExpConstants<float> {
  using Bits = uint32_t;
  static constexpr float magic = 0x1.8p23f, log2_e = 0x1.715476p+0f;
  // log 2 in two parts: n times the first is exact.
  static constexpr float log_2_high = 0x1.63p-1f, log_2_low = -0x1.bd0106p-13f;
  static constexpr float lowest = -87.0f;  // below: 0, as 2^n would be subnormal
  static constexpr int mantissa = 23, bias = 127, degree = 7;
};
template <>
struct ExpConstants<double> {
  using Bits = uint64_t;
  static constexpr double magic = 0x1.8p52, log2_e = 0x1.71547652b82fep+0;
  static constexpr double log_2_high = 0x1.62e42feep-1, log_2_low = 0x1.a39ef35793c76p-33;
  static constexpr double lowest = -708.0;
  static constexpr int mantissa = 52, bias = 1023, degree = 13;
};

constexpr double inverse_factorial(int k) { return k <= 1 ? 1.0 : inverse_factorial(k - 1) / k; }

// exp(x) for x <= 0 to 2 units in the last place; 0 below `lowest`; NaN stays NaN.
template <class C>
MEDKERN_INLINE Vec<C> exp_of_negative(Vec<C> x) {
  using K = ExpConstants<C>;
  using Bits = Vec<typename K::Bits>;
  const Vec<C> shifted = x * K::log2_e + K::magic;
  const Vec<C> n = shifted - K::magic;
  const Vec<C> r = (x - n * K::log_2_high) - n * K::log_2_low;
  Vec<C> series = r * C(inverse_factorial(K::degree)) + C(inverse_factorial(K::degree - 1));
#pragma GCC unroll 16
  for (int k = K::degree - 2; k >= 0; --k) series = series * r + C(inverse_factorial(k));
  Bits power = reinterpret_cast<Bits>(shifted) << K::mantissa;
  power += typename K::Bits{K::bias} << K::mantissa;
  const Vec<C> value = series * reinterpret_cast<Vec<C>>(power);
  return x < K::lowest ? Vec<C>{} : value;
}

MEDKERN_INLINE float log_of(float x) { return __builtin_logf(x); }
MEDKERN_INLINE double log_of(double x) { return __builtin_log(x); }

// `count` values `stride` apart, widened to C; zeros up to the end of the last vector.
template <class C, class S>
void read_row(const S* from, int64_t stride, int64_t count, C* to) {
  int64_t i = 0;
  if constexpr (std::is_same_v<Compute<S>, C>) {
    if (stride == 1) {
      for (; i + kLanes<C> <= count; i += kLanes<C>) store(to + i, load<C>(from + i));
    }
  }
  for (; i < count; ++i) to[i] = load_one<C>(from + i * stride);
  for (; i % kLanes<C> != 0; ++i) to[i] = C{};
}

template <class C, class S>
void write_row(const C* from, bool streams, int64_t stride, int64_t count, S* to) {
  int64_t i = 0;
  if (stride == 1) {
    for (; i + kLanes<C> <= count; i += kLanes<C>) {
      streams ? stream(to + i, load<C>(from + i)) : store(to + i, load<C>(from + i));
    }
  }
  for (; i < count; ++i) store_one(to + i * stride, from[i]);
}

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
