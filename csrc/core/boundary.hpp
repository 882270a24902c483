// Boundary loss on logits, fused: softmax, boundary term and partial cross-entropy in one pass.
//
// z: logits [batch, classes, *space]; phi: maps [batch, mapped, *space] of the last `mapped`
// classes; y: labels [batch, *space]. A voxel is labelled where its label is one of the mapped
// classes; negative labels, and 255 among bytes, say that it is not. With s = softmax of z over the
// classes, and phi = 0 for a class without a map, sample b has
//     boundary      = sum_i sum_k s_ik phi_ik
//     cross_entropy = sum over labelled i of -log s_iy = max_k z_ik + log sum_k exp(z_ik - max) -
//     z_iy labelled      = number of labelled voxels
// and for g = (d loss / d boundary, d loss / d cross_entropy, unused) of the sample
//     d loss / d z_ik = s_ik (g_0 (phi_ik - sum_j s_ij phi_ij) + g_1 [i labelled]) - g_1 [k = y_i].
//
// float16, bfloat16 and float32 logits compute in float32, float64 in float64; maps of any of the
// four types are converted on the fly. Sums: pairwise inside a tile, then tile by tile and block by
// block in float64, so that neither threads nor the instruction set change a bit.
// Cost: one read of all inputs; the gradient adds one write, and computes the softmax again.
// Source: Kervadec et al., "Boundary loss for highly unbalanced segmentation", MedIA 2021; Breznik
// et al., the same for point annotations, equations 2 and 5.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/float_type.hpp"

namespace medkern {

// [batch, channel, voxel] with any strides, in elements; the spatial axes are one.
struct BoundaryView {
  void* data = nullptr;
  FloatType type = FloatType::float32;
  int64_t batch = 0, channel = 0, voxel = 1;
};

struct BoundaryLabels {
  const void* data = nullptr;  // null: no voxel is labelled
  bool bytes = false;          // uint8, else int64
  int64_t batch = 0, voxel = 1;
};

struct BoundarySums {
  double boundary = 0, cross_entropy = 0, labelled = 0;
  double invalid = 0;  // labels that name no class
};

struct BoundaryProblem {
  int64_t batch = 0, classes = 0, mapped = 0, voxels = 0;
  BoundaryView logits, maps;
  BoundaryLabels labels;
  BoundarySums* sums = nullptr;   // forward: one per block
  const void* weights = nullptr;  // backward: g [batch, 3] in the compute type
  BoundaryView grad;              // backward: of the logits
  bool streams = false;           // write past the caches; see common/cache.hpp
};

// Processes blocks [begin, end) of boundary_blocks(problem) with boundary_scratch(problem) bytes.
using BoundaryKernel = void (*)(const BoundaryProblem&, int64_t begin, int64_t end, void* scratch);

// The kernel for the instruction set in use.
BoundaryKernel boundary_kernel(bool backward, FloatType logits);

constexpr int64_t kBoundaryTile = 256;    // voxels whose logits and maps are held in the L1 cache
constexpr int64_t kBoundaryBlock = 8192;  // voxels of a work unit: part of one sample

MEDKERN_INLINE int64_t boundary_blocks_per_sample(const BoundaryProblem& p) {
  return (p.voxels + kBoundaryBlock - 1) / kBoundaryBlock;
}

MEDKERN_INLINE int64_t boundary_blocks(const BoundaryProblem& p) {
  return p.batch * boundary_blocks_per_sample(p);
}

MEDKERN_INLINE size_t boundary_scratch(const BoundaryProblem& p) {
  return static_cast<size_t>(2 * p.classes * kBoundaryTile) * sizeof(double);
}

}  // namespace medkern
