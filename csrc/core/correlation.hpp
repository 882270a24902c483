// Sums that correlation coefficients are made of: of two arrays, or of rings of their half spectra.
//
// p and y: [images, elements], or half spectra [images, rows, columns, 2] of real arrays of `size`,
// rows being the product of all sizes but the last one, n, and columns = n / 2 + 1. Per image
//     sum w p y,  sum w p^2,  sum w y^2,
// products of complex numbers meaning Re(p conj y). Over an array w = 1, and there is one row of
// sums. Over half spectra there is a row per ring [r / rings, (r + 1) / rings) of the radius
//     |k| = sqrt(sum over axes of (2 k_d / size_d)^2),    1 at the Nyquist frequency of an axis,
// and one for the corners, |k| >= 1. A frequency on the edge of two rings is in the outer one,
// however its radius rounds (ring_radius). A column stands for its mirror image too, so that w = 2,
// but for column 0 and, where n is even, the last one; w also is the band, 1 for low <= |k| < high,
// with linear edges of width `edge` around both ends.
//
// For g [images, rows of sums, 3] the gradient in p is w (g_0 y + 2 g_1 p).
//
// Radii in float64; arithmetic in float32, for float64 in float64. Sums of arrays: in 64-byte wide
// lanes, tile by tile in float64; of spectra: in float64, row by row of a ring.
// Cost: one read of p and y, and for the gradient one write.
// Source: Gorade et al., "Harmonized spatial and spectral learning", equation 2; ring correlation:
// Saxton and Baumeister, J. Microscopy 1982.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/float_type.hpp"

namespace medkern {

constexpr int kCorrelationSums = 3;
constexpr int kMostSpectrumAxes = 8;

struct CorrelationProblem {
  int64_t images = 0;
  FloatType type = FloatType::float32;
  const void *p = nullptr, *y = nullptr;
  // An array: rows of kCorrelationRow elements, the last one perhaps shorter.
  int64_t elements = 0;
  // A spectrum, where axes > 0.
  int axes = 0;
  int64_t size[kMostSpectrumAxes] = {}, rows = 0, columns = 0;
  int64_t rings = 0;  // without the corners
  double low = 0, high = 0, edge = 0;

  // Forward: [blocks, rows of sums, 3]. Blocks of an array follow each other; of spectra, the same
  // block of all images does.
  double* sums = nullptr;
  const void* weights = nullptr;  // backward: g [images, rows of sums, 3] in the compute type
  void* grad = nullptr;           // backward: like p
  bool streams = false;           // write past the caches; see common/cache.hpp
};

// Processes blocks [begin, end) of correlation_blocks(problem) with correlation_scratch(problem)
// bytes.
using CorrelationKernel = void (*)(const CorrelationProblem&, int64_t begin, int64_t end,
                                   void* scratch);

// The kernel for the instruction set in use: forward where there are sums to fill, else backward.
CorrelationKernel correlation_kernel(FloatType type);

constexpr int64_t kCorrelationRow = 1024;     // elements summed in float32 lanes
constexpr int64_t kCorrelationBlock = 16384;  // elements of a work unit, about

MEDKERN_INLINE int64_t correlation_sum_rows(const CorrelationProblem& p) {
  return p.axes > 0 ? p.rings + 1 : 1;
}

// Elements of an array, or rows of a spectrum, that a block takes.
MEDKERN_INLINE int64_t correlation_block_units(const CorrelationProblem& p) {
  if (p.axes == 0) return kCorrelationBlock;
  const int64_t rows = kCorrelationBlock / (2 * p.columns);
  return rows < 1 ? 1 : rows;
}

MEDKERN_INLINE int64_t correlation_blocks_per_image(const CorrelationProblem& p) {
  const int64_t units = p.axes > 0 ? p.rows : p.elements, step = correlation_block_units(p);
  return (units + step - 1) / step;
}

MEDKERN_INLINE int64_t correlation_blocks(const CorrelationProblem& p) {
  return p.images * correlation_blocks_per_image(p);
}

MEDKERN_INLINE double between_0_and_1(double t) { return t < 0 ? 0 : t > 1 ? 1 : t; }

// Share of a frequency in the band.
MEDKERN_INLINE double share_in_band(const CorrelationProblem& p, double radius) {
  if (p.edge == 0) return radius >= p.low && radius < p.high ? 1.0 : 0.0;
  const double rise = (radius - p.low) / p.edge + 0.5, fall = (p.high - radius) / p.edge + 0.5;
  return between_0_and_1(rise) * between_0_and_1(fall);
}

// The squared radius that the frequencies of a row have without their column.
MEDKERN_INLINE double squared_radius_of_row(const CorrelationProblem& p, int64_t row) {
  double squares[kMostSpectrumAxes] = {}, total = 0;
  for (int axis = p.axes - 2; axis >= 0; --axis) {
    const int64_t n = p.size[axis], k = row % n;
    row /= n;
    const double f = 2.0 * static_cast<double>(2 * k > n ? k - n : k) / static_cast<double>(n);
    squares[axis] = f * f;
  }
  for (int axis = 0; axis < p.axes - 1; ++axis) total += squares[axis];
  return total;
}

// A radius, pushed outwards by more than it can have been rounded inwards, and by less than those
// inside an edge are away from it: at least 1 / (2 n^2 r^2) of itself, for sizes n and r rings.
MEDKERN_INLINE double ring_radius(double squared) {
  constexpr double kOutwards = 1 + 1e-13;
  return __builtin_sqrt(squared) * kOutwards;
}

// The ring of a column, and its weight.
MEDKERN_INLINE int64_t ring_of_column(const CorrelationProblem& p, double squared_of_row,
                                      int64_t column, double& weight) {
  const int64_t n = p.size[p.axes - 1];
  const double f = 2.0 * static_cast<double>(column) / static_cast<double>(n);
  const double radius = ring_radius(squared_of_row + f * f);
  const bool single = column == 0 || 2 * column == n;
  weight = (single ? 1.0 : 2.0) * share_in_band(p, radius);
  const auto ring = static_cast<int64_t>(radius * static_cast<double>(p.rings));
  return ring < p.rings ? ring : p.rings;
}

// Rings and weights of the rows of a block, and the products of one row.
MEDKERN_INLINE size_t correlation_scratch(const CorrelationProblem& p) {
  if (p.axes == 0) return 0;
  const int64_t rows = correlation_block_units(p);
  return static_cast<size_t>((2 * rows + kCorrelationSums) * p.columns) * sizeof(double);
}

}  // namespace medkern
