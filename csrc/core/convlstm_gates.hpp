// The kernels declared in convlstm.hpp, compiled once per instruction set by csrc/isa/convlstm.cpp.
#pragma once

#include "convlstm.hpp"
#include "convlstm_cell.hpp"

namespace medkern::MEDKERN_ISA {

// One row of a view: the pieces of kLanes<C> values that a kernel takes at a time.
template <class S, class C>
struct ConvLSTMRow {
  S* data;
  int64_t gate, step;

  static MEDKERN_INLINE ConvLSTMRow of(const ConvLSTMView& v, bool along_channels, int64_t sample,
                                       int64_t outer) {
    if (!v.data) return {nullptr, 0, 0};
    S* data = static_cast<S*>(v.data) + sample * v.batch;
    return along_channels ? ConvLSTMRow{data + outer * v.voxel, v.gate, v.channel}
                          : ConvLSTMRow{data + outer * v.channel, v.gate, v.voxel};
  }

  // Values [i, i + count) of a gate, the rest zero.
  MEDKERN_INLINE Vec<C> get(int64_t i, int64_t count, int64_t of_gate = 0) const {
    const S* from = data + of_gate * gate + i * step;
    if (step == 1 && count == kLanes<C>) return load<C>(from);
    if (step == 0) return Vec<C>{} + load_one<C>(from);
    C values[kLanes<C>] = {};
    for (int64_t n = 0; n < count; ++n) values[n] = load_one<C>(from + n * step);
    return load<C>(values);
  }

  MEDKERN_INLINE void put(Vec<C> values, int64_t i, int64_t count, int64_t of_gate = 0) const {
    S* to = data + of_gate * gate + i * step;
    if (step == 1 && count == kLanes<C>) return store(to, values);
    C single[kLanes<C>];
    store(single, values);
    for (int64_t n = 0; n < count; ++n) store_one(to + n * step, single[n]);
  }
};

// S: storage type of pre-activations and h.
template <class S>
struct ConvLSTMRun {
  using C = Compute<S>;
  using V = Vec<C>;
  using Wide = ConvLSTMRow<S, C>;
  using State = ConvLSTMRow<C, C>;

  // Calls body(row_of, i, count) for every piece, row_of<Row>(view) being the row of a view.
  template <class Body>
  static MEDKERN_INLINE void each_piece(const ConvLSTMGates& p, int64_t begin, int64_t end,
                                        const Body& body) {
    const bool along = p.along_channels();
    const int64_t outers = along ? p.voxels : p.hidden, length = along ? p.hidden : p.voxels;
    for (int64_t row = begin; row < end; ++row) body(along, row / outers, row % outers, length);
  }

  static MEDKERN_INLINE void read_gates(const Wide& x, const Wide& h, int64_t i, int64_t count,
                                        V (&a)[4]) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      a[j] = x.get(i, count, j);
      if (h.data) a[j] += h.get(i, count, j);
    }
  }

  static MEDKERN_INLINE const V* read_peephole(const State& row, int64_t i, int64_t count,
                                               V (&p)[3]) {
    if (!row.data) return nullptr;
    for (int j = 0; j < 3; ++j) p[j] = row.get(i, count, j);
    return p;
  }

  static void forward(const ConvLSTMGates& p, int64_t begin, int64_t end) {
    each_piece(p, begin, end, [&](bool along, int64_t sample, int64_t outer, int64_t length) {
      const auto x = Wide::of(p.gates_x, along, sample, outer);
      const auto gates_h = Wide::of(p.gates_h, along, sample, outer);
      const auto pre = Wide::of(p.pre, along, sample, outer);
      const auto h = Wide::of(p.h, along, sample, outer);
      const auto c = State::of(p.c, along, sample, outer);
      const auto c_out = State::of(p.c_out, along, sample, outer);
      const auto total = State::of(p.total, along, sample, outer);
      const auto peephole = State::of(p.peephole, along, sample, outer);
      for (int64_t i = 0; i < length; i += kLanes<C>) {
        const int64_t count = length - i < kLanes<C> ? length - i : kLanes<C>;
        V a[4], weights[3];
        read_gates(x, gates_h, i, count, a);
        for (int j = 0; pre.data && j < 4; ++j) pre.put(a[j], i, count, j);
        const V* w = read_peephole(peephole, i, count, weights);
        const V old = c.data ? c.get(i, count) : V{};
        const auto cell = ConvLSTMCell<C>::of(a, old, w);
        const V state = cell.o * cell.tanh_c;
        c_out.put(cell.c, i, count);
        h.put(state, i, count);
        if (total.data) total.put(total.get(i, count) + state, i, count);
      }
    });
  }

  static void backward(const ConvLSTMGates& p, int64_t begin, int64_t end) {
    each_piece(p, begin, end, [&](bool along, int64_t sample, int64_t outer, int64_t length) {
      const auto x = Wide::of(p.gates_x, along, sample, outer);
      const auto gates_h = Wide::of(p.gates_h, along, sample, outer);
      const auto grad_h = Wide::of(p.grad_h, along, sample, outer);
      const auto grad_h2 = Wide::of(p.grad_h2, along, sample, outer);
      const auto d_gates = Wide::of(p.d_gates, along, sample, outer);
      const auto h = Wide::of(p.h, along, sample, outer);
      const auto c = State::of(p.c, along, sample, outer);
      const auto grad_c = State::of(p.grad_c, along, sample, outer);
      const auto d_c = State::of(p.d_c, along, sample, outer);
      const auto peephole = State::of(p.peephole, along, sample, outer);
      for (int64_t i = 0; i < length; i += kLanes<C>) {
        const int64_t count = length - i < kLanes<C> ? length - i : kLanes<C>;
        V a[4], d[4], weights[3];
        read_gates(x, gates_h, i, count, a);
        const V* w = read_peephole(peephole, i, count, weights);
        const V old = c.data ? c.get(i, count) : V{};
        const auto cell = ConvLSTMCell<C>::of(a, old, w);
        V dh = grad_h.data ? grad_h.get(i, count) : V{};
        if (grad_h2.data) dh += grad_h2.get(i, count);
        const V dc = grad_c.data ? grad_c.get(i, count) : V{};
        d_c.put(cell.backward(old, w, dh, dc, d), i, count);
        for (int j = 0; j < 4; ++j) d_gates.put(d[j], i, count, j);
        if (h.data) h.put(cell.o * cell.tanh_c, i, count);
      }
    });
  }

  static ConvLSTMKernel select(bool backwards) { return backwards ? backward : forward; }
};

ConvLSTMKernel convlstm_gates_kernel(bool backward, FloatType type) {
  switch (type) {
    case FloatType::float16:
      return ConvLSTMRun<Half>::select(backward);
    case FloatType::bfloat16:
      return ConvLSTMRun<BFloat16>::select(backward);
    case FloatType::float64:
      return ConvLSTMRun<double>::select(backward);
    default:
      return ConvLSTMRun<float>::select(backward);
  }
}

}  // namespace medkern::MEDKERN_ISA
