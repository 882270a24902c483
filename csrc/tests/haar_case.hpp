// A Haar problem drawn from a stream of numbers, and its answer by definition.
//
// Shared by the ctest programs and the fuzz target. The oracle below is written from the formulas
// of core/haar.hpp alone: one scalar double (or integer) at a time, no closed forms, no shared
// helper. Every buffer is a heap block of exactly the extent its view spans, so that a sanitizer
// sees an access one element outside; gaps between strided elements hold a sentinel that must
// survive.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

// Half and BFloat16 must be some variant's; the baseline's are as good as any.
#ifndef MEDKERN_ISA
#define MEDKERN_ISA baseline
#endif
#include "core/common/half.hpp"
#include "core/haar.hpp"
#include "isa/isa.hpp"

namespace medkern::test {

enum class Layout { planar, planar_gapped, channels_last, channels_last_gapped };

struct Case {
  HaarMode mode = HaarMode::dwt;
  HaarDType dtype = HaarDType::float32;
  int ndim = 2;
  Pad pad = Pad::zero;
  int64_t batch = 1, channels = 1;
  int64_t size[3] = {1, 1, 1};
  Layout x_layout = Layout::planar, y_layout = Layout::planar, key_layout = Layout::planar;
  bool nans = false;        // some samples are NaN
  bool streams = false;     // non-temporal stores
  bool row_choice = false;  // let the row's length choose the instruction set

  int64_t half(int axis) const { return (size[axis] + 1) / 2; }
  int corners() const { return 1 << ndim; }
  int outputs() const { return haar_outputs(mode, ndim); }
  bool channels_last() const { return x_layout >= Layout::channels_last; }
  bool integer() const { return mode == HaarMode::lift; }

