// The arithmetic of convlstm.hpp on one vector, for every kernel that ends in gates.
#pragma once

#include "common/exponential.hpp"

namespace medkern::MEDKERN_ISA {

// What the gates make of pre-activations; C is a compute type.
template <class C>
struct ConvLSTMCell {
  using V = Vec<C>;

  V i, f, o, g, c, tanh_c;

  // a: the pre-activations i, f, o, g; p: peepholes, or null.
  static MEDKERN_INLINE ConvLSTMCell of(const V (&a)[4], V old, const V* p) {
    ConvLSTMCell s;
    s.i = sigmoid<C>(p ? a[0] + p[0] * old : a[0]);
    s.f = sigmoid<C>(p ? a[1] + p[1] * old : a[1]);
    s.g = tanh_of<C>(a[3]);
    s.c = s.f * old + s.i * s.g;
    s.o = sigmoid<C>(p ? a[2] + p[2] * s.c : a[2]);
    s.tanh_c = tanh_of<C>(s.c);
    return s;
  }

  // Turns dc' into dc, and writes the gradients of the pre-activations.
  MEDKERN_INLINE V backward(V old, const V* p, V d_h, V d_c, V (&d)[4]) const {
    d[2] = d_h * tanh_c * (o * (C{1} - o));
    d_c += d_h * (o * (C{1} - tanh_c * tanh_c));
    if (p) d_c += d[2] * p[2];
    d[0] = d_c * g * (i * (C{1} - i));
    d[1] = d_c * old * (f * (C{1} - f));
    d[3] = d_c * i * (C{1} - g * g);
    d_c = d_c * f;
    return p ? d_c + (d[0] * p[0] + d[1] * p[1]) : d_c;
  }
};

}  // namespace medkern::MEDKERN_ISA
