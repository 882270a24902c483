// Small dense products, C = A B, from and to the caches.
//
// A [rows, depth], row-major, any row step; B [depth, columns] and C [rows, columns] with columns a
// multiple of a cache line. The terms of a sum are added in the order of depth, by fused
// multiply-add where there is one, so that AVX2 and AVX-512 give the same bits.
#pragma once

#include <cstdint>

#include "common/multiply_add.hpp"

namespace medkern::MEDKERN_ISA {

template <class C>
MEDKERN_INLINE Vec<C> broadcast(C value) {
  return Vec<C>{} + value;
}

template <class C>
struct Gemm {
  static constexpr int lanes = kLanes<C>;
  static constexpr bool many_registers = kVectorBytes == 64;
  static constexpr int widest = many_registers ? 4 : 2;

  // Rows of a tile of `vectors` vectors: as many as leave registers for B and one of A.
  static constexpr int tallest(int vectors) {
    return many_registers ? (vectors == 4 ? 6 : vectors == 2 ? 10 : 12) : 6;
  }

  template <int Rows, int Vectors>
  static void tile(const C* a, int64_t lda, const C* b, int64_t ldb, C* c, int64_t ldc,
                   int64_t depth) {
    Vec<C> sum[Rows][Vectors] = {};
    for (int64_t k = 0; k < depth; ++k) {
      Vec<C> right[Vectors];
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) right[v] = load<C>(b + k * ldb + v * lanes);
#pragma GCC unroll 12
      for (int r = 0; r < Rows; ++r) {
        const Vec<C> left = broadcast(a[r * lda + k]);
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) sum[r][v] = multiply_add(left, right[v], sum[r][v]);
      }
    }
#pragma GCC unroll 12
    for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) store(c + r * ldc + v * lanes, sum[r][v]);
    }
  }

  template <int Vectors, int Rows>
  static void tile_of(int64_t rows, const C* a, int64_t lda, const C* b, int64_t ldb, C* c,
                      int64_t ldc, int64_t depth) {
    if constexpr (Rows > 0) {
      if (rows == Rows) return tile<Rows, Vectors>(a, lda, b, ldb, c, ldc, depth);
      tile_of<Vectors, Rows - 1>(rows, a, lda, b, ldb, c, ldc, depth);
    }
  }

  // All rows for some columns, in tiles of nearly the same height.
  template <int Vectors>
  static void panel(int64_t rows, const C* a, int64_t lda, const C* b, int64_t ldb, C* c,
                    int64_t ldc, int64_t depth) {
    constexpr int most = tallest(Vectors);
    for (int64_t tiles = (rows + most - 1) / most; tiles > 0; --tiles) {
      const int64_t height = (rows + tiles - 1) / tiles;
      tile_of<Vectors, most>(height, a, lda, b, ldb, c, ldc, depth);
      a += height * lda;
      c += height * ldc;
      rows -= height;
    }
  }

  static void run(int64_t rows, int64_t columns, int64_t depth, const C* a, int64_t lda, const C* b,
                  int64_t ldb, C* c, int64_t ldc) {
    int64_t at = 0;
    for (; at + widest * lanes <= columns; at += widest * lanes) {
      panel<widest>(rows, a, lda, b + at, ldb, c + at, ldc, depth);
    }
    if constexpr (many_registers) {
      for (; at + 2 * lanes <= columns; at += 2 * lanes) {
        panel<2>(rows, a, lda, b + at, ldb, c + at, ldc, depth);
      }
      for (; at < columns; at += lanes) panel<1>(rows, a, lda, b + at, ldb, c + at, ldc, depth);
    }
  }
};

}  // namespace medkern::MEDKERN_ISA
