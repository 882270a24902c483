// CUDA kernels of the ConvLSTM's gates, forward and backward: see core/convlstm.hpp for what they
// compute, on any strides.
//
// A thread takes one voxel of one channel at a time, with its four gates; neighbouring threads are
// neighbours along the axis that is contiguous, voxels or channels. No shared memory, no atomics:
// the running sum of h has one owner per element. Computed in float32 for half precision and
// float32. Bytes per element: as on the CPU, 11 numbers forward with separate summands, 7 with one.
#pragma once

#include <cmath>

#include "convlstm.hpp"
#include "core/common/storage.hpp"
#include "grid_stride.cuh"

namespace medkern::MEDKERN_ISA {

// Where a thread is, and its elements of the problem's views.
struct ConvLSTMElement {
  int64_t sample, channel, voxel;

  static MEDKERN_DEVICE_INLINE ConvLSTMElement at(const ConvLSTMGates& p, bool along_channels,
                                                  int64_t index) {
    const int64_t inner = along_channels ? p.hidden : p.voxels;
    const int64_t outer = along_channels ? p.voxels : p.hidden;
    int64_t row, lane, sample, line;
    split(index, inner, row, lane);
    split(row, outer, sample, line);
    return along_channels ? ConvLSTMElement{sample, lane, line}
                          : ConvLSTMElement{sample, line, lane};
  }

  template <class S>
  MEDKERN_DEVICE_INLINE S* of(const ConvLSTMView& v, int gate = 0) const {
    return static_cast<S*>(v.data) + sample * v.batch + gate * v.gate + channel * v.channel +
           voxel * v.voxel;
  }

  // The element of a view, or 0 where there is none.
  template <class S>
  MEDKERN_DEVICE_INLINE Compute<S> get(const ConvLSTMView& v, int gate = 0) const {
    return v.data == nullptr ? Compute<S>{} : load_one<Compute<S>>(of<S>(v, gate));
  }

  template <class S>
  MEDKERN_DEVICE_INLINE void put(const ConvLSTMView& v, Compute<S> value, int gate = 0) const {
    if (v.data != nullptr) store_one(of<S>(v, gate), value);
  }
};

template <class C>
MEDKERN_DEVICE_INLINE C logistic(C x) {
  return C{1} / (C{1} + std::exp(-x));
}

// What the gates make of the pre-activations; without peepholes p is 0.
template <class C>
struct ConvLSTMPoint {
  C i, f, o, g, c, tanh_c;

  static MEDKERN_DEVICE_INLINE ConvLSTMPoint of(const C (&a)[4], C old, const C (&p)[3]) {
    ConvLSTMPoint s;
    s.i = logistic(a[0] + p[0] * old);
    s.f = logistic(a[1] + p[1] * old);
    s.g = std::tanh(a[3]);
    s.c = s.f * old + s.i * s.g;
    s.o = logistic(a[2] + p[2] * s.c);
    s.tanh_c = std::tanh(s.c);
    return s;
  }
};

template <class S>
MEDKERN_DEVICE_INLINE ConvLSTMPoint<Compute<S>> convlstm_point(const ConvLSTMGates& problem,
                                                               const ConvLSTMElement& e,
                                                               Compute<S> (&a)[4],
                                                               Compute<S> (&p)[3]) {
  using C = Compute<S>;
  MEDKERN_UNROLL
  for (int j = 0; j < 4; ++j) {
    a[j] = e.get<S>(problem.gates_x, j) + e.get<S>(problem.gates_h, j);
  }
  MEDKERN_UNROLL
  for (int j = 0; j < 3; ++j) p[j] = e.get<C>(problem.peephole, j);
  return ConvLSTMPoint<C>::of(a, e.get<C>(problem.c), p);
}

template <class S>
MEDKERN_GLOBAL void convlstm_gates_fwd_kernel(ConvLSTMGates p, bool along_channels) {
  using C = Compute<S>;
  MEDKERN_GRID_STRIDE(index, p.batch * p.hidden * p.voxels) {
    const auto e = ConvLSTMElement::at(p, along_channels, index);
    C a[4], weights[3];
    const auto s = convlstm_point<S>(p, e, a, weights);
    MEDKERN_UNROLL
    for (int j = 0; j < 4; ++j) e.put<S>(p.pre, a[j], j);
    const C h = s.o * s.tanh_c;
    e.put<C>(p.c_out, s.c);
    e.put<S>(p.h, h);
    if (p.total.data != nullptr) e.put<C>(p.total, e.get<C>(p.total) + h);
  }
}

template <class S>
MEDKERN_GLOBAL void convlstm_gates_bwd_kernel(ConvLSTMGates p, bool along_channels) {
  using C = Compute<S>;
  MEDKERN_GRID_STRIDE(index, p.batch * p.hidden * p.voxels) {
    const auto e = ConvLSTMElement::at(p, along_channels, index);
    C a[4], weights[3];
    const auto s = convlstm_point<S>(p, e, a, weights);
    const C d_h = e.get<S>(p.grad_h) + e.get<S>(p.grad_h2), old = e.get<C>(p.c);
    const C d_o = d_h * s.tanh_c * (s.o * (C{1} - s.o));
    const C d_c =
        e.get<C>(p.grad_c) + d_h * (s.o * (C{1} - s.tanh_c * s.tanh_c)) + d_o * weights[2];
    const C d_i = d_c * s.g * (s.i * (C{1} - s.i)), d_f = d_c * old * (s.f * (C{1} - s.f));
    e.put<S>(p.d_gates, d_i, 0);
    e.put<S>(p.d_gates, d_f, 1);
    e.put<S>(p.d_gates, d_o, 2);
    e.put<S>(p.d_gates, d_c * s.i * (C{1} - s.g * s.g), 3);
    e.put<C>(p.d_c, d_c * s.f + (d_i * weights[0] + d_f * weights[1]));
    e.put<S>(p.h, s.o * s.tanh_c);
  }
}

}  // namespace medkern::MEDKERN_ISA
