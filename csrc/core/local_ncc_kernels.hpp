// The kernels declared in local_ncc.hpp, compiled once per instruction set by csrc/isa.
#pragma once

#include "common/simd.hpp"
#include "local_ncc.hpp"
#include "local_ncc_window.hpp"
#include "rows.hpp"

namespace medkern::MEDKERN_ISA {

// out[i] = sum of from[i, i + window) for i < count, by doubling; `power` is scratch. Returns where
// the sums are: `from` itself for a window of 1. Rows are readable some vectors past their end.
MEDKERN_INLINE const double* box_row(const double* from, int64_t count, int64_t window,
                                     double* power, double* out) {
  constexpr int lanes = kLanes<double>;
  const int64_t width = count + window - 1;
  const double *sums = from, *partial = from;  // windows of `length`; of `taken`, the result so far
  int64_t length = 1, taken = 1;
  for (int64_t rest = window >> 1; rest > 0; rest >>= 1) {
    for (int64_t i = 0; i < width - 2 * length + 1; i += lanes) {
      store(power + i, load<double>(sums + i) + load<double>(sums + i + length));
    }
    sums = power;
    length *= 2;
    if (rest % 2 == 0) continue;
    for (int64_t i = 0; i < count; i += lanes) {
      store(out + i, load<double>(partial + i) + load<double>(sums + i + taken));
    }
    partial = out;
    taken += length;
  }
  return partial;
}

// S: storage type of the images.
template <class S>
struct LocalNccRun {
  using C = Compute<S>;
  using V = Vec<double>;
  using Problem = LocalNccProblem;
  using Tile = LocalNccTile;
  static constexpr int lanes = kLanes<double>;
  static constexpr int kMoments = 5;  // sums of a, b, aa, bb, ab

  // A tile and its scratch. Column 0 of a padded row is x = begin - window / 2; what lies outside
  // of the image stays 0.
  struct Frame {
    const Problem& p;
    Tile t;
    int64_t pitch, width, count;  // of a padded row; used of it; voxels of a row of the tile
    int64_t from, inside, first;  // x, number and first column of the voxels within the image
    double *rows, *column, *boxed, *power, *entering, *leaving, *result, *inside_x;

    Frame(const Problem& problem, int64_t unit, double* scratch)
        : p(problem), t(local_ncc_tile(problem, unit)), pitch(local_ncc_pitch(problem)) {
      count = t.end[2] - t.begin[2];
      width = count + p.window[2] - 1;
      const int64_t begin = t.begin[2] - p.window[2] / 2;
      const int64_t end = std::min(p.size[2], t.end[2] + p.window[2] / 2);
      from = std::max<int64_t>(0, begin);
      inside = end - from;
      first = from - begin;
      double* next = scratch;
      const auto take = [&](int64_t n) { return std::exchange(next, next + n * pitch); };
      column = take(kMoments);
      boxed = take(kMoments);
      entering = take(kMoments);
      leaving = take(kMoments);
      result = take(kMoments + 1);
      power = take(1);
      inside_x = take(1);
      rows = next;
      std::memset(scratch, 0, local_ncc_scratch(p));
      for (int64_t i = 0; i < count; ++i)
        inside_x[i] = static_cast<double>(inside_of(2, t.begin[2] + i));
    }

    // Voxels of the window around `at` that the image has, along an axis.
    int64_t inside_of(int axis, int64_t at) const {
      const int64_t r = p.window[axis] / 2;
      return std::min(p.size[axis], at + r + 1) - std::max<int64_t>(0, at - r);
    }
    int64_t row_at(int64_t z, int64_t y) const { return (z * p.size[1] + y) * p.size[2]; }
  };

  // The images as a source of sums to slide.
  struct Images {
    static constexpr int kSums = kMoments;
    const S *a, *b;
    double centre_a, centre_b;

