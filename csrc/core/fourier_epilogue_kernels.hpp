// The kernels declared in fourier_epilogue.hpp, compiled once per instruction set by
// csrc/isa/fourier_epilogue.cpp.
#pragma once

#include "common/lane_sums.hpp"
#include "common/normal.hpp"
#include "common/rows.hpp"
#include "common/transpose.hpp"
#include "fourier_epilogue.hpp"
#include "spectral_gemm.hpp"

namespace medkern::MEDKERN_ISA {

// Some consecutive pixels of one sample: `count`, and `width` with the rest of the last 16.
struct EpilogueTile {
  int64_t sample, first, count, width;
};

// S: storage type of k, x and what is like them.
template <class S>
struct EpilogueRun {
  using C = Compute<S>;
  using V = Vec<C>;
  using Tile = EpilogueTile;
  static constexpr int lanes = kLanes<C>;
  static constexpr int64_t line = EpilogueLayout::line;

  const FourierEpilogue& p;
  const EpilogueLayout at;
  C *x, *next_x;  // of this tile and of the one after it
  C *const s, *const grad, *const d_x;

  EpilogueRun(const FourierEpilogue& problem, bool backward, void* buffer)
      : p(problem),
        at(problem, backward),
        x(static_cast<C*>(buffer) + at.x),
        next_x(static_cast<C*>(buffer) + at.next_x),
        s(static_cast<C*>(buffer) + at.s),
        grad(static_cast<C*>(buffer) + at.grad),
        d_x(static_cast<C*>(buffer) + at.d_x) {}

  MEDKERN_INLINE Tile tile_at(int64_t index) const {
    const int64_t size = p.tile(), per_sample = p.tiles_per_sample();
    const int64_t first = index % per_sample * size, rest = p.pixels - first;
    const int64_t count = rest < size ? rest : size;
    return {index / per_sample, first, count, (count + line - 1) / line * line};
  }

  static MEDKERN_INLINE const S* row_of(const EpilogueView& v, const Tile& t, int64_t channel) {
    return static_cast<const S*>(v.data) + t.sample * v.batch + channel * v.channel + t.first;
  }

  // A row of pixels, with zeros after the last one.
  static MEDKERN_INLINE void read(const EpilogueView& v, const Tile& t, int64_t channel, C* to) {
    read_row(row_of(v, t, channel), 1, t.count, to);
    for (int64_t i = (t.count + lanes - 1) / lanes * lanes; i < t.width; ++i) to[i] = C{};
  }

  // The same where it is, if it needs neither zeros nor conversion, else in `to`.
  static MEDKERN_INLINE const C* row(const EpilogueView& v, const Tile& t, int64_t channel, C* to) {
    if constexpr (std::is_same_v<S, C>) {
      if (t.count == t.width) return row_of(v, t, channel);
    }
    read(v, t, channel, to);
    return to;
  }

  void read_x(const Tile& t, int64_t begin, int64_t end, C* to) const {
    for (int64_t c = begin; c < end; ++c) read(p.x, t, c, to + c * at.pitch);
  }

  // Where vectors of a row of results go: past the caches one by one, which hides their way to
  // memory behind arithmetic, or to `row` first where they are not whole.
  struct Sink {
    S* to;
    C* row;
    int64_t count;
    bool direct, streams;

    MEDKERN_INLINE void put(int64_t i, V v, bool keep = false) const {
      if (direct) streams ? stream(to + i, v) : store(to + i, v);
      if (!direct || keep) store(row + i, v);
    }
    MEDKERN_INLINE void finish() const {
      if (!direct) write_row(row, false, 1, count, to);
    }
  };

  MEDKERN_INLINE Sink sink(void* to, const Tile& t, int64_t channels, int64_t channel,
                           C* row) const {
    S* at = static_cast<S*>(to) + (t.sample * channels + channel) * p.pixels + t.first;
    return {at, row, t.count, t.count == t.width, p.streams};
  }

  MEDKERN_INLINE C bias(int64_t channel) const {
    return p.bias ? static_cast<const C*>(p.bias)[channel] : C{};
  }

