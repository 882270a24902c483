// The amplitude jitter of fourier.hpp, compiled once per instruction set by csrc/isa/fourier.cpp.
//
// A vector takes consecutive groups g of a row, whose four outputs belong to columns G apart: the
// numbers come out in runs of columns, and no lane crosses. One read and write of the spectrum.
#pragma once

#include "common/philox.hpp"
#include "common/vector_math.hpp"
#include "fourier.hpp"

namespace medkern::MEDKERN_ISA {

template <class C>
struct NoiseRun {
  using Math = VectorMath<C>;
  using V = typename Math::Real;
  using Word = typename Math::Word;
  static constexpr int lanes = Math::lanes;

  // Standard normal numbers of all columns of a row; room for 4 G + lanes.
  static void draw_row(const NoiseProblem& p, int64_t image, int64_t row, C* z) {
    const int64_t sample = image / p.channels, groups = noise_groups(p.width);
    const auto seed = static_cast<uint64_t>(p.stream[2 * sample]);
    const int64_t channel = p.per_channel ? image % p.channels : 0;
    const Word fixed_b = Word{} + static_cast<uint32_t>(row);
    const Word fixed_c = Word{} + static_cast<uint32_t>(channel);
    const Word fixed_d = Word{} + static_cast<uint32_t>(p.stream[2 * sample + 1]);
    const Word key0 = Word{} + static_cast<uint32_t>(seed);
    const Word key1 = Word{} + static_cast<uint32_t>(seed >> 32);
    Word group{};
    for (int i = 0; i < lanes; ++i) group[i] = static_cast<uint32_t>(i);
    for (int64_t g = 0; g < groups; g += lanes, group += static_cast<uint32_t>(lanes)) {
      const auto words = philox<Math>({group, fixed_b, fixed_c, fixed_d}, key0, key1);
      V out[4];
      normal_pair<Math>(words.a, words.b, out[0], out[1]);
      normal_pair<Math>(words.c, words.d, out[2], out[3]);
      const int64_t rest = groups - g;
      for (int i = 0; i < 4; ++i) {
        C* to = z + i * groups + g;
        if (rest >= lanes) {
          store(to, out[i]);
        } else {
          std::memcpy(to, &out[i], static_cast<size_t>(rest) * sizeof(C));
        }
      }
    }
  }

  // Turns normal numbers of the columns into the multipliers of a row.
  static void scale_row(const NoiseProblem& p, int64_t row, C* z) {
    const int64_t columns = spectrum_columns(p.width), y = p.height / 2, x = p.width / 2;
    const int64_t up = row < p.height - row ? row : p.height - row;
    const C farthest = static_cast<C>(y * y + x * x), vertical = static_cast<C>(up * up);
    const C alpha = static_cast<C>(p.alpha) / (farthest > 0 ? farthest : C(1));
    const C beta = static_cast<C>(p.beta);
    const auto variance = [&](auto column) { return alpha * (column * column + vertical) + beta; };
    const bool alone = row == 0 || 2 * row == p.height;
    const int64_t last = p.width % 2 == 0 ? columns - 1 : 0;
    const C first_z = z[0], last_z = z[last];
    V column{};
    for (int i = 0; i < lanes; ++i) column[i] = static_cast<C>(i);
    for (int64_t l = 0; l < columns; l += lanes, column += static_cast<C>(lanes)) {
      store(z + l, C(1) + load<C>(z + l) * Math::root(C(0.5) * variance(column)));
    }
    if (!alone) return;
    z[0] = C(1) + first_z * std::sqrt(variance(C(0)));
    if (last > 0) z[last] = C(1) + last_z * std::sqrt(variance(static_cast<C>(last)));
    const C floor = static_cast<C>(kNoiseFloor);
    if (p.dc_clamp && row == 0 && z[0] < floor) z[0] = floor;
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
    const int64_t last = p.width % 2 == 0 ? spectrum_columns(p.width) - 1 : 0;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t image = i / pairs, row = i % pairs, mirror = p.height - row;
      draw_row(p, image, row, z);
      const C first_z = z[0], last_z = z[last];
      scale_row(p, row, z);
      multiply_row(p, image, row, z);
      if (row == 0 || mirror == row) continue;
      draw_row(p, image, mirror, z);
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