    Images(const Problem& p, int64_t volume)
        : a(static_cast<const S*>(p.a) + volume * p.voxels()),
          b(static_cast<const S*>(p.b) + volume * p.voxels()),
          centre_a(p.centre[2 * volume]),
          centre_b(p.centre[2 * volume + 1]) {}

    void read(const Frame& f, int64_t at, double* to) const {
      widen_row(a + at + f.from, f.inside, centre_a, to + f.first);
      widen_row(b + at + f.from, f.inside, centre_b, to + f.pitch + f.first);
    }

    static MEDKERN_INLINE void products(const Frame& f, const double* from, int64_t i,
                                        V (&to)[kSums]) {
      to[0] = load<double>(from + i);
      to[1] = load<double>(from + f.pitch + i);
      to[2] = to[0] * to[0];
      to[3] = to[1] * to[1];
      to[4] = to[0] * to[1];
    }
  };

  // Planes of coefficients as such a source.
  template <int K>
  struct Coefficients {
    static constexpr int kSums = K;
    const C* planes;
    int64_t voxels;

    Coefficients(const Problem& p, int64_t volume)
        : planes(static_cast<const C*>(p.coefficients) +
                 (volume - p.first_volume) * K * p.voxels()),
          voxels(p.voxels()) {}

    void read(const Frame& f, int64_t at, double* to) const {
      for (int k = 0; k < K; ++k) {
        widen_row(planes + k * voxels + at + f.from, f.inside, 0.0, to + k * f.pitch + f.first);
      }
    }

    static MEDKERN_INLINE void products(const Frame& f, const double* from, int64_t i,
                                        V (&to)[kSums]) {
      for (int k = 0; k < K; ++k) to[k] = load<double>(from + k * f.pitch + i);
    }
  };

  template <bool Enters, bool Leaves, class Source>
  static void slide(const Frame& f, double* sums) {
    constexpr int K = Source::kSums;
    for (int64_t i = 0; i < f.width; i += lanes) {
      V in[K], out[K];
      if (Enters) Source::products(f, f.entering, i, in);
      if (Leaves) Source::products(f, f.leaving, i, out);
      for (int k = 0; k < K; ++k) {
        V sum = load<double>(sums + k * f.pitch + i);
        if (Enters) sum += in[k];
        if (Leaves) sum -= out[k];
        store(sums + k * f.pitch + i, sum);
      }
    }
  }

  // Moves the sums of row y from plane z - 1 to z: `enter` and `leave` are planes, or -1.
  template <class Source>
  static void slide_row(const Frame& f, const Source& source, int64_t enter, int64_t leave,
                        int64_t y, double* sums) {
    if (enter >= 0) source.read(f, f.row_at(enter, y), f.entering);
    if (leave >= 0) source.read(f, f.row_at(leave, y), f.leaving);
    if (enter >= 0 && leave >= 0) return slide<true, true, Source>(f, sums);
    if (enter >= 0) return slide<true, false, Source>(f, sums);
    if (leave >= 0) return slide<false, true, Source>(f, sums);
  }

  // column += entering - leaving, either may be null
  static void slide_column(int64_t n, const double* entering, const double* leaving,
                           double* column) {
    if (entering && leaving) {
      for (int64_t i = 0; i < n; i += lanes) {
        store(column + i,
              load<double>(column + i) + load<double>(entering + i) - load<double>(leaving + i));
      }
    } else if (entering) {
      for (int64_t i = 0; i < n; i += lanes) {
        store(column + i, load<double>(column + i) + load<double>(entering + i));
      }
    } else if (leaving) {
      for (int64_t i = 0; i < n; i += lanes) {
        store(column + i, load<double>(column + i) - load<double>(leaving + i));
      }
    }
  }

