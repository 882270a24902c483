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
// output, some 30 times that of direct float32. Source: Lavin and Gray, CVPR 2016.
#pragma once

#include <cstdint>

#include "common/simd.hpp"

namespace medkern::MEDKERN_ISA {

using Floats = Vec<float>;
constexpr int kFloats = kLanes<float>;

MEDKERN_INLINE Floats multiply_add(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
  return reinterpret_cast<Floats>(_mm512_fmadd_ps(
      reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), reinterpret_cast<__m512>(c)));
#elif defined(__FMA__)
  return reinterpret_cast<Floats>(_mm256_fmadd_ps(
      reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b), reinterpret_cast<__m256>(c)));
#else
  return a * b + c;
#endif
}

// o = B^T d
MEDKERN_INLINE void winograd_input(const Floats (&d)[6], Floats (&o)[6]) {
  const Floats four = Floats{} + 4.0f, two = Floats{} + 2.0f, minus_five = Floats{} - 5.0f;
  const Floats even = multiply_add(-four, d[2], d[4]), odd = multiply_add(-four, d[1], d[3]);
  const Floats outer = d[4] - d[2], step = two * (d[3] - d[1]);
  o[0] = multiply_add(four, d[0], multiply_add(minus_five, d[2], d[4]));
  o[1] = even + odd;
  o[2] = even - odd;
  o[3] = outer + step;
  o[4] = outer - step;
  o[5] = multiply_add(four, d[1], multiply_add(minus_five, d[3], d[5]));
}

// o = A^T m
MEDKERN_INLINE void winograd_output(const Floats (&m)[6], Floats (&o)[4]) {
  const Floats p = m[1] + m[2], q = m[1] - m[2], r = m[3] + m[4], s = m[3] - m[4];
  o[0] = m[0] + p + r;
  o[1] = multiply_add(Floats{} + 2.0f, s, q);
  o[2] = multiply_add(Floats{} + 4.0f, r, p);
  o[3] = multiply_add(Floats{} + 8.0f, s, q) + m[5];
}

// o = G g
MEDKERN_INLINE void winograd_weight(const Floats (&g)[3], Floats (&o)[6]) {
  const Floats ends = g[0] + g[2], wide = g[0] * (1 / 24.0f) + g[2] * (1 / 6.0f);
  o[0] = g[0] * 0.25f;
  o[1] = (ends + g[1]) * (-1 / 6.0f);
  o[2] = (ends - g[1]) * (-1 / 6.0f);
  o[3] = wide + g[1] * (1 / 12.0f);
  o[4] = wide - g[1] * (1 / 12.0f);
  o[5] = g[2];
}

// o = A y, the adjoint of winograd_output.
MEDKERN_INLINE void winograd_output_adjoint(const Floats (&y)[4], Floats (&o)[6]) {
  const Floats even = y[0] + y[2], odd = y[1] + y[3];
  const Floats far_even = multiply_add(Floats{} + 4.0f, y[2], y[0]);
  const Floats far_odd = multiply_add(Floats{} + 8.0f, y[3], y[1] + y[1]);
  o[0] = y[0];
  o[1] = even + odd;
  o[2] = even - odd;
  o[3] = far_even + far_odd;
  o[4] = far_even - far_odd;
  o[5] = y[3];
}

// o = G^T u, the adjoint of winograd_weight.
MEDKERN_INLINE void winograd_weight_adjoint(const Floats (&u)[6], Floats (&o)[3]) {
  const Floats near = (u[1] + u[2]) * (-1 / 6.0f), far = u[3] + u[4];
  o[0] = multiply_add(Floats{} + 0.25f, u[0], near) + far * (1 / 24.0f);
  o[1] = (u[1] - u[2]) * (-1 / 6.0f) + (u[3] - u[4]) * (1 / 12.0f);
  o[2] = near + far * (1 / 6.0f) + u[5];
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

}  // namespace medkern::MEDKERN_ISA
