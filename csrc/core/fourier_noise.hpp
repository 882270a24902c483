// The noise of NoiseProblem, bin by bin, for CPU vectors and for devices.
#pragma once

#include "common/philox.hpp"
#include "fourier.hpp"

namespace medkern::MEDKERN_ISA {

// The multiplier of a bin of a row, from its normal number.
template <class C>
struct NoiseRow {
  C alpha, beta, vertical;  // alpha over the largest squared frequency; the row's squared frequency
  int64_t last;             // the column that is its own mirror, beside the first; 0: none
  bool alone, clamps;       // whether the bins of these two columns are their own conjugates

  MEDKERN_INLINE NoiseRow(const NoiseProblem& p, int64_t row) {
    const int64_t y = p.height / 2, x = p.width / 2, farthest = y * y + x * x;
    const int64_t up = row < p.height - row ? row : p.height - row;
    alpha = static_cast<C>(p.alpha) / static_cast<C>(farthest > 0 ? farthest : 1);
    beta = static_cast<C>(p.beta);
    vertical = static_cast<C>(up * up);
    last = p.width % 2 == 0 ? p.width / 2 : 0;
    alone = row == 0 || 2 * row == p.height;
    clamps = p.dc_clamp && row == 0;
  }

  // V: numbers of consecutive columns, or one.
  template <class V>
  MEDKERN_INLINE V variance(V column) const {
    return alpha * (column * column + vertical) + beta;
  }

  MEDKERN_INLINE bool is_edge(int64_t column) const { return column == 0 || column == last; }

  // Of a bin that is its own conjugate.
  MEDKERN_INLINE C multiplier_alone(int64_t column, C z) const {
    const C mu = C(1) + z * std::sqrt(variance(static_cast<C>(column)));
    const C floor = static_cast<C>(kNoiseFloor);
    return clamps && column == 0 && mu < floor ? floor : mu;
  }
};

// What all numbers of an image share.
struct NoiseImage {
  uint32_t key0, key1, channel, sample;

  MEDKERN_INLINE NoiseImage(const NoiseProblem& p, int64_t image) {
    const int64_t of = image / p.channels;
    const auto seed = static_cast<uint64_t>(p.stream[2 * of]);
    key0 = static_cast<uint32_t>(seed);
    key1 = static_cast<uint32_t>(seed >> 32);
    channel = p.per_channel ? static_cast<uint32_t>(image % p.channels) : 0u;
    sample = static_cast<uint32_t>(p.stream[2 * of + 1]);
  }

  // The four normal numbers of each group.
  template <class Math>
  MEDKERN_INLINE void draw(typename Math::Word group, int64_t row,
                           typename Math::Real (&z)[4]) const {
    using Word = typename Math::Word;
    const Word zero{};
    const auto words = philox<Math>(
        PhiloxWords<Word>{group, zero + static_cast<uint32_t>(row), zero + channel, zero + sample},
        Word(zero + key0), Word(zero + key1));
    normal_pair<Math>(words.a, words.b, z[0], z[1]);
    normal_pair<Math>(words.c, words.d, z[2], z[3]);
  }
};

}  // namespace medkern::MEDKERN_ISA