  // Calls emit(z, y, sums) for every row of the tile, with the window sums of its voxels.
  template <class Source, class Emit>
  static void each_row(const Frame& f, const Source& source, const Emit& emit) {
    constexpr int K = Source::kSums;
    const Problem& p = f.p;
    const int64_t reach_z = p.window[0] / 2, reach_y = p.window[1] / 2, step = K * f.pitch;
    const int64_t top = f.t.begin[1] - reach_y;
    const auto has = [&](int64_t y) { return y >= 0 && y < p.size[1]; };
    const int64_t low = std::max<int64_t>(0, f.t.begin[0] - reach_z);
    for (int64_t z = low; z < std::min(p.size[0], f.t.begin[0] + reach_z); ++z) {
      for (int64_t y = std::max<int64_t>(0, top); y < std::min(p.size[1], f.t.end[1] + reach_y);
           ++y) {
        slide_row(f, source, z, -1, y, f.rows + (y - top) * step);
      }
    }
    for (int64_t z = f.t.begin[0]; z < f.t.end[0]; ++z) {
      const int64_t enter = z + reach_z < p.size[0] ? z + reach_z : -1;
      const int64_t leave = z > f.t.begin[0] ? z - reach_z - 1 : -1;
      for (int64_t i = 0; i < step; ++i) f.column[i] = 0;
      for (int64_t y = top; y < f.t.end[1] + reach_y; ++y) {
        double* row = f.rows + (y - top) * step;
        if (has(y)) slide_row(f, source, enter, leave, y, row);
        const int64_t last = y - p.window[1];
        slide_column(step, has(y) ? row : nullptr,
                     last >= top && has(last) ? row - p.window[1] * step : nullptr, f.column);
        if (y - reach_y < f.t.begin[1]) continue;
        const double* sums[K];
        for (int k = 0; k < K; ++k) {
          sums[k] =
              box_row(f.column + k * f.pitch, f.count, p.window[2], f.power, f.boxed + k * f.pitch);
        }
        emit(z, y - reach_y, sums);
      }
    }
  }

  static LocalNccRow row_of(const Frame& f, const Images& images, int64_t z, int64_t y) {
    return {f.p, static_cast<double>(f.inside_of(0, z) * f.inside_of(1, y)), images.centre_a,
            images.centre_b};
  }

  static MEDKERN_INLINE LocalNccWindow<V> window_at(const Frame& f, const LocalNccRow& row,
                                                    const double* const (&sums)[kMoments],
                                                    int64_t i) {
    V at[kMoments];
    for (int k = 0; k < kMoments; ++k) at[k] = load<double>(sums[k] + i);
    return {row, at, load<double>(f.inside_x + i)};
  }

