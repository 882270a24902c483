// The kernels declared in joint_histogram.hpp, compiled once per instruction set by csrc/isa.
#pragma once

#include "common/exponential.hpp"
#include "common/simd.hpp"
#include "joint_histogram.hpp"
#include "rows.hpp"

namespace medkern::MEDKERN_ISA {

// Weights, slopes and nearest bins of a tile of values. Values are lanes: `weights` and `slopes`
// are [taps, kHistogramTile].
struct ParzenTile {
  double *weights, *slopes;
  int64_t bin[kHistogramTile];

  using V = Vec<double>;
  static constexpr int lanes = kLanes<double>;
  static constexpr int64_t tile = kHistogramTile;

  // Values of `x` are used up.
  template <bool Slopes>
  void fill(const ParzenWindow& w, double* x) {
    const double scale = static_cast<double>(w.bins - (w.spline ? 5 : 1));
    for (int64_t i = 0; i < tile; i += lanes) {
      const V value = load<double>(x + i), zero{}, one = zero + 1.0;
      const V clamped = value < zero ? zero : value > one ? one : value;  // NaN stays
      const V inside = (value >= zero) & (value <= one) ? one : zero;
      const V position = clamped * scale + (w.spline ? 2.0 : 0.0);
      V nearest = (position + 0x1.8p52) - 0x1.8p52;
      if (w.spline) nearest = nearest > position ? nearest - 1.0 : nearest;
      nearest = position == position ? nearest : zero;
      store(x + i, nearest);
      if (w.spline) {
        spline<Slopes>(position - nearest, inside * scale, i);
      } else {
        gaussian<Slopes>(w, nearest, position - nearest, inside * scale, i);
      }
    }
    for (int64_t i = 0; i < tile; ++i) bin[i] = static_cast<int64_t>(x[i]);
  }

  template <bool Slopes>
  MEDKERN_INLINE void gaussian(const ParzenWindow& w, V nearest, V t, V scale, int64_t i) {
    const double sharpness = 1 / (w.sigma * w.sigma);
    const V magnitude = t < 0 ? t : -t;
    const V falling = exp_of_negative<double>(magnitude * sharpness), rising = 1.0 / falling;
    const V up = t < 0 ? falling : rising, down = t < 0 ? rising : falling;
    const double ratio = __builtin_exp(-0.5 * sharpness);
    V total = t * 0.0 + 1.0, mean{};
    store(weights - w.low * tile + i, total);
    // exp(-j^2 s / 2) = product of exp(-(2 j - 1) s / 2)
    V above = total, below = total;
    double step = ratio;
    for (int64_t j = 1; j <= -w.low; ++j) {
      above *= up * step;
      below *= down * step;
      step *= ratio * ratio;
      const double offset = static_cast<double>(j);
      const V last = V{} + static_cast<double>(w.bins - 1);
      const V more = nearest + offset > last ? V{} : above;
      const V less = nearest - offset < 0 ? V{} : below;
      total += more + less;
      mean += (more - less) * offset;
      store(weights + (j - w.low) * tile + i, more);
      store(weights + (-j - w.low) * tile + i, less);
    }
    const V norm = 1.0 / total;
    mean *= norm;
    for (int64_t j = w.low; j < w.low + w.taps; ++j) {
      double* at = weights + (j - w.low) * tile + i;
      const V weight = load<double>(at) * norm;
      store(at, weight);
      if (!Slopes) continue;
      store(slopes + (j - w.low) * tile + i,
            weight * (static_cast<double>(j) - mean) * (scale * sharpness));
    }
  }

  template <bool Slopes>
  MEDKERN_INLINE void spline(V t, V scale, int64_t i) {
    V values[4], steps[4];
    spline_taps(t, values, steps);
    for (int k = 0; k < 4; ++k) {
      store(weights + k * tile + i, values[k]);
      if (Slopes) store(slopes + k * tile + i, steps[k] * scale);
    }
  }
};

template <class S>
struct JointHistogramRun {
  using C = Compute<S>;
  using Problem = JointHistogramProblem;
  using Row = Vec<double, 8>;  // taps of one value
  static constexpr int64_t tile = kHistogramTile;

  // Weights of a tile of both images; those of b also value by value, [tile, padded_taps].
  struct Scratch {
    double *a, *a_slopes, *b, *b_slopes, *b_rows, *b_slope_rows, *histogram;
    ParzenTile of_a, of_b;

    Scratch(const ParzenWindow& w, double* memory) {
      const int64_t size = w.padded_taps() * tile;
      a = memory;
      a_slopes = a + size;
      b = a_slopes + size;
      b_slopes = b + size;
      b_rows = b_slopes + size;
      b_slope_rows = b_rows + size;
      histogram = b_slope_rows + size;
      std::memset(memory, 0, static_cast<size_t>(6 * size + w.padded_size()) * sizeof(double));
      of_a.weights = a;
      of_a.slopes = a_slopes;
      of_b.weights = b;
      of_b.slopes = b_slopes;
    }
  };

  static void transpose(const ParzenWindow& w, const double* from, double* to) {
    const int64_t pitch = w.padded_taps();
    for (int64_t j = 0; j < w.taps; ++j) {
      for (int64_t i = 0; i < tile; ++i) to[i * pitch + j] = from[j * tile + i];
    }
  }

