// The packed spectra of fourier.hpp, compiled once per instruction set by csrc/isa/fourier.cpp.
//
// One write of the packed spectrum; every row of the half spectrum is read for itself and for its
// mirror.
#pragma once

#include "common/simd.hpp"
#include "fourier.hpp"

namespace medkern::MEDKERN_ISA {

template <class C>
struct PackRun {
  using V = Vec<C>;
  static constexpr int lanes = kLanes<C>;

  // A row of the half spectrum, its mirror, and the row to write.
  struct Row {
    const C *own, *mirror;
    C* to;
  };

  static Row row_of(const PackProblem& p, int64_t unit) {
    const int64_t image = unit / p.rows, k = unit % p.rows, columns = spectrum_columns(p.width);
    const C* spectrum = static_cast<const C*>(p.spectrum) + image * p.rows * 2 * columns;
    return {spectrum + k * 2 * columns, spectrum + p.mirror[k] * 2 * columns,
            static_cast<C*>(p.packed) + unit * p.width};
  }

  // One column, or a vector of them: of the bins a and b, and e^(2 pi i l / W) = c + i s.
  template <class X>
  static MEDKERN_INLINE void pack(X a_re, X a_im, X b_re, X b_im, X c, X s, C half, X& re, X& im) {
    const X d_re = a_re - b_re, d_im = a_im + b_im;
    re = half * ((a_re + b_re) - (c * d_im + s * d_re));
    im = half * ((a_im - b_im) + (c * d_re - s * d_im));
  }

  // Columns [l, l + lanes), the first as if it were not an edge.
  static MEDKERN_INLINE void pack_vector(const PackProblem& p, const Row& row, int64_t l) {
    const int64_t opposite = p.width / 2 - l - (lanes - 1);
    V a_re, a_im, b_re, b_im, re, im, low, high;
    deinterleave(load<C>(row.own + 2 * l), load<C>(row.own + 2 * l + lanes), a_re, a_im);
    deinterleave(load<C>(row.mirror + 2 * opposite), load<C>(row.mirror + 2 * opposite + lanes),
                 b_re, b_im);
    const V c = load<C>(static_cast<const C*>(p.cosines) + l);
    const V s = load<C>(static_cast<const C*>(p.sines) + l);
    pack(a_re, a_im, V(reversed(b_re)), V(reversed(b_im)), c, s, half_inside(p), re, im);
    interleave(re, im, low, high);
    store(row.to + 2 * l, low);
    store(row.to + 2 * l + lanes, high);
  }

  static void pack_column(const PackProblem& p, const Row& row, int64_t l) {
    const C *a = row.own + 2 * l, *b = row.mirror + 2 * (p.width / 2 - l);
    const C c = static_cast<const C*>(p.cosines)[l], s = static_cast<const C*>(p.sines)[l];
    pack(a[0], a[1], b[0], b[1], c, s, half_inside(p), row.to[2 * l], row.to[2 * l + 1]);
  }

  static C half_inside(const PackProblem& p) { return static_cast<C>(p.inside) * C(0.5); }

  // The outer columns; of each only the part counts that belongs to a real array.
  static void pack_edges(const PackProblem& p, const Row& row) {
    const C half = static_cast<C>(p.edge) * C(0.5);
    const C *first = row.own, *first_mirror = row.mirror;
    const C *last = row.own + p.width, *last_mirror = row.mirror + p.width;
    const C first_re = first[0] + first_mirror[0], first_im = first[1] - first_mirror[1];
    const C last_re = last[0] + last_mirror[0], last_im = last[1] - last_mirror[1];
    row.to[0] = half * ((first_re + last_re) - (first_im - last_im));
    row.to[1] = half * ((first_im + last_im) + (first_re - last_re));
  }

  static void run(const PackProblem& p, int64_t begin, int64_t end) {
    const int64_t columns = p.width / 2;
    for (int64_t unit = begin; unit < end; ++unit) {
      const Row row = row_of(p, unit);
      int64_t l = 0;
      for (; l + lanes <= columns; l += lanes) pack_vector(p, row, l);
      for (; l < columns; ++l) pack_column(p, row, l);
      pack_edges(p, row);
    }
  }
};

PackKernel pack_kernel(bool float64) {
  return float64 ? PackRun<double>::run : PackRun<float>::run;
}

}  // namespace medkern::MEDKERN_ISA
