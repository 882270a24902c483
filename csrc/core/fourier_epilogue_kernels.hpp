// The kernels declared in fourier_epilogue.hpp, compiled once per instruction set by
// csrc/isa/fourier_epilogue.cpp.
#pragma once

#include "common/lane_sums.hpp"
#include "common/normal.hpp"
#include "common/rows.hpp"
#include "fourier_epilogue.hpp"
#include "spectral_gemm.hpp"

namespace medkern::MEDKERN_ISA {

// Some consecutive pixels of one sample: `count`, and those up to the end of the last cache line.
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
  C *const x, *const s, *const grad, *const d_x;

  EpilogueRun(const FourierEpilogue& problem, bool backward, void* buffer)
      : p(problem),
        at(problem, backward),
        x(static_cast<C*>(buffer) + at.x),
        s(static_cast<C*>(buffer) + at.s),
        grad(static_cast<C*>(buffer) + at.grad),
        d_x(static_cast<C*>(buffer) + at.d_x) {}

  MEDKERN_INLINE Tile tile_at(int64_t index) const {
    const int64_t size = p.tile(), per_sample = p.tiles_per_sample();
    const int64_t first = index % per_sample * size, rest = p.pixels - first;
    const int64_t count = rest < size ? rest : size;
    return {index / per_sample, first, count, (count + line - 1) / line * line};
  }

  // A row of pixels, with zeros after the last one.
  MEDKERN_INLINE void read(const EpilogueView& v, const Tile& t, int64_t channel, C* to) const {
    const S* from = static_cast<const S*>(v.data) + t.sample * v.batch + channel * v.channel;
    read_row(from + t.first, 1, t.count, to);
    for (int64_t i = (t.count + lanes - 1) / lanes * lanes; i < t.width; ++i) to[i] = C{};
  }

  MEDKERN_INLINE void write(const C* from, void* to, const Tile& t, int64_t channels,
                            int64_t channel) const {
    S* row = static_cast<S*>(to) + (t.sample * channels + channel) * p.pixels + t.first;
    write_row(from, p.streams, 1, t.count, row);
  }

  MEDKERN_INLINE C bias(int64_t channel) const {
    return p.bias ? static_cast<const C*>(p.bias)[channel] : C{};
  }

  // s = W x
  MEDKERN_INLINE void multiply(const Tile& t) const {
    const C* weight = static_cast<const C*>(p.weight);
    Gemm<C>::run(p.outputs, t.width, p.inputs, weight, p.inputs, x, at.pitch, s, at.pitch);
  }

  void forward_tile(const Tile& t) const {
    for (int64_t i = 0; i < p.inputs; ++i) read(p.x, t, i, x + i * at.pitch);
    multiply(t);
    C* const k = grad;
    for (int64_t o = 0; o < p.outputs; ++o) {
      C* const row = s + o * at.pitch;
      const C b = bias(o), *residual = p.residual ? x + o * at.pitch : nullptr;
      read(p.k, t, o, k);
      for (int64_t i = 0; i < t.width; i += lanes) {
        V v = load<C>(row + i) + (load<C>(k + i) + b);
        if (p.gelu) v = gelu<C>(v);
        if (residual) v += load<C>(residual + i);
        store(row + i, v);
      }
      write(row, p.y, t, p.outputs, o);
    }
  }

  // s becomes d_k.
  void differentiate(const Tile& t, C* k, double* lane_sums) const {
    for (int64_t o = 0; o < p.outputs; ++o) {
      C *const row = s + o * at.pitch, *const g = grad + o * at.pitch;
      const C b = bias(o);
      LaneSums<C> sums;
      read(p.grad, t, o, g);
      if (p.gelu) read(p.k, t, o, k);
      for (int64_t i = 0; i < t.width; i += kMostLanes) {
#pragma GCC unroll 8
        for (int part = 0; part < kMostLanes / lanes; ++part) {
          const int64_t j = i + part * lanes;
          V slope = load<C>(g + j);
          if (p.gelu) slope *= gelu_slope<C>(load<C>(row + j) + (load<C>(k + j) + b));
          sums.part[part % LaneSums<C>::parts] += slope;
          store(row + j, slope);
        }
      }
      sums.add_to(lane_sums + o * LaneSums<C>::width);
      write(row, p.d_k, t, p.outputs, o);
    }
  }

  // d_x = W^T d_k + g
  void pull_back(const Tile& t) const {
    const C* weight = static_cast<const C*>(p.transposed);
    Gemm<C>::run(p.inputs, t.width, p.outputs, weight, p.outputs, s, at.pitch, d_x, at.pitch);
    for (int64_t c = 0; c < p.inputs; ++c) {
      C* const row = d_x + c * at.pitch;
      const C* g = grad + c * at.pitch;
      for (int64_t i = 0; p.residual && i < t.width; i += lanes) {
        store(row + i, load<C>(row + i) + load<C>(g + i));
      }
      write(row, p.d_x, t, p.inputs, c);
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
        transpose(rows);
#pragma GCC unroll 16
        for (int r = 0; r < lanes; ++r) store(turned + (pixel + r) * at.width + first, rows[r]);
      }
    }
  }

  // Interleaving the first half of the rows with the second, once per bit of an index.
  static MEDKERN_INLINE void transpose(V (&rows)[lanes]) {
#pragma GCC unroll 4
    for (int step = 1; step < lanes; step *= 2) {
      V next[lanes];
#pragma GCC unroll 8
      for (int r = 0; r < lanes / 2; ++r) {
        interleave(rows[r], rows[r + lanes / 2], next[2 * r], next[2 * r + 1]);
      }
#pragma GCC unroll 16
      for (int r = 0; r < lanes; ++r) rows[r] = next[r];
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

  static void forward(const FourierEpilogue& p, int64_t begin, int64_t end, void* scratch) {
    const EpilogueRun run(p, false, scratch);
    for (int64_t tile = begin; tile < end; ++tile) run.forward_tile(run.tile_at(tile));
    if (p.streams) stream_fence();
  }

  void backward_chunk(int64_t chunk, C* buffer) const {
    C *const turned = buffer + at.turned, *const products = buffer + at.products;
    double* const lane_sums = reinterpret_cast<double*>(buffer + at.lanes);
    double* const sums = p.sums + chunk * p.sums_of_chunk();
    for (int64_t i = 0; i < p.sums_of_chunk(); ++i) sums[i] = 0;
    for (int64_t i = 0; i < p.outputs * LaneSums<C>::width; ++i) lane_sums[i] = 0;
    const int64_t tiles = p.tiles(), chunks = p.chunks();
    for (int64_t i = chunk * tiles / chunks; i < (chunk + 1) * tiles / chunks; ++i) {
      const Tile t = tile_at(i);
      for (int64_t c = 0; c < p.inputs; ++c) read(p.x, t, c, x + c * at.pitch);
      if (p.gelu) multiply(t);
      differentiate(t, d_x, lane_sums);
      pull_back(t);
      add_products(t, turned, products, sums);
    }
    for (int64_t o = 0; o < p.outputs; ++o) {
      sums[o * (p.inputs + 1) + p.inputs] = sum_of_lanes<C>(lane_sums + o * LaneSums<C>::width);
    }
  }

  static void backward(const FourierEpilogue& p, int64_t begin, int64_t end, void* scratch) {
    const EpilogueRun run(p, true, scratch);
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