  // Calls body(first, count) for every tile of the part, whose weights are in the scratch. What is
  // beyond its end weighs nothing.
  template <bool Slopes, class Body>
  static MEDKERN_INLINE void each_tile(const Problem& p, int64_t unit, Scratch& s,
                                       const Body& body) {
    const int64_t parts = joint_histogram_parts(p), sample = unit / parts, part = unit % parts;
    const int64_t begin = part * p.voxels / parts, end = (part + 1) * p.voxels / parts;
    const S* a = static_cast<const S*>(p.a) + sample * p.voxels;
    const S* b = static_cast<const S*>(p.b) + sample * p.voxels;
    for (int64_t first = begin; first < end; first += tile) {
      const int64_t count = std::min(tile, end - first);
      double x[tile] = {}, y[tile] = {};
      widen_row(a + first, count, 0.0, x);
      widen_row(b + first, count, 0.0, y);
      s.of_a.template fill<Slopes>(p.window, x);
      s.of_b.template fill<Slopes>(p.window, y);
      transpose(p.window, s.b, s.b_rows);
      if (Slopes) transpose(p.window, s.b_slopes, s.b_slope_rows);
      body(sample, first, count);
    }
  }

  static MEDKERN_INLINE int64_t corner(const ParzenWindow& w, const Scratch& s, int64_t i) {
    return w.at(s.of_a.bin[i] + w.low, s.of_b.bin[i] + w.low);
  }

  // Values go to two histograms by turns, so that neighbours of one intensity do not wait for each
  // other.
  template <int Chunks>
  static void forward(const Problem& p, int64_t unit, double* memory) {
    const ParzenWindow& w = p.window;
    Scratch s(w, memory);
    double* histograms[2] = {p.parts + unit * w.padded_size(), s.histogram};
    const int64_t chunks = Chunks ? Chunks : w.padded_taps() / 8, pitch = w.pitch();
    std::memset(histograms[0], 0, static_cast<size_t>(w.padded_size()) * sizeof(double));
    each_tile<false>(p, unit, s, [&](int64_t, int64_t, int64_t count) {
      for (int64_t i = 0; i < count; ++i) {
        double* h = histograms[i % 2] + corner(w, s, i);
        const double* row = s.b_rows + i * w.padded_taps();
        for (int64_t k = 0; k < w.taps; ++k, h += pitch) {
          const double weight = s.a[k * tile + i];
          for (int64_t c = 0; c < chunks; ++c) {
            const Row sum = load_raw<Row>(h + 8 * c) + weight * load_raw<Row>(row + 8 * c);
            std::memcpy(h + 8 * c, &sum, sizeof(sum));
          }
        }
      }
    });
    for (int64_t i = 0; i < w.padded_size(); ++i) histograms[0][i] += histograms[1][i];
  }

  static MEDKERN_INLINE double sum_of(Row x) {
    const double a = x[0] + x[4], b = x[1] + x[5], c = x[2] + x[6], d = x[3] + x[7];
    return (a + c) + (b + d);
  }

  template <int Chunks>
  static void backward(const Problem& p, int64_t unit, double* memory) {
    const ParzenWindow& w = p.window;
    Scratch s(w, memory);
    const int64_t chunks = Chunks ? Chunks : w.padded_taps() / 8, pitch = w.pitch();
    each_tile<true>(p, unit, s, [&](int64_t sample, int64_t first, int64_t count) {
      double in_a[tile], in_b[tile];
      for (int64_t i = 0; i < count; ++i) {
        const double* g = p.weights + sample * w.padded_size() + corner(w, s, i);
        Row sum_a{}, sum_b{};
        for (int64_t c = 0; c < chunks; ++c) {
          Row by_slope{}, by_weight{};
          for (int64_t k = 0; k < w.taps; ++k) {
            const Row pull = load_raw<Row>(g + k * pitch + 8 * c);
            by_slope += s.a_slopes[k * tile + i] * pull;
            by_weight += s.a[k * tile + i] * pull;
          }
          const int64_t at = i * w.padded_taps() + 8 * c;
          sum_a += by_slope * load_raw<Row>(s.b_rows + at);
          sum_b += by_weight * load_raw<Row>(s.b_slope_rows + at);
        }
        in_a[i] = sum_of(sum_a);
        in_b[i] = sum_of(sum_b);
      }
      S* to = static_cast<S*>(p.grads) + sample * (p.both ? 2 : 1) * p.voxels + first;
      narrow_row(in_a, count, to);
      if (p.both) narrow_row(in_b, count, to + p.voxels);
    });
  }

  template <bool Backward>
  static void run(const Problem& p, int64_t begin, int64_t end, double* scratch) {
    const int64_t chunks = p.window.padded_taps() / 8;
    for (int64_t unit = begin; unit < end; ++unit) {
      if constexpr (Backward) {
        chunks == 1   ? backward<1>(p, unit, scratch)
        : chunks == 2 ? backward<2>(p, unit, scratch)
                      : backward<0>(p, unit, scratch);
      } else {
        chunks == 1   ? forward<1>(p, unit, scratch)
        : chunks == 2 ? forward<2>(p, unit, scratch)
                      : forward<0>(p, unit, scratch);
      }
    }
  }
};

JointHistogramKernel joint_histogram_kernel(bool backward, FloatType type) {
  const auto select = [&]<class Run>(Run) {
    return backward ? &Run::template run<true> : &Run::template run<false>;
  };
  switch (type) {
    case FloatType::float16:
      return select(JointHistogramRun<Half>{});
    case FloatType::bfloat16:
      return select(JointHistogramRun<BFloat16>{});
    case FloatType::float64:
      return select(JointHistogramRun<double>{});
    default:
      return select(JointHistogramRun<float>{});
  }
}

}  // namespace medkern::MEDKERN_ISA