  // s = W x
  MEDKERN_INLINE void multiply(const Tile& t) const {
    const C* weight = static_cast<const C*>(p.weight);
    Gemm<C>::run(p.outputs, t.width, p.inputs, weight, p.inputs, x, at.pitch, s, at.pitch);
  }

  // Calls body(o, tile, channel, x) for every output o: it should prefetch the row that the tile
  // has of this channel, which is the next one of k, and a row of x. The x of the tile after this
  // one is read meanwhile, a row at a time, some arithmetic after it has been prefetched: rows are
  // too short for the hardware to foresee, which took more time than all arithmetic.
  template <class Body>
  MEDKERN_INLINE void each_output(const Tile& t, const Tile& next, const Body& body) const {
    int64_t done = 0, fetched = 0;
    for (int64_t o = 0; o < p.outputs; ++o) {
      read_x(next, done, fetched, next_x);
      done = fetched;
      const bool last = o + 1 == p.outputs;
      body(o, last ? next : t, last ? 0 : o + 1, row_of(p.x, next, done));
      fetched = (o + 1) * p.inputs / p.outputs;
    }
    read_x(next, done, p.inputs, next_x);
  }

  void forward_tile(const Tile& t, const Tile& next) const {
    multiply(t);
    const bool gelus = p.gelu, adds = p.residual;
    each_output(t, next, [&](int64_t o, const Tile& soon, int64_t channel, const S* soon_x) {
      C* const sum = s + o * at.pitch;
      const C *const residual = adds ? x + o * at.pitch : nullptr, b = bias(o);
      const C* const k = row(p.k, t, o, grad);
      const S* const soon_k = row_of(p.k, soon, channel);
      const Sink y = sink(p.y, t, p.outputs, o, sum);
      for (int64_t i = 0; i < t.width; i += lanes) {
        __builtin_prefetch(soon_x + i);
        __builtin_prefetch(soon_k + i);
        V v = load<C>(sum + i) + (load<C>(k + i) + b);
        if (gelus) v = gelu<C>(v);
        if (adds) v += load<C>(residual + i);
        y.put(i, v);
      }
      y.finish();
    });
  }

  // s becomes d_k.
  void differentiate(const Tile& t, const Tile& next, C* buffer, double* lane_sums) const {
    const bool gelus = p.gelu;
    each_output(t, next, [&](int64_t o, const Tile& soon, int64_t channel, const S* soon_x) {
      C *const sum = s + o * at.pitch, *const g = grad + o * at.pitch;
      const C *const k = gelus ? row(p.k, t, o, buffer) : nullptr, b = bias(o);
      const S* const soon_g = row_of(p.grad, soon, channel);
      const S* const soon_k = gelus ? row_of(p.k, soon, channel) : soon_g;
      const Sink d_k = sink(p.d_k, t, p.outputs, o, sum);
      LaneSums<C> sums;
      read(p.grad, t, o, g);
      for (int64_t i = 0; i < t.width; i += kMostLanes) {
        __builtin_prefetch(soon_x + i);
        __builtin_prefetch(soon_k + i);
        __builtin_prefetch(soon_g + i);
#pragma GCC unroll 8
        for (int part = 0; part < kMostLanes / lanes; ++part) {
          const int64_t j = i + part * lanes;
          V slope = load<C>(g + j);
          if (gelus) slope *= gelu_slope<C>(load<C>(sum + j) + (load<C>(k + j) + b));
          sums.part[part % LaneSums<C>::parts] += slope;
          d_k.put(j, slope, true);
        }
      }
      sums.add_to(lane_sums + o * LaneSums<C>::width);
      d_k.finish();
    });
  }

  // d_x = W^T d_k + g
  void pull_back(const Tile& t) const {
    const C* weight = static_cast<const C*>(p.transposed);
    const bool adds = p.residual;
    Gemm<C>::run(p.inputs, t.width, p.outputs, weight, p.outputs, s, at.pitch, d_x, at.pitch);
    for (int64_t c = 0; c < p.inputs; ++c) {
      C* const row = d_x + c * at.pitch;
      const C* g = grad + c * at.pitch;
      const Sink to = sink(p.d_x, t, p.inputs, c, row);
      for (int64_t i = 0; i < t.width; i += lanes) {
        const V v = load<C>(row + i);
        to.put(i, adds ? v + load<C>(g + i) : v);
      }
      to.finish();
    }
  }

