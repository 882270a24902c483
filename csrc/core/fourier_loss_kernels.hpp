// The losses of fourier.hpp, compiled once per instruction set by csrc/isa/fourier.cpp.
//
// A row is taken in runs of kSpectrumRun bins, whose terms are summed pairwise in their own type
// and then in double: neither the vector length nor the number of threads changes a bit. Cost: one
// read of x and y, which may be the same array; the gradient adds one write.
#pragma once

#include "common/vector_math.hpp"
#include "fourier_bins.hpp"

namespace medkern::MEDKERN_ISA {

constexpr int64_t kSpectrumRun = 256;

template <class C, SpectrumLoss Loss>
struct SpectrumRun {
  using Math = VectorMath<C>;
  using V = typename Math::Real;
  static constexpr int lanes = Math::lanes;

  // Bins [at, at + lanes) of a row; zeros past its end.
  static MEDKERN_INLINE Bin<V> read(const C* row, int64_t at, int64_t columns) {
    Bin<V> bin;
    if (at + lanes <= columns) {
      deinterleave(load<C>(row + 2 * at), load<C>(row + 2 * at + lanes), bin.re, bin.im);
    } else {
      C rest[2 * lanes] = {};
      std::memcpy(rest, row + 2 * at, static_cast<size_t>(2 * (columns - at)) * sizeof(C));
      deinterleave(load<C>(rest), load<C>(rest + lanes), bin.re, bin.im);
    }
    return bin;
  }

  static MEDKERN_INLINE void write(C* row, int64_t at, int64_t columns, Bin<V> bin) {
    V low, high;
    interleave(bin.re, bin.im, low, high);
    if (at + lanes <= columns) {
      store(row + 2 * at, low);
      store(row + 2 * at + lanes, high);
    } else {
      C rest[2 * lanes];
      store(rest, low);
      store(rest + lanes, high);
      std::memcpy(row + 2 * at, rest, static_cast<size_t>(2 * (columns - at)) * sizeof(C));
    }
  }

  static const C* row_of(const void* spectrum, const SpectrumProblem& p, int64_t image,
                         int64_t row) {
    return static_cast<const C*>(spectrum) +
           (image * p.height + row) * 2 * spectrum_columns(p.width);
  }

  static SpectrumBins<Math, Loss> bins(const SpectrumProblem& p, double top) {
    using One = SpectrumBins<ScalarMath<C>, Loss>;
    const C parameter = static_cast<C>(p.parameter), square = static_cast<C>(top);
    return {parameter, p.log, One::focal(parameter, p.log, square, std::sqrt(square))};
  }

  static double largest(const SpectrumProblem& p, int64_t image, int64_t begin, int64_t end) {
    const int64_t columns = spectrum_columns(p.width);
    V top{};
    for (int64_t row = begin; row < end; ++row) {
      const C* y = row_of(p.y, p, image, row);
      for (int64_t at = 0; at < columns; at += lanes) {
        const V square = SpectrumBins<Math, Loss>::square(read(y, at, columns));
        top = square > top ? square : top;
      }
    }
    C most = top[0];
    for (int i = 1; i < lanes; ++i) most = top[i] > most ? top[i] : most;
    return static_cast<double>(most);
  }

  static double sum(const SpectrumProblem& p, int64_t image, int64_t begin, int64_t end,
                    double top) {
    const int64_t columns = spectrum_columns(p.width);
    const auto bin = bins(p, top);
    double total = 0;
    for (int64_t row = begin; row < end; ++row) {
      const C *x = row_of(p.x, p, image, row), *y = row_of(p.y, p, image, row);
      for (int64_t first = 0; first < columns; first += kSpectrumRun) {
        const int64_t rest = columns - first, stop = rest < kSpectrumRun ? rest : kSpectrumRun;
        C terms[kSpectrumRun + 16];
        for (int64_t i = 0; i < stop; i += lanes) {
          const int64_t at = first + i;
          store(terms + i, bin.value(read(x, at, columns), read(y, at, columns)));
        }
        if (first == 0) terms[0] *= C(0.5);
        if (stop == rest && p.width % 2 == 0) terms[stop - 1] *= C(0.5);
        total += 2.0 * static_cast<double>(pairwise_sum(terms, stop));
      }
    }
    return total;
  }

  // Halving: the same order for every vector length.
  static C pairwise_sum(C* terms, int64_t count) {
    int64_t half = 16;
    while (2 * half < count) half *= 2;
    for (int64_t i = count; i < 2 * half; ++i) terms[i] = C{};
    for (; half > 0; half /= 2) {
      for (int64_t i = 0; i < half; ++i) terms[i] += terms[i + half];
    }
    return terms[0];
  }

  static void gradient(const SpectrumProblem& p, int64_t image, int64_t begin, int64_t end,
                       double top) {
    const int64_t columns = spectrum_columns(p.width);
    const auto bin = bins(p, top);
    const C grad = static_cast<const C*>(p.grad)[image], twice = 2 * grad;
    for (int64_t row = begin; row < end; ++row) {
      const C *x = row_of(p.x, p, image, row), *y = row_of(p.y, p, image, row);
      C* out = const_cast<C*>(row_of(p.out, p, image, row));
      for (int64_t at = 0; at < columns; at += lanes) {
        Bin<V> slope = bin.slope(read(x, at, columns), read(y, at, columns));
        V counts = V{} + twice;
        if (at == 0) counts[0] = grad;
        if (p.width % 2 == 0 && columns - 1 - at < lanes) counts[columns - 1 - at] = grad;
        slope.re *= counts;
        slope.im *= counts;
        write(out, at, columns, slope);
      }
    }
  }

  static constexpr SpectrumKernels kernels{largest, sum, gradient};
};

template <class C>
SpectrumKernels spectrum_kernels_of(SpectrumLoss loss) {
  switch (loss) {
    case SpectrumLoss::focal:
      return SpectrumRun<C, SpectrumLoss::focal>::kernels;
    case SpectrumLoss::amplitude_l1:
      return SpectrumRun<C, SpectrumLoss::amplitude_l1>::kernels;
    case SpectrumLoss::amplitude_l2:
      return SpectrumRun<C, SpectrumLoss::amplitude_l2>::kernels;
    default:
      return SpectrumRun<C, SpectrumLoss::phase>::kernels;
  }
}

SpectrumKernels spectrum_kernels(bool float64, SpectrumLoss loss) {
  return float64 ? spectrum_kernels_of<double>(loss) : spectrum_kernels_of<float>(loss);
}

}  // namespace medkern::MEDKERN_ISA
