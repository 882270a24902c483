// Truncated Fourier transforms of fourier.hpp, compiled once per instruction set by
// csrc/isa/fourier.cpp.
//
// Across: a row is folded into the sums and differences of its samples w and W - w, which halves
// the work, then multiplied by cosines and sines: two products of small matrices, kModesRows rows
// and a vector of modes (analysis) or of samples (synthesis) at a time. Down: the same with the
// modes k and -k, which share their products. The order of every sum is fixed, lane by lane: the
// same bits for every vector length and number of threads. A mean far from 0 makes partial sums
// much larger than most modes: the analysis sums rows in short runs, and all else in double.
// Cost: H W (r + 1) + 4 H (r + 1)^2 multiplications and additions an image, r + 1 padded to 16 in
// the first; one read of x, and one write of the result of the synthesis.
#pragma once

#include "common/simd.hpp"
#include "fourier.hpp"

namespace medkern::MEDKERN_ISA {

template <class C>
struct ModesRun {
  using V = Vec<C>;
  static constexpr int lanes = kLanes<C>;
  using D = Vec<double>;
  static constexpr int64_t rows = kModesRows;

  static const C* of(const void* p) { return static_cast<const C*>(p); }

  static void fold_row(const C* x, int64_t width, C* sums, C* differences) {
    const int64_t pairs = (width - 1) / 2;
    sums[0] = x[0];
    differences[0] = C{};
    for (int64_t w = 1; w <= pairs; ++w) {
      sums[w] = x[w] + x[width - w];
      differences[w] = x[w] - x[width - w];
    }
    if (width % 2 != 0) return;
    sums[width / 2] = x[width / 2];
    differences[width / 2] = C{};
  }

  // sum[r] += a[r][n] * b[n][:] for the rows r, both for (a, b) = (left, cosines), (right, sines).
  // Arrays a have rows `a_stride` apart; b `b_stride`.
  static MEDKERN_INLINE void products(const C* left, const C* right, int64_t a_stride,
                                      const C* cosines, const C* sines, int64_t b_stride,
                                      int64_t count, V (&even)[rows], V (&odd)[rows]) {
    for (int r = 0; r < rows; ++r) even[r] = odd[r] = V{};
    for (int64_t n = 0; n < count; ++n) {
      const V c = load<C>(cosines + n * b_stride), s = load<C>(sines + n * b_stride);
      for (int r = 0; r < rows; ++r) {
        even[r] += left[r * a_stride + n] * c;
        odd[r] += right[r * a_stride + n] * s;
      }
    }
  }

  static MEDKERN_INLINE void add_to(double* sums, V v) {
    C values[lanes];
    store(values, v);
    for (int i = 0; i < lanes; i += kLanes<double>) {
      store(sums + i, load<double>(sums + i) + load<double>(values + i));
    }
  }

  static void analyse_rows(const ModesProblem& p, int64_t begin, int64_t end, void* scratch) {
    const int64_t blocks = modes_blocks(p.height), stride = modes_across_stride(p.width);
    C *sums = static_cast<C*>(scratch), *differences = sums + rows * stride;
    for (int64_t i = 0; i < 2 * rows * stride; ++i) sums[i] = C{};
    for (int64_t block = begin; block < end; ++block) {
      const int64_t image = block / blocks, first = (block % blocks) * rows;
      const int64_t count = p.height - first < rows ? p.height - first : rows;
      const C* x = of(p.x) + (image * p.height + first) * p.width;
      for (int64_t r = 0; r < count; ++r) {
        fold_row(x + r * p.width, p.width, sums + r * stride, differences + r * stride);
      }
      double* out = static_cast<double*>(p.rows) + (image * p.height + first) * 2 * p.padded;
      std::memset(out, 0, static_cast<size_t>(count * 2 * p.padded) * sizeof(double));
      for (int64_t l = 0; l < p.padded; l += lanes) {
        for (int64_t n = 0; n < spectrum_columns(p.width); n += kModesRun) {
          const int64_t rest = spectrum_columns(p.width) - n;
          V even[rows], odd[rows];
          products(sums + n, differences + n, stride, of(p.across_cos) + n * p.padded + l,
                   of(p.across_sin) + n * p.padded + l, p.padded,
                   rest < kModesRun ? rest : kModesRun, even, odd);
          for (int64_t r = 0; r < count; ++r) {
            add_to(out + 2 * r * p.padded + l, even[r]);
            add_to(out + (2 * r + 1) * p.padded + l, V(-odd[r]));
          }
        }
      }
    }
  }

  // Real and imaginary parts times cosines and sines of one frequency down, for lanes of modes.
  struct Down {
    D re_cos{}, re_sin{}, im_cos{}, im_sin{};

    MEDKERN_INLINE void add(D re, D im, double c, double s) {
      re_cos += re * c;
      re_sin += re * s;
      im_cos += im * c;
      im_sin += im * s;
    }
  };

