// What each Haar mode does to one block: the arithmetic of haar.hpp, shared by CPU and CUDA
// kernels.
#pragma once

#include "common/half.hpp"
#include "haar.hpp"

namespace medkern::MEDKERN_ISA {

template <int N>
constexpr int kCorners = 1 << N;

template <class C, int N>
MEDKERN_INLINE constexpr C haar_scale() {
  constexpr double scale[] = {1.0, 0.70710678118654752440, 0.5, 0.35355339059327376220};
  return static_cast<C>(scale[N]);
}

// Unnormalised Walsh-Hadamard transform over the N bits of the index; its own transpose.
template <int N, class V>
MEDKERN_INLINE void butterfly(V (&v)[kCorners<N>]) {
  for (int step = 1; step < kCorners<N>; step <<= 1) {
    for (int q = 0; q < kCorners<N>; ++q) {
      if (q & step) continue;
      const V sum = v[q] + v[q | step];
      v[q | step] = v[q] - v[q | step];
      v[q] = sum;
    }
  }
}

// Each mode maps the corners of a block (and of the key block) to its outputs, and back. V is a
// vector or a scalar of compute type C: the same text serves rows, edges and channels.

template <int N>
struct DwtMode {
  static constexpr int outputs = kCorners<N>;
  static constexpr bool has_keys = false;
  template <class C, class V>
  static MEDKERN_INLINE void forward(V (&x)[kCorners<N>], const V*, V (&y)[outputs]) {
    butterfly<N>(x);
    for (int k = 0; k < outputs; ++k) y[k] = x[k] * haar_scale<C, N>();
  }
  template <class C, class V>
  static MEDKERN_INLINE void adjoint(const V (&y)[outputs], const V*, V (&x)[kCorners<N>]) {
    for (int k = 0; k < outputs; ++k) x[k] = y[k] * haar_scale<C, N>();
    butterfly<N>(x);
  }
};

template <int N>
struct LowpassMode {
  static constexpr int outputs = 1;
  static constexpr bool has_keys = false;
  template <class C, class V>
  static MEDKERN_INLINE V lowpass(const V (&x)[kCorners<N>]) {
    V sum = x[0];
    for (int q = 1; q < kCorners<N>; ++q) sum = sum + x[q];
    return sum * haar_scale<C, N>();
  }
  template <class C, class V>
  static MEDKERN_INLINE void forward(V (&x)[kCorners<N>], const V*, V (&y)[1]) {
    y[0] = lowpass<C>(x);
  }
  template <class C, class V>
  static MEDKERN_INLINE void adjoint(const V (&y)[1], const V*, V (&x)[kCorners<N>]) {
    for (int q = 0; q < kCorners<N>; ++q) x[q] = y[0] * haar_scale<C, N>();
  }
};

// The sum of all bands is 2^N s x_0; IEWA drops the band that is high-pass along every axis.
template <int N>
struct IewaMode {
  static constexpr int outputs = 1;
  static constexpr bool has_keys = false;
  static MEDKERN_INLINE constexpr int weight(int corner) {
    int sign = 1;
    for (int bit = 0; bit < N; ++bit) sign = (corner >> bit) & 1 ? -sign : sign;
    return (corner == 0 ? kCorners<N> : 0) - sign;
  }
  template <class C, class V>
  static MEDKERN_INLINE void forward(V (&x)[kCorners<N>], const V*, V (&y)[1]) {
    V sum = x[0] * static_cast<C>(weight(0));
    for (int q = 1; q < kCorners<N>; ++q) sum = weight(q) > 0 ? sum + x[q] : sum - x[q];
    y[0] = sum * haar_scale<C, N>();
  }
  template <class C, class V>
  static MEDKERN_INLINE void adjoint(const V (&y)[1], const V*, V (&x)[kCorners<N>]) {
    const V unit = y[0] * haar_scale<C, N>();
    x[0] = unit * static_cast<C>(weight(0));
    for (int q = 1; q < kCorners<N>; ++q) x[q] = weight(q) > 0 ? unit : -unit;
  }
};

template <int N>
struct AllMode {
  static constexpr int outputs = 1;
  static constexpr bool has_keys = false;
  template <class C, class V>
  static MEDKERN_INLINE void forward(V (&x)[kCorners<N>], const V*, V (&y)[1]) {
    y[0] = x[0] * (haar_scale<C, N>() * kCorners<N>);
  }
  template <class C, class V>
  static MEDKERN_INLINE void adjoint(const V (&y)[1], const V*, V (&x)[kCorners<N>]) {
    x[0] = y[0] * (haar_scale<C, N>() * kCorners<N>);
    for (int q = 1; q < kCorners<N>; ++q) x[q] = V{};
  }
};

// Corners in the order in which max pooling visits them: row-major, W fastest.
template <int N>
MEDKERN_INLINE constexpr int row_major(int i) {
  int q = 0;
  for (int bit = 0; bit < N; ++bit) q |= ((i >> bit) & 1) << (N - 1 - bit);
  return q;
}

// Outputs LL of x, then x where the keys are largest: the first maximum, or the last NaN.
template <int N>
struct MaxConcatMode {
  static constexpr int outputs = 2;
  static constexpr bool has_keys = true;
  template <class C, class V>
  static MEDKERN_INLINE void forward(V (&x)[kCorners<N>], const V* keys, V (&y)[2]) {
    y[0] = LowpassMode<N>::template lowpass<C>(x);
    V best = keys[0], chosen = x[0];
    for (int i = 1; i < kCorners<N>; ++i) {
      const V key = keys[row_major<N>(i)];
      const auto wins = !(key <= best);
      const auto nan_stays = (best != best) & (key == key);
      const auto take = wins & !nan_stays;
      best = take ? key : best;
      chosen = take ? x[row_major<N>(i)] : chosen;
    }
    y[1] = chosen;
  }
  template <class C, class V>
  static MEDKERN_INLINE void adjoint(const V (&y)[2], const V* keys, V (&x)[kCorners<N>]) {
    V best = keys[0], winner = V{};
    for (int i = 1; i < kCorners<N>; ++i) {
      const V key = keys[row_major<N>(i)];
      const auto wins = !(key <= best);
      const auto nan_stays = (best != best) & (key == key);
      const auto take = wins & !nan_stays;
      best = take ? key : best;
      winner = take ? V{} + static_cast<C>(i) : winner;
    }
    const V low = y[0] * haar_scale<C, N>();
    for (int i = 0; i < kCorners<N>; ++i) {
      const V here = V{} + static_cast<C>(i);
      x[row_major<N>(i)] = (winner == here) ? low + y[1] : low;
    }
  }
};

// Integer S-transform per axis, the first axis first: detail = a - b, mean = b + floor(detail / 2).
template <int N>
struct LiftMode {
  static constexpr int outputs = kCorners<N>;
  static constexpr bool has_keys = false;
  template <class C, class V>
  static MEDKERN_INLINE void forward(V (&x)[kCorners<N>], const V*, V (&y)[outputs]) {
    for (int step = 1; step < kCorners<N>; step <<= 1) {
      for (int q = 0; q < kCorners<N>; ++q) {
        if (q & step) continue;
        const V detail = x[q] - x[q | step];
        x[q] = x[q | step] + (detail >> 1);
        x[q | step] = detail;
      }
    }
    for (int k = 0; k < outputs; ++k) y[k] = x[k];
  }
  template <class C, class V>
  static MEDKERN_INLINE void adjoint(const V (&y)[outputs], const V*, V (&x)[kCorners<N>]) {
    for (int k = 0; k < outputs; ++k) x[k] = y[k];
    for (int step = kCorners<N> / 2; step > 0; step >>= 1) {
      for (int q = 0; q < kCorners<N>; ++q) {
        if (q & step) continue;
        const V second = x[q] - (x[q | step] >> 1);
        x[q] = x[q | step] + second;
        x[q | step] = second;
      }
    }
  }
};

}  // namespace medkern::MEDKERN_ISA