  static void forward(const Problem& p, int64_t begin, int64_t end, void* scratch) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const Frame f(p, unit, static_cast<double*>(scratch));
      const Images images(p, f.t.volume);
      double *cc = f.result, *total = f.result + f.pitch;
      each_row(f, images, [&](int64_t z, int64_t y, const double* const(&sums)[kMoments]) {
        const LocalNccRow row = row_of(f, images, z, y);
        for (int64_t i = 0; i < f.count; i += lanes) {
          const V value = window_at(f, row, sums, i).correlation(p.squared);
          store(cc + i, value);
          store(total + i, load<double>(total + i) + value);
        }
        if (!p.map) return;
        narrow_row(
            cc, f.count,
            static_cast<C*>(p.map) + f.t.volume * p.voxels() + f.row_at(z, y) + f.t.begin[2]);
      });
      if (!p.sums) continue;
      double sum = 0;
      for (int64_t i = 0; i < f.count; ++i) sum += total[i];
      p.sums[unit] = sum;
    }
  }

  static void coefficients(const Problem& p, int64_t begin, int64_t end, void* scratch) {
    const C* weights = static_cast<const C*>(p.weights);
    for (int64_t unit = begin; unit < end; ++unit) {
      const Frame f(p, unit, static_cast<double*>(scratch));
      const Images images(p, f.t.volume);
      C* planes =
          static_cast<C*>(p.coefficients) + (f.t.volume - p.first_volume) * p.planes() * p.voxels();
      double *g = f.result, *out = g + f.pitch;
      if (!p.weight_per_voxel) {
        const double weight = static_cast<double>(weights[f.t.volume]) * p.weight_scale;
        for (int64_t i = 0; i < f.pitch; ++i) g[i] = weight;
      }
      each_row(f, images, [&](int64_t z, int64_t y, const double* const(&sums)[kMoments]) {
        const LocalNccRow row = row_of(f, images, z, y);
        const int64_t at = f.row_at(z, y) + f.t.begin[2];
        if (p.weight_per_voxel) {
          widen_row(weights + f.t.volume * p.voxels() + at, f.count, 0.0, g);
        }
        for (int64_t i = 0; i < f.count; i += lanes) {
          V values[5];
          window_at(f, row, sums, i).coefficients(row, p.squared, load<double>(g + i), values);
          for (int k = 0; k < 3; ++k) store(out + k * f.pitch + i, values[k]);
          for (int k = 3; k < 5 && p.both; ++k) store(out + k * f.pitch + i, values[k]);
        }
        for (int64_t k = 0; k < p.planes(); ++k) {
          narrow_row(out + k * f.pitch, f.count, planes + k * p.voxels() + at);
        }
      });
    }
  }

  static S* grad_of(const Problem& p, int64_t volume, int64_t which) {
    const int64_t images = p.both ? 2 : 1, sample = volume / p.channels;
    const int64_t at = (sample * images + which) * p.channels + volume % p.channels;
    return static_cast<S*>(p.grads) + at * p.voxels();
  }

  template <int K>
  static void gradient(const Problem& p, int64_t begin, int64_t end, void* scratch) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const Frame f(p, unit, static_cast<double*>(scratch));
      const Images images(p, f.t.volume);
      double *a = f.result, *b = a + f.pitch, *in_a = b + f.pitch, *in_b = in_a + f.pitch;
      each_row(f, Coefficients<K>(p, f.t.volume),
               [&](int64_t z, int64_t y, const double* const(&sums)[K]) {
                 const int64_t at = f.row_at(z, y) + f.t.begin[2];
                 widen_row(images.a + at, f.count, images.centre_a, a);
                 widen_row(images.b + at, f.count, images.centre_b, b);
                 for (int64_t i = 0; i < f.count; i += lanes) {
                   const V x = load<double>(a + i), w = load<double>(b + i);
                   const V cross = load<double>(sums[0] + i);
                   store(in_a + i,
                         w * cross + x * load<double>(sums[1] + i) + load<double>(sums[2] + i));
                   if constexpr (K == 5) {
                     store(in_b + i,
                           x * cross + w * load<double>(sums[3] + i) + load<double>(sums[4] + i));
                   }
                 }
                 narrow_row(in_a, f.count, grad_of(p, f.t.volume, 0) + at);
                 if (K == 5) narrow_row(in_b, f.count, grad_of(p, f.t.volume, 1) + at);
               });
    }
  }

  static void gradient_of(const Problem& p, int64_t begin, int64_t end, void* scratch) {
    p.both ? gradient<5>(p, begin, end, scratch) : gradient<3>(p, begin, end, scratch);
  }

  static LocalNccKernel select(LocalNccStage stage) {
    return stage == LocalNccStage::forward        ? forward
           : stage == LocalNccStage::coefficients ? coefficients
                                                  : gradient_of;
  }
};

LocalNccKernel local_ncc_kernel(LocalNccStage stage, FloatType type) {
  switch (type) {
    case FloatType::float16:
      return LocalNccRun<Half>::select(stage);
    case FloatType::bfloat16:
      return LocalNccRun<BFloat16>::select(stage);
    case FloatType::float64:
      return LocalNccRun<double>::select(stage);
    default:
      return LocalNccRun<float>::select(stage);
  }
}

}  // namespace medkern::MEDKERN_ISA