  static void analyse_columns(const ModesProblem& p, int64_t begin, int64_t end) {
    constexpr int block = 2;
    for (int64_t image = begin; image < end; ++image) {
      const double* across = static_cast<const double*>(p.rows) + image * p.height * 2 * p.padded;
      for (int64_t l = 0; l <= p.radius; l += kLanes<double>) {
        for (int64_t k = 0; k <= p.radius; k += block) {
          Down down[block];
          const int64_t next = k + 1 <= p.radius ? k + 1 : k;
          const auto* cosines = static_cast<const double*>(p.down_cos);
          const auto* sines = static_cast<const double*>(p.down_sin);
          const double *cos0 = cosines + k * p.height, *cos1 = cosines + next * p.height;
          const double *sin0 = sines + k * p.height, *sin1 = sines + next * p.height;
          for (int64_t h = 0; h < p.height; ++h) {
            const double* at = across + 2 * h * p.padded + l;
            const D re = load<double>(at), im = load<double>(at + p.padded);
            down[0].add(re, im, cos0[h], sin0[h]);
            down[1].add(re, im, cos1[h], sin1[h]);
          }
          write_modes(p, image, k, l, down[0]);
          if (next != k) write_modes(p, image, next, l, down[1]);
        }
      }
    }
  }

  // e^(-i a) (re + i im) of the frequencies k and -k.
  static void write_modes(const ModesProblem& p, int64_t image, int64_t k, int64_t l,
                          const Down& d) {
    const int64_t columns = p.radius + 1;
    C* middle = static_cast<C*>(p.modes) + (image * (2 * p.radius + 1) + p.radius) * 2 * columns;
    C *plus = middle + 2 * (k * columns + l), *minus = middle + 2 * (l - k * columns);
    for (int i = 0; i < kLanes<double> && l + i < columns; ++i) {
      plus[2 * i] = static_cast<C>(d.re_cos[i] + d.im_sin[i]);
      plus[2 * i + 1] = static_cast<C>(d.im_cos[i] - d.re_sin[i]);
      if (k == 0) continue;
      minus[2 * i] = static_cast<C>(d.re_cos[i] - d.im_sin[i]);
      minus[2 * i + 1] = static_cast<C>(d.im_cos[i] + d.re_sin[i]);
    }
  }

  // The sums down the modes, for one row: [2, padded] numbers, to be summed across.
  static void sum_down(const ModesProblem& p, int64_t image, int64_t row, C* real, C* imaginary) {
    const int64_t plane = (p.radius + 1) * p.padded;
    const C* folded = of(p.folded) + image * 4 * plane;
    for (int64_t l = 0; l < p.padded; l += lanes) {
      V re{}, im{};
      for (int64_t k = 0; k <= p.radius; ++k) {
        const C c = of(p.down_cos)[k * p.height + row], s = of(p.down_sin)[k * p.height + row];
        const C* at = folded + k * p.padded + l;
        re += load<C>(at) * c - load<C>(at + 3 * plane) * s;
        im += load<C>(at + plane) * c + load<C>(at + 2 * plane) * s;
      }
      store(real + l, re);
      store(imaginary + l, im);
    }
  }

  static void synthesise(const ModesProblem& p, int64_t begin, int64_t end, void* scratch) {
    const int64_t blocks = modes_blocks(p.height), stride = p.across_stride;
    C *even = static_cast<C*>(scratch), *odd = even + rows * stride;
    C *real = odd + rows * stride, *imaginary = real + rows * p.padded;
    for (int64_t i = 0; i < 2 * rows * p.padded; ++i) real[i] = C{};
    for (int64_t block = begin; block < end; ++block) {
      const int64_t image = block / blocks, first = (block % blocks) * rows;
      const int64_t count = p.height - first < rows ? p.height - first : rows;
      for (int64_t r = 0; r < count; ++r) {
        sum_down(p, image, first + r, real + r * p.padded, imaginary + r * p.padded);
      }
      for (int64_t w = 0; w < spectrum_columns(p.width); w += lanes) {
        V e[rows], o[rows];
        products(real, imaginary, p.padded, of(p.across_cos) + w, of(p.across_sin) + w, stride,
                 p.radius + 1, e, o);
        for (int r = 0; r < rows; ++r) {
          store(even + r * stride + w, e[r]);
          store(odd + r * stride + w, o[r]);
        }
      }
      const int64_t start = (image * p.height + first) * p.width;
      for (int64_t r = 0; r < count; ++r) {
        unfold_row(of(p.x) + start + r * p.width, even + r * stride, odd + r * stride, p.width,
                   static_cast<C*>(p.out) + start + r * p.width);
      }
    }
  }

  static void unfold_row(const C* x, const C* even, const C* odd, int64_t width, C* out) {
    const int64_t pairs = (width - 1) / 2;
    out[0] = x[0] + even[0];
    for (int64_t w = 1; w <= pairs; ++w) out[w] = x[w] + (even[w] - odd[w]);
    for (int64_t w = 1; w <= pairs; ++w) out[width - w] = x[width - w] + (even[w] + odd[w]);
    if (width % 2 == 0) out[width / 2] = x[width / 2] + even[width / 2];
  }

  static constexpr ModesKernels kernels{analyse_rows, analyse_columns, synthesise};
};

ModesKernels modes_kernels(bool float64) {
  return float64 ? ModesRun<double>::kernels : ModesRun<float>::kernels;
}

}  // namespace medkern::MEDKERN_ISA
