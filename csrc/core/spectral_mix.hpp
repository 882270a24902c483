// Mode mixing: a complex matrix product for every mode, all modes of a vector at once.
//
// With a b = (re, im) of a vector of modes, two real sums of a's reals and imaginaries with b's
// reals and with b's imaginaries; conjugation is a choice of signs when they are combined at the
// end. The part of a that a unit needs is packed, as rows of modes often lie a multiple of 4 KiB
// apart, where they would evict each other; b is streamed.
#pragma once

#include "spectral.hpp"
#include "spectral_gemm.hpp"

namespace medkern::MEDKERN_ISA {

template <int... I>
constexpr auto real_lanes(std::integer_sequence<int, I...>) {
  return std::integer_sequence<int, (I / 2 * 2)...>{};
}
template <int... I>
constexpr auto imaginary_lanes(std::integer_sequence<int, I...>) {
  return std::integer_sequence<int, (I / 2 * 2 + 1)...>{};
}
template <int... I>
constexpr auto swapped_lanes(std::integer_sequence<int, I...>) {
  return std::integer_sequence<int, (I ^ 1)...>{};
}

template <class C>
struct MixRun {
  using V = Vec<C>;
  using Lanes = std::make_integer_sequence<int, kLanes<C>>;
  static constexpr int lanes = kLanes<C>;
  // Rows of c that share what is read of b: two sums for each must fit the registers.
  static constexpr int tall = kVectorBytes == 64 ? 8 : 4;

  template <bool Whole>
  static MEDKERN_INLINE V read(const C* from, int64_t count) {
    if constexpr (Whole) return load<C>(from);
    V v = {};
    for (int64_t i = 0; i < count; ++i) v[i] = from[i];
    return v;
  }

  // c for `Rows` x and one y, for a vector of modes from `first` on, or `count` < lanes of them.
  // a, b: packed rows [x, s, kMixLength] and [s, kMixLength], from the first of these modes.
  template <int Rows, bool Whole>
  static void tile(const MixProblem& p, const C* a, const C* b, int64_t x, int64_t y, int64_t first,
                   int64_t count) {
    V by_re[Rows] = {}, by_im[Rows] = {};
    for (int64_t s = 0; s < p.s; ++s, a += kMixLength, b += kMixLength) {
      const V right = read<Whole>(b, count);
      const V re = shuffle(right, right, real_lanes(Lanes{}));
      const V im = shuffle(right, right, imaginary_lanes(Lanes{}));
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) {
        const V left = read<Whole>(a + r * p.s * kMixLength, count);
        by_re[r] = multiply_add(left, re, by_re[r]);
        by_im[r] = multiply_add(left, im, by_im[r]);
      }
    }
    const C sign_a = p.conj_a ? -1 : 1, sign_b = p.conj_b ? -1 : 1;
    V keep, cross;
    for (int i = 0; i < lanes; i += 2) {
      keep[i] = 1;
      keep[i + 1] = sign_a;
      cross[i] = -sign_a * sign_b;
      cross[i + 1] = sign_b;
    }
    C* c = static_cast<C*>(p.c) + (x * p.y + y) * p.length + first;
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r, c += p.y * p.length) {
      const V swapped = shuffle(by_im[r], by_im[r], swapped_lanes(Lanes{}));
      const V sum = keep * by_re[r] + cross * swapped;
      if constexpr (Whole) {
        store(c, sum);
      } else {
        for (int64_t i = 0; i < count; ++i) c[i] = sum[i];
      }
    }
  }

  template <int Rows>
  static void part(const MixProblem& p, const C* a, const C* b, int64_t x, int64_t y, int64_t first,
                   int64_t end) {
    a += x * p.s * kMixLength;
    for (; first + lanes <= end; first += lanes, a += lanes, b += lanes) {
      tile<Rows, true>(p, a, b, x, y, first, 0);
    }
    if (first < end) tile<Rows, false>(p, a, b, x, y, first, end - first);
  }

  static C* pack(const C* from, int64_t step, int64_t rows, int64_t count, C* to) {
    for (int64_t s = 0; s < rows; ++s, from += step, to += kMixLength) {
      std::memcpy(to, from, static_cast<size_t>(count) * sizeof(C));
    }
    return to;
  }

  static void run(const MixProblem& p, int64_t begin, int64_t end, void* scratch) {
    C* const b = static_cast<C*>(scratch);
    C* const a = b + p.s * kMixLength;
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t first = unit / p.y * kMixLength, y = unit % p.y;
      const int64_t stop = first + kMixLength < p.length ? first + kMixLength : p.length;
      if (unit == begin || y == 0) {
        const C* from = static_cast<const C*>(p.a) + first;
        C* to = a;
        for (int64_t x = 0; x < p.x; ++x) {
          to = pack(from + x * p.a_x, p.a_s, p.s, stop - first, to);
        }
      }
      pack(static_cast<const C*>(p.b) + y * p.b_y + first, p.b_s, p.s, stop - first, b);
      int64_t x = 0;
      for (; x + tall <= p.x; x += tall) part<tall>(p, a, b, x, y, first, stop);
      for (; x + 2 <= p.x; x += 2) part<2>(p, a, b, x, y, first, stop);
      if (x < p.x) part<1>(p, a, b, x, y, first, stop);
    }
  }
};

}  // namespace medkern::MEDKERN_ISA