  std::string name() const {
    char text[300];
    std::snprintf(
        text, sizeof(text),
        "mode %d dtype %d ndim %d pad %d batch %d channels %d size %dx%dx%d layouts %d %d "
        "%d nans %d streams %d row %d isa %s",
        int(mode), int(dtype), ndim, int(pad), int(batch), int(channels), int(size[0]),
        int(size[1]), int(size[2]), int(x_layout), int(y_layout), int(key_layout), int(nans),
        int(streams), int(row_choice), medkern_active_isa());
    return text;
  }
};

[[noreturn]] inline void fail(const Case& c, const char* what, double got = 0, double want = 0) {
  std::fprintf(stderr, "FAILED: %s: got %.17g, want %.17g: %s\n", what, got, want,
               c.name().c_str());
  std::abort();
}

// Deterministic numbers: splitmix64 on every platform, unlike <random>'s distributions.
struct Random {
  uint64_t state;
  uint64_t next() {
    uint64_t z = (state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  int64_t below(int64_t n) { return static_cast<int64_t>(next() % static_cast<uint64_t>(n)); }
};

// [batch, channel, band, D, H, W] in one of the layouts that the kernels take.
struct Extents {
  int64_t batch, channels, bands, space[3];
};

struct Array {
  Extents extents;
  HaarView view;
  int64_t elements = 0;
  size_t item;
  std::unique_ptr<unsigned char[]> bytes;
  std::vector<bool> used;  // elements that the view reaches

  Array(const Extents& e, Layout layout, size_t item_bytes) : extents(e), item(item_bytes) {
    const int64_t gap = layout == Layout::planar_gapped || layout == Layout::channels_last_gapped;
    int64_t step = 1;
    const auto take = [&](int64_t& stride, int64_t n, int64_t extra) {
      stride = step;
      step = step * n + extra * gap;
    };
    if (layout >= Layout::channels_last) {
      take(view.channel, e.channels, 3);
      take(view.band, e.bands, 0);
    }
    take(view.space[2], e.space[2], 1);
    take(view.space[1], e.space[1], 2);
    take(view.space[0], e.space[0], 0);
    if (layout < Layout::channels_last) {
      take(view.band, e.bands, 1);
      take(view.channel, e.channels, 1);
    }
    take(view.batch, e.batch, 0);
    allocate();
  }

  void allocate() {
    const auto& e = extents;
    elements = 1 + (e.batch - 1) * view.batch + (e.channels - 1) * view.channel +
               (e.bands - 1) * view.band;
    for (int i = 0; i < 3; ++i) elements += (e.space[i] - 1) * view.space[i];
    bytes.reset(new unsigned char[static_cast<size_t>(elements) * item]);
    std::memset(bytes.get(), 0xa5, static_cast<size_t>(elements) * item);
    view.data = bytes.get();
    used.assign(static_cast<size_t>(elements), false);
    each([&](int64_t at, auto&&...) { used[static_cast<size_t>(at)] = true; });
  }

  int64_t index(int64_t b, int64_t c, int64_t k, const int64_t (&s)[3]) const {
    return b * view.batch + c * view.channel + k * view.band + s[0] * view.space[0] +
           s[1] * view.space[1] + s[2] * view.space[2];
  }

  // body(index, batch, channel, band, space) for every element of the view.
  template <class Body>
  void each(const Body& body) const {
    int64_t s[3];
    for (int64_t b = 0; b < extents.batch; ++b)
      for (int64_t c = 0; c < extents.channels; ++c)
        for (int64_t k = 0; k < extents.bands; ++k)
          for (s[0] = 0; s[0] < extents.space[0]; ++s[0])
            for (s[1] = 0; s[1] < extents.space[1]; ++s[1])
              for (s[2] = 0; s[2] < extents.space[2]; ++s[2]) body(index(b, c, k, s), b, c, k, s);
  }

  bool gaps_untouched() const {
    for (int64_t i = 0; i < elements; ++i) {
      if (used[static_cast<size_t>(i)]) continue;
      for (size_t j = 0; j < item; ++j) {
        if (bytes[static_cast<size_t>(i) * item + j] != 0xa5) return false;
      }
    }
    return true;
  }
};

// Storage types, by HaarDType; the coarse side of lifting is one size wider.
enum class Storage { f16, bf16, f32, f64, u8, i16, i32 };

inline Storage fine_storage(HaarDType d) {
  constexpr Storage of[] = {Storage::f16, Storage::bf16, Storage::f32,
                            Storage::f64, Storage::u8,   Storage::i16};
  return of[static_cast<int>(d)];
}

inline Storage coarse_storage(HaarDType d) {
  if (d == HaarDType::uint8) return Storage::i16;
  return d == HaarDType::int16 ? Storage::i32 : fine_storage(d);
}

inline size_t item_bytes(Storage s) {
  constexpr size_t of[] = {2, 2, 4, 8, 1, 2, 4};
  return of[static_cast<int>(s)];
}

template <class T>
inline T peek(const Array& a, int64_t i) {
  T value;
  std::memcpy(&value, a.bytes.get() + static_cast<size_t>(i) * sizeof(T), sizeof(T));
  return value;
}

template <class T>
inline void poke(Array& a, int64_t i, T value) {
  std::memcpy(a.bytes.get() + static_cast<size_t>(i) * sizeof(T), &value, sizeof(T));
}

inline double get(const Array& a, Storage s, int64_t i) {
  switch (s) {
    case Storage::f16:
      return to_float(peek<Half>(a, i));
    case Storage::bf16:
      return to_float(peek<BFloat16>(a, i));
    case Storage::f32:
      return peek<float>(a, i);
    case Storage::f64:
      return peek<double>(a, i);
    case Storage::u8:
      return peek<uint8_t>(a, i);
    case Storage::i16:
      return peek<int16_t>(a, i);
    default:
      return peek<int32_t>(a, i);
  }
}

// Stores and returns what was stored, so that the oracle sees the rounded sample.
inline double put(Array& a, Storage s, int64_t i, double v) {
  switch (s) {
    case Storage::f16:
      poke(a, i, from_float<Half>(static_cast<float>(v)));
      break;
    case Storage::bf16:
      poke(a, i, from_float<BFloat16>(static_cast<float>(v)));
      break;
    case Storage::f32:
      poke(a, i, static_cast<float>(v));
      break;
    case Storage::f64:
      poke(a, i, v);
      break;
    case Storage::u8:
      poke(a, i, static_cast<uint8_t>(v));
      break;
    case Storage::i16:
      poke(a, i, static_cast<int16_t>(v));
      break;
    default:
      poke(a, i, static_cast<int32_t>(v));
  }
  return get(a, s, i);
}

// Largest error of one correctly rounded result, relative to the sum of magnitudes behind it.
inline double tolerance(HaarDType d) {
  if (d == HaarDType::float16) return 1.01 / 2048;  // half a unit in the last place
  if (d == HaarDType::bfloat16) return 1.01 / 256;
  return d == HaarDType::float32 ? 2e-6 : 4e-15;
}

// ---- the oracle -------------------------------------------------------------------------------

// Coordinate i of a line of n samples after extension to even length; -1: a zero.
inline int64_t extended(Pad pad, int64_t i, int64_t n) {
  if (i < n) return i;
  if (pad == Pad::zero) return -1;
  if (pad == Pad::periodic) return i - n;
  if (pad == Pad::reflect && n > 1) return 2 * (n - 1) - i;
  return n - 1;
}

// Bit i of a corner or band belongs to spatial axis i of the transformed ones.
struct Corner {
  int64_t at[3];
  bool zero;
};

inline Corner corner_of(const Case& c, const int64_t (&block)[3], int q) {
  Corner corner{{0, 0, 0}, false};
  for (int i = 0; i < c.ndim; ++i) {
    const int axis = 3 - c.ndim + i;
    corner.at[axis] = extended(c.pad, 2 * block[axis] + ((q >> i) & 1), c.size[axis]);
    corner.zero = corner.zero || corner.at[axis] < 0;
  }
  return corner;
}

inline double band_weight(const Case& c, int band, int q) {
  double weight = 1;
  for (int i = 0; i < c.ndim; ++i) {
    weight *= std::sqrt(0.5);
    if ((q >> i) & (band >> i) & 1) weight = -weight;
  }
  return weight;
}

// Weight of corner q in output k of the modes that are fixed stencils: sums of bands.
inline double stencil(const Case& c, int k, int q) {
  switch (c.mode) {
    case HaarMode::dwt:
      return band_weight(c, k, q);
    case HaarMode::ll:
      return band_weight(c, 0, q);
    default:
      break;
  }
  const int bands = c.corners() - (c.mode == HaarMode::iewa ? 1 : 0);
  double sum = 0;
  for (int band = 0; band < bands; ++band) sum += band_weight(c, band, q);
  return std::abs(sum) < 1e-12 ? 0.0 : sum;
}

// The corner that max pooling picks: first maximum in row-major order; the last NaN, if any.
inline int winner(const Case& c, const std::vector<double>& keys) {
  int best = 0;
  for (int i = 0; i < c.corners(); ++i) {
    int q = 0;  // row-major: the last axis runs fastest
    for (int axis = 0; axis < c.ndim; ++axis) q |= ((i >> (c.ndim - 1 - axis)) & 1) << axis;
    const double key = keys[static_cast<size_t>(q)], top = keys[static_cast<size_t>(best)];
    if (std::isnan(key) || key > top) best = q;
  }
  return best;
}

inline void lift(std::vector<double>& v, int ndim) {
  for (int axis = 0; axis < ndim; ++axis) {
    for (int q = 0; q < 1 << ndim; ++q) {
      if ((q >> axis) & 1) continue;
      double &a = v[static_cast<size_t>(q)], &b = v[static_cast<size_t>(q | 1 << axis)];
      const double detail = a - b, mean = b + std::floor(detail / 2);
      a = mean;
      b = detail;
    }
  }
}

inline void unlift(std::vector<double>& v, int ndim) {
  for (int axis = ndim - 1; axis >= 0; --axis) {
    for (int q = 0; q < 1 << ndim; ++q) {
      if ((q >> axis) & 1) continue;
      double &mean = v[static_cast<size_t>(q)], &detail = v[static_cast<size_t>(q | 1 << axis)];
      const double b = mean - std::floor(detail / 2);
      mean = b + detail;
      detail = b;
    }
  }
}

// ---- running a case ---------------------------------------------------------------------------

inline double draw(Random& random, const Case& c) {
  if (c.dtype == HaarDType::uint8) return static_cast<double>(random.below(256));
  if (c.dtype == HaarDType::int16) return static_cast<double>(random.below(65536) - 32768);
  if (c.nans && random.below(9) == 0) return std::numeric_limits<double>::quiet_NaN();
  // Few distinct values: maxima tie often.
  return static_cast<double>(random.below(65) - 32) / 8 * (random.below(2) ? 1 : 1.37);
}

struct Prepared {
  Case c;
  Storage fine, coarse;
  Array x, y, keys;
  HaarProblem problem;

  explicit Prepared(const Case& given)
      : c(given),
        fine(fine_storage(c.dtype)),
        coarse(coarse_storage(c.dtype)),
        x({c.batch, c.channels, 1, {c.size[0], c.size[1], c.size[2]}}, c.x_layout,
          item_bytes(fine)),
        y({c.batch, c.channels, c.outputs(), {c.half(0), c.half(1), c.half(2)}}, c.y_layout,
          item_bytes(coarse)),
        keys({c.batch, c.channels, 1, {c.size[0], c.size[1], c.size[2]}}, c.key_layout,
             item_bytes(fine)) {
    problem.batch = c.batch;
    problem.channels = c.channels;
    for (int i = 0; i < 3; ++i) problem.size[i] = c.size[i], problem.half[i] = c.half(i);
    problem.pad = c.pad;
    problem.channels_last = c.channels_last();
    problem.streams = c.streams;
    problem.x = x.view;
    problem.y = y.view;
    problem.keys = keys.view;
  }

  void fill(Array& a, Storage storage, Random& random) {
    a.each([&](int64_t i, auto&&...) { put(a, storage, i, draw(random, c)); });
  }
};

constexpr int64_t kLongRow = int64_t{1} << 40;

// The active instruction set's kernel whatever the row's length, or the one that suits the row.
inline HaarKernel kernel_of(const Prepared& p, bool adjoint) {
  const int64_t row = p.c.row_choice ? haar_row(p.problem) : kLongRow;
  const HaarKernel kernel = haar_kernel(p.c.mode, adjoint, p.c.dtype, p.c.ndim, row);
  if (kernel == nullptr) fail(p.c, "no kernel");
  return kernel;
}

// All units, in three uneven pieces and backwards: no unit may depend on another.
inline void run_in_pieces(const Prepared& p, bool adjoint, Random& random) {
  const HaarKernel kernel = kernel_of(p, adjoint);
  const int64_t units = haar_units(p.problem);
  const int64_t first = random.below(units + 1), second = first + random.below(units - first + 1);
  kernel(p.problem, second, units);
  kernel(p.problem, first, second);
  kernel(p.problem, 0, first);
}

inline void expect(const Prepared& p, const char* what, double got, double want, double magnitude) {
  if (std::isnan(want) ? std::isnan(got) : std::abs(got - want) <= magnitude) return;
  fail(p.c, what, got, want);
}

inline std::vector<double> block_samples(const Prepared& p, const Array& from, int64_t b,
                                         int64_t ch, const int64_t (&block)[3]) {
  std::vector<double> values;
  for (int q = 0; q < p.c.corners(); ++q) {
    const Corner corner = corner_of(p.c, block, q);
    values.push_back(corner.zero ? 0.0 : get(from, p.fine, from.index(b, ch, 0, corner.at)));
  }
  return values;
}

inline void check_forward(Prepared& p, Random& random) {
  p.fill(p.x, p.fine, random);
  p.fill(p.keys, p.fine, random);
  run_in_pieces(p, false, random);
  const Case& c = p.c;
  p.y.each([&](int64_t i, int64_t b, int64_t ch, int64_t k, const int64_t (&block)[3]) {
    std::vector<double> v = block_samples(p, p.x, b, ch, block);
    const double got = get(p.y, p.coarse, i);
    if (c.integer()) {
      lift(v, c.ndim);
      return expect(p, "lifted band", got, v[static_cast<size_t>(k)], 0);
    }
    if (c.mode == HaarMode::max_concat && k == 1) {
      const auto q = static_cast<size_t>(winner(c, block_samples(p, p.keys, b, ch, block)));
      return expect(p, "chosen sample", got, v[q], 0);
    }
    double want = 0, magnitude = 0;
    for (int q = 0; q < c.corners(); ++q) {
      const double weight = c.mode == HaarMode::max_concat ? band_weight(c, 0, q)
                                                           : stencil(c, static_cast<int>(k), q);
      if (weight == 0) continue;  // a NaN there must not spread
      want += weight * v[static_cast<size_t>(q)];
      magnitude += std::abs(weight * v[static_cast<size_t>(q)]);
    }
    // Half types round the result; the others round along the way.
    const bool narrow = item_bytes(p.coarse) == 2;
    const double scale = narrow ? std::abs(want) : magnitude;
    expect(p, "output", got, want, tolerance(c.dtype) * scale + (narrow ? 2e-6 * magnitude : 0));
  });
  if (!p.y.gaps_untouched()) fail(c, "a forward wrote outside its output");
}

struct Sum {
  double value = 0, magnitude = 0;
};

// What every sample of x gathers, by scattering each block of y.
inline std::vector<Sum> scatter(const Prepared& p) {
  const Case& c = p.c;
  std::vector<Sum> sums(static_cast<size_t>(p.x.elements));
  p.y.each([&](int64_t i, int64_t b, int64_t ch, int64_t k, const int64_t (&block)[3]) {
    const double g = get(p.y, p.coarse, i);
    const bool chosen = c.mode == HaarMode::max_concat && k == 1;
    const int only = chosen ? winner(c, block_samples(p, p.keys, b, ch, block)) : 0;
    for (int q = 0; q < c.corners(); ++q) {
      const Corner corner = corner_of(c, block, q);
      double weight = c.mode == HaarMode::max_concat ? band_weight(c, 0, q)
                                                     : stencil(c, static_cast<int>(k), q);
      if (chosen) weight = q == only ? 1 : 0;
      if (corner.zero || weight == 0) continue;
      Sum& sum = sums[static_cast<size_t>(p.x.index(b, ch, 0, corner.at))];
      sum.value += weight * g;
      sum.magnitude += std::abs(weight * g);
    }
  });
  return sums;
}

inline void check_adjoint(Prepared& p, Random& random) {
  p.fill(p.keys, p.fine, random);
  Case finite = p.c;
  finite.nans = false;
  p.y.each([&](int64_t i, auto&&...) { put(p.y, p.coarse, i, draw(random, finite)); });
  run_in_pieces(p, true, random);
  const std::vector<Sum> sums = scatter(p);
  p.x.each([&](int64_t i, auto&&...) {
    const Sum& sum = sums[static_cast<size_t>(i)];
    const bool narrow = item_bytes(p.fine) == 2;
    const double scale = narrow ? std::abs(sum.value) : sum.magnitude;
    expect(p, "gradient", get(p.x, p.fine, i), sum.value,
           tolerance(p.c.dtype) * scale + (narrow ? 2e-6 * sum.magnitude : 0));
  });
  if (!p.x.gaps_untouched()) fail(p.c, "an adjoint wrote outside its output");
}

// Forward, then back: the samples themselves, and the oracle's inverse of each block.
inline void check_unlift(Prepared& p, Random& random) {
  check_forward(p, random);
  std::vector<double> before;
  p.x.each([&](int64_t i, auto&&...) { before.push_back(get(p.x, p.fine, i)); });
  p.x.each([&](int64_t i, auto&&...) { put(p.x, p.fine, i, 77); });
  p.problem.pad = Pad::zero;
  run_in_pieces(p, true, random);
  size_t at = 0;
  p.x.each([&](int64_t i, int64_t b, int64_t ch, int64_t, const int64_t (&s)[3]) {
    std::vector<double> v;
    int q = 0;
    const int64_t block[3] = {s[0] / 2, s[1] / 2, s[2] / 2};
    for (int j = 0; j < p.c.ndim; ++j) q |= static_cast<int>(s[3 - p.c.ndim + j] % 2) << j;
    for (int k = 0; k < p.c.corners(); ++k) {
      v.push_back(get(p.y, p.coarse, p.y.index(b, ch, k, block)));
    }
    unlift(v, p.c.ndim);
    const double got = get(p.x, p.fine, i);
    expect(p, "unlifted sample, by definition", got, v[static_cast<size_t>(q)], 0);
    expect(p, "unlifted sample, as it was", got, before[at++], 0);
  });
  if (!p.x.gaps_untouched()) fail(p.c, "an inverse wrote outside its output");
}

inline void check_case(const Case& c, Random random) {
  Prepared p(c);
  if (c.integer()) return check_unlift(p, random);
  check_forward(p, random);
  Prepared back(c);
  check_adjoint(back, random);
}

}  // namespace medkern::test
