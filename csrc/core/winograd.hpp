// Winograd's convolution F(4 x 4, 3 x 3): a tile of 4 x 4 outputs from 6 x 6 inputs with 36
// multiplications per pair of channels, where the direct way takes 144.
//
//     y = A^T [ (G g G^T) (B^T d B) ] A   summed over input channels, for each of the 36 entries
//
// All arrays are channels-last with the channels padded to a multiple of 16 by zeros, so that
// vectors run along channels and any width will do: images [height, width, channels], zero outside.
// The products are 36 small matrix products over tiles, [tiles, inputs] x [inputs, outputs], with
// fused multiply-add where the instruction set has it: results differ between AVX2 or better and
// the baseline in the last bits, never between numbers of threads. Error: below 1e-5 of the largest
// output. Source: Lavin and Gray, CVPR 2016.
#pragma once

#include <cstdint>

#include "common/multiply_add.hpp"

namespace medkern::MEDKERN_ISA {

using Floats = Vec<float>;
constexpr int kFloats = kLanes<float>;

// The points are 0, +-p, +-q and infinity with p = 1 / sqrt(2) = 1 / q. They lose a third of the
// digits that the usual 1 and 2 lose, at the same cost: with p q = 1, and p^2 + q^2 = 5 / 2, the
// transforms have no large entries.
constexpr float kNear = 0x1.6a09e6p-1f, kFar = 0x1.6a09e6p+0f;

MEDKERN_INLINE Floats times(float factor, Floats a) { return a * factor; }
MEDKERN_INLINE Floats add_times(Floats a, float factor, Floats b) {
  return multiply_add(Floats{} + factor, b, a);
}

// o = B^T d
MEDKERN_INLINE void winograd_input(const Floats (&d)[6], Floats (&o)[6]) {
  const Floats near = add_times(d[4], -2.0f, d[2]), near_odd = add_times(d[3], -2.0f, d[1]);
  const Floats far = add_times(d[4], -0.5f, d[2]), far_odd = add_times(d[3], -0.5f, d[1]);
  o[0] = add_times(d[0] + d[4], -2.5f, d[2]);
  o[1] = add_times(near, kNear, near_odd);
  o[2] = add_times(near, -kNear, near_odd);
  o[3] = add_times(far, kFar, far_odd);
  o[4] = add_times(far, -kFar, far_odd);
  o[5] = add_times(d[1] + d[5], -2.5f, d[3]);
}

// o = A^T m
MEDKERN_INLINE void winograd_output(const Floats (&m)[6], Floats (&o)[4]) {
  const Floats near = m[1] + m[2], near_odd = times(kNear, m[1] - m[2]);
  const Floats far = m[3] + m[4], far_odd = times(kFar, m[3] - m[4]);
  o[0] = m[0] + near + far;
  o[1] = near_odd + far_odd;
  o[2] = add_times(times(2.0f, far), 0.5f, near);
  o[3] = add_times(add_times(m[5], 2.0f, far_odd), 0.5f, near_odd);
}

// o = G g
MEDKERN_INLINE void winograd_weight(const Floats (&g)[3], Floats (&o)[6]) {
  const Floats near = times(-2 / 3.0f, g[0]) + times(-1 / 3.0f, g[2]);
  const Floats far = times(1 / 6.0f, g[0]) + times(1 / 3.0f, g[2]);
  const Floats near_odd = times(-2 / 3.0f * kNear, g[1]), far_odd = times(kFar / 6, g[1]);
  o[0] = g[0];
  o[1] = near + near_odd;
  o[2] = near - near_odd;
  o[3] = far + far_odd;
  o[4] = far - far_odd;
  o[5] = g[2];
}

// o = A y, the adjoint of winograd_output.
MEDKERN_INLINE void winograd_output_adjoint(const Floats (&y)[4], Floats (&o)[6]) {
  const Floats near = add_times(y[0], 0.5f, y[2]), far = add_times(y[0], 2.0f, y[2]);
  const Floats near_odd = times(kNear, add_times(y[1], 0.5f, y[3]));
  const Floats far_odd = times(kFar, add_times(y[1], 2.0f, y[3]));
  o[0] = y[0];
  o[1] = near + near_odd;
  o[2] = near - near_odd;
  o[3] = far + far_odd;
  o[4] = far - far_odd;
  o[5] = y[3];
}

// o = G^T u, the adjoint of winograd_weight.
MEDKERN_INLINE void winograd_weight_adjoint(const Floats (&u)[6], Floats (&o)[3]) {
  const Floats near = u[1] + u[2], near_odd = u[1] - u[2];
  const Floats far = u[3] + u[4], far_odd = u[3] - u[4];
  o[0] = add_times(add_times(u[0], -2 / 3.0f, near), 1 / 6.0f, far);
  o[1] = add_times(times(-2 / 3.0f * kNear, near_odd), kFar / 6, far_odd);
  o[2] = add_times(add_times(u[5], -1 / 3.0f, near), 1 / 3.0f, far);
}

// How many rows of a product fit in the registers beside a row of `vectors`.
constexpr int kAccumulators = kVectorBytes == 64 ? 24 : 12;
template <int Vectors>
constexpr int kRows = kAccumulators / Vectors < 8 ? kAccumulators / Vectors : 8;

// m[r] = sum_k a[r][k] b[k], r < kRows, for b [inner, Vectors kFloats].
template <int Vectors>
MEDKERN_INLINE void multiply_rows(const float* const (&a)[kRows<Vectors>], const float* b,
                                  int64_t inner, float* m, int64_t m_step) {
  constexpr int rows = kRows<Vectors>;
  Floats sum[rows][Vectors] = {};
  for (int64_t k = 0; k < inner; ++k, b += Vectors * kFloats) {
    Floats row[Vectors];
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) row[v] = load<float>(b + v * kFloats);
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
      const Floats factor = Floats{} + a[r][k];
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) sum[r][v] = multiply_add(factor, row[v], sum[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) store(m + r * m_step + v * kFloats, sum[r][v]);
  }
}

// m[r] += sum_t a[t][r] b[t], r < rows <= kRows<4>, for a [inner, a_step] and b [inner, 4 kFloats].
MEDKERN_INLINE void add_outer_products(const float* a, int64_t a_step, int64_t rows, const float* b,
                                       int64_t inner, float* m) {
  constexpr int most = kRows<4>, width = 4 * kFloats;
  Floats sum[most][4];
#pragma GCC unroll 8
  for (int r = 0; r < most; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v)
      sum[r][v] = r < rows ? load<float>(m + r * width + v * kFloats) : Floats{};
  }
  for (int64_t t = 0; t < inner; ++t, b += width) {
    Floats row[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) row[v] = load<float>(b + v * kFloats);
#pragma GCC unroll 8
    for (int r = 0; r < most; ++r) {
      const Floats factor = Floats{} + a[t * a_step + r];
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) sum[r][v] = multiply_add(factor, row[v], sum[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < most; ++r) {
    if (r >= rows) continue;
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) store(m + r * width + v * kFloats, sum[r][v]);
  }
}

}  // namespace medkern::MEDKERN_ISA
