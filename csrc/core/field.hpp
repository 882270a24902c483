// Finite differences of fields u [batch, channels, *size], contiguous, 1-D and 2-D as 3-D with
// sizes of 1: the determinant of the Jacobian 1 + du/dx, and a smoothness penalty.
//
// Jacobian: channels are components, one per axis. Central differences, one-sided at borders: voxel
// x reads x + 1 and x - 1, where there is none itself. With its columns a, b, c (along z, y, x)
//     det = a . (b x c),   d det / d a = b x c,   d det / d b = c x a,   d det / d c = a x b,
// so that the gradient at a voxel needs one column's cofactors at each of its neighbours: they are
// computed again, row by row, and nothing is kept. A picture has a z component of 0.
//
// Smoothness: sum over axes of weight_j |forward difference / spacing_j|^1 or ^2. Sums: 64 bytes of
// running sums along a row, then rows in order in double; the same bits for any threads and
// instruction set.
//
// float16, bfloat16 and float32 compute in float32, float64 in float64. Cost: reads of u from
// memory once (its neighbours come from caches), writes of the result.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/float_type.hpp"

namespace medkern {

enum class FieldTask { jacobian, jacobian_backward, smoothness, smoothness_backward };

struct FieldProblem {
  int64_t batch = 0, channels = 0;
  int axes = 3;  // the last ones
  int64_t size[3] = {1, 1, 1};
  const void* u = nullptr;
  const double* spacing = nullptr;  // [batch, 3]
  const void* grad = nullptr;    // jacobian: [batch, *size] like u; smoothness: [batch, 1] compute
  void* out = nullptr;           // jacobian: [batch, *size]; backward: like u
  int64_t* folds = nullptr;      // jacobian: voxels with a determinant <= 0 of each row; or null
  double* sums = nullptr;        // smoothness: [row, 3] of |difference|, not yet scaled
  double weight[3] = {0, 0, 0};  // smoothness
  bool squares = true;

  MEDKERN_INLINE int64_t voxels() const { return size[0] * size[1] * size[2]; }
  // Units of work: rows of all samples (Jacobian), and of all channels (smoothness).
  MEDKERN_INLINE int64_t sample_rows() const { return batch * size[0] * size[1]; }
  MEDKERN_INLINE int64_t channel_rows() const { return channels * sample_rows(); }
};

// A sample's loss from its sums along z, y and x.
MEDKERN_INLINE double smoothness_total(const FieldProblem& p, const double (&sums)[3],
                                       const double (&length)[3]) {
  double total = 0;
  for (int axis = 0; axis < 3; ++axis) {
    if (p.weight[axis] == 0) continue;
    total += sums[axis] * p.weight[axis] / (p.squares ? length[axis] * length[axis] : length[axis]);
  }
  return total;
}

// scratch: field_scratch(problem) bytes.
using FieldKernel = void (*)(const FieldProblem&, int64_t begin, int64_t end, void* scratch);

// Extent of a row of scratch: whole vectors.
MEDKERN_INLINE int64_t field_row(int64_t n) { return (n + 15) / 16 * 16; }

// Rows of scratch: see FieldRun::Scratch.
MEDKERN_INLINE size_t field_scratch(const FieldProblem& p) {
  return static_cast<size_t>(23 * field_row(p.size[2])) * sizeof(double);
}

// The kernel for the instruction set in use.
FieldKernel field_kernel(FieldTask task, FloatType type);

}  // namespace medkern