  // x, one row of inputs per pixel: [tile, at.width], zeros beyond the inputs.
  void turn(const Tile& t, C* turned) const {
    for (int64_t first = 0; first < at.width; first += lanes) {
      for (int64_t pixel = 0; pixel < t.width; pixel += lanes) {
        V rows[lanes];
#pragma GCC unroll 16
        for (int r = 0; r < lanes; ++r) {
          rows[r] = first + r < p.inputs ? load<C>(x + (first + r) * at.pitch + pixel) : V{};
        }
        transpose<C>(rows);
#pragma GCC unroll 16
        for (int r = 0; r < lanes; ++r) store(turned + (pixel + r) * at.width + first, rows[r]);
      }
    }
  }

  // Adds d_k x^T to the sums of a chunk.
  void add_products(const Tile& t, C* turned, C* products, double* sums) const {
    turn(t, turned);
    Gemm<C>::run(p.outputs, at.width, t.count, s, at.pitch, turned, at.width, products, at.width);
    for (int64_t o = 0; o < p.outputs; ++o) {
      for (int64_t i = 0; i < p.inputs; ++i) {
        sums[o * (p.inputs + 1) + i] += static_cast<double>(products[o * at.width + i]);
      }
    }
  }

  // Calls body(tile, next) for the tiles [begin, end) with x in its place.
  template <class Body>
  MEDKERN_INLINE void each_tile(int64_t begin, int64_t end, const Body& body) {
    if (begin < end) read_x(tile_at(begin), 0, p.inputs, x);
    for (int64_t i = begin; i < end; ++i) {
      body(tile_at(i), tile_at(i + 1 < end ? i + 1 : i));
      C* const old = x;
      x = next_x;
      next_x = old;
    }
  }

  static void forward(const FourierEpilogue& p, int64_t begin, int64_t end, void* scratch) {
    EpilogueRun run(p, false, scratch);
    run.each_tile(begin, end, [&](const Tile& t, const Tile& next) { run.forward_tile(t, next); });
    if (p.streams) stream_fence();
  }

  void backward_chunk(int64_t chunk, C* buffer) {
    C *const turned = buffer + at.turned, *const products = buffer + at.products;
    double* const lane_sums = reinterpret_cast<double*>(buffer + at.lanes);
    double* const sums = p.sums + chunk * p.sums_of_chunk();
    for (int64_t i = 0; i < p.sums_of_chunk(); ++i) sums[i] = 0;
    for (int64_t i = 0; i < p.outputs * LaneSums<C>::width; ++i) lane_sums[i] = 0;
    const int64_t tiles = p.tiles(), chunks = p.chunks();
    each_tile(chunk * tiles / chunks, (chunk + 1) * tiles / chunks,
              [&](const Tile& t, const Tile& next) {
                if (p.gelu) multiply(t);
                differentiate(t, next, d_x, lane_sums);
                pull_back(t);
                add_products(t, turned, products, sums);
              });
    for (int64_t o = 0; o < p.outputs; ++o) {
      sums[o * (p.inputs + 1) + p.inputs] = sum_of_lanes<C>(lane_sums + o * LaneSums<C>::width);
    }
  }

  static void backward(const FourierEpilogue& p, int64_t begin, int64_t end, void* scratch) {
    EpilogueRun run(p, true, scratch);
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      run.backward_chunk(chunk, static_cast<C*>(scratch));
    }
    if (p.streams) stream_fence();
  }

  static FourierEpilogueKernel select(bool backwards) { return backwards ? backward : forward; }
};

FourierEpilogueKernel fourier_epilogue_kernel(bool backward, FloatType type) {
  switch (type) {
    case FloatType::float16:
      return EpilogueRun<Half>::select(backward);
    case FloatType::bfloat16:
      return EpilogueRun<BFloat16>::select(backward);
    case FloatType::float64:
      return EpilogueRun<double>::select(backward);
    default:
      return EpilogueRun<float>::select(backward);
  }
}

}  // namespace medkern::MEDKERN_ISA
