// The amplitude jitter of fourier.hpp, compiled once per instruction set by csrc/isa/fourier.cpp.
//
// A vector takes consecutive groups g of a row, whose four outputs belong to columns G apart: the
// numbers come out in runs of columns, and no lane crosses. One read and write of the spectrum.
#pragma once

#include "common/vector_math.hpp"
#include "fourier_noise.hpp"

namespace medkern::MEDKERN_ISA {

template <class C>
struct NoiseRun {
  using Math = VectorMath<C>;
  using V = typename Math::Real;
  using Word = typename Math::Word;
  static constexpr int lanes = Math::lanes;

  // Standard normal numbers of all columns of a row.
  static void draw_row(const NoiseProblem& p, const NoiseImage& image, int64_t row, C* z) {
    const int64_t groups = noise_groups(p.width);
    Word group{};
    for (int i = 0; i < lanes; ++i) group[i] = static_cast<uint32_t>(i);
    for (int64_t g = 0; g < groups; g += lanes, group += static_cast<uint32_t>(lanes)) {
      V drawn[4];
      image.draw<Math>(group, row, drawn);
      const int64_t rest = groups - g;
      for (int i = 0; i < 4; ++i) {
        C* to = z + i * groups + g;
        if (rest >= lanes) {
          store(to, drawn[i]);
        } else {
          std::memcpy(to, &drawn[i], static_cast<size_t>(rest) * sizeof(C));
        }
      }
    }
  }

  // Turns normal numbers of the columns into the multipliers of a row.
  static void scale_row(const NoiseProblem& p, int64_t row, C* z) {
    const NoiseRow<C> noise(p, row);
    const C first_z = z[0], last_z = z[noise.last];
    V column{};
    for (int i = 0; i < lanes; ++i) column[i] = static_cast<C>(i);
    for (int64_t l = 0; l < spectrum_columns(p.width); l += lanes, column += C(lanes)) {
      store(z + l, C(1) + load<C>(z + l) * Math::root(C(0.5) * noise.variance(column)));
    }
    if (!noise.alone) return;
    z[noise.last] = noise.multiplier_alone(noise.last, last_z);
    z[0] = noise.multiplier_alone(0, first_z);
  }

  static void multiply_row(const NoiseProblem& p, int64_t image, int64_t row, const C* mu) {
    const int64_t columns = spectrum_columns(p.width);
    C* to = static_cast<C*>(p.spectrum) + (image * p.height + row) * 2 * columns;
    int64_t l = 0;
    for (; l + lanes <= columns; l += lanes) {
      V low, high;
      const V m = load<C>(mu + l);
      interleave(m, m, low, high);
      store(to + 2 * l, load<C>(to + 2 * l) * low);
      store(to + 2 * l + lanes, load<C>(to + 2 * l + lanes) * high);
    }
    for (; l < columns; ++l) {
      to[2 * l] *= mu[l];
      to[2 * l + 1] *= mu[l];
    }
  }

  static void run(const NoiseProblem& p, int64_t begin, int64_t end, void* scratch) {
    C* z = static_cast<C*>(scratch);
    const int64_t pairs = noise_pairs(p.height);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t image = i / pairs, row = i % pairs, mirror = p.height - row;
      const int64_t last = NoiseRow<C>(p, row).last;
      const NoiseImage noise(p, image);
      draw_row(p, noise, row, z);
      const C first_z = z[0], last_z = z[last];
      scale_row(p, row, z);
      multiply_row(p, image, row, z);
      if (row == 0 || mirror == row) continue;
      draw_row(p, noise, mirror, z);
      z[0] = first_z;
      z[last] = last_z;
      scale_row(p, mirror, z);
      multiply_row(p, image, mirror, z);
    }
  }
};

NoiseKernel noise_kernel(bool float64) {
  return float64 ? NoiseRun<double>::run : NoiseRun<float>::run;
}

}  // namespace medkern::MEDKERN_ISA
