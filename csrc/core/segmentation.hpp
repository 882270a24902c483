// Sums that segmentation losses are made of, fused: one pass over logits and targets each way.
//
// z: logits [batch, classes, *space]; y: targets, either labels [batch, *space] or values
// [batch, classes, *space]. With p = softmax over the classes or sigmoid of z, sample b and class k
// have the sums over voxels i
//     sum p y,  sum p,  sum p^2,  sum y,  sum y^2,  cross-entropy,  number of voxels,
// the cross-entropy being sum -y log p under softmax, and sum -y log p - (1 - y) log(1 - p) under
// sigmoid. Voxels labelled `ignore` are left out of all of them. Labels stand for y = 1 at their
// class, else 0; with one class, label 1 is that class and label 0 is none.
//
// For g [batch, classes, 7], the gradients of the sums, and a_k = g_0 y_k + g_1 + 2 g_2 p_k,
//     softmax: dz_j = v_j - p_j sum_k v_k, v_k = p_k a_k - g_5k y_k
//     sigmoid: dz   = p (1 - p) a + g_5 (p - y).
//
// float16, bfloat16 and float32 logits compute in float32, float64 in float64. Sums: in 64-byte
// wide lanes over a tile, then lane by lane in float64 over tiles, then block by block: neither
// threads nor the instruction set change a bit.
// Cost: one read of all inputs; the gradient adds one write, and computes p again.
// Source: Milletari et al., "V-Net", 3DV 2016 (Dice); Gorade et al., "Harmonized spatial and
// spectral learning", equation 2, whose sums are these by Parseval's theorem.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/float_type.hpp"

namespace medkern {

constexpr int kSegmentationSums = 7;

enum class TargetType { float16, bfloat16, float32, float64, uint8, int64 };

// [batch, channel, voxel] with any strides, in elements; the spatial axes are one.
struct SegmentationView {
  void* data = nullptr;
  FloatType type = FloatType::float32;
  int64_t batch = 0, channel = 0, voxel = 1;
};

struct SegmentationTarget {
  const void* data = nullptr;
  TargetType type = TargetType::int64;
  bool labels = true;  // one integer per voxel, else a value per class
  int64_t ignore = -1;
  int64_t batch = 0, channel = 0, voxel = 1;
};

struct SegmentationProblem {
  int64_t batch = 0, classes = 0, voxels = 0;
  bool softmax = true;  // else sigmoid
  SegmentationView logits;
  SegmentationTarget target;
  double* sums = nullptr;         // forward: [blocks, classes, 7]
  int64_t* invalid = nullptr;     // forward: [blocks], labels that name no class
  const void* weights = nullptr;  // backward: g [batch, classes, 7] in the compute type
  SegmentationView grad;          // backward: of the logits
  bool streams = false;           // write past the caches; see common/cache.hpp
};

// Processes blocks [begin, end) of segmentation_blocks(problem) with segmentation_scratch(problem)
// bytes, aligned to 64.
using SegmentationKernel = void (*)(const SegmentationProblem&, int64_t begin, int64_t end,
                                    void* scratch);

// The kernel for the instruction set in use: forward where there are sums to fill, else backward.
SegmentationKernel segmentation_kernel(FloatType logits);

constexpr int64_t kSegmentationTile = 512;    // voxels that are held in the L1 cache
constexpr int64_t kSegmentationBlock = 8192;  // voxels of a work unit: part of one sample
constexpr int64_t kSegmentationLanes = 16;    // at most: 64 bytes of float32

MEDKERN_INLINE int64_t segmentation_blocks_per_sample(const SegmentationProblem& p) {
  return (p.voxels + kSegmentationBlock - 1) / kSegmentationBlock;
}

MEDKERN_INLINE int64_t segmentation_blocks(const SegmentationProblem& p) {
  return p.batch * segmentation_blocks_per_sample(p);
}

// Of each class logits, probabilities and targets of a tile, a vector of slopes, and the sums of a
// block in lanes.
MEDKERN_INLINE size_t segmentation_scratch(const SegmentationProblem& p) {
  const int64_t slopes = kSegmentationLanes, sums = (kSegmentationSums - 1) * kSegmentationLanes;
  const int64_t values = 3 * kSegmentationTile + slopes + sums;
  return static_cast<size_t>(p.classes * values) * sizeof(double);
}

}  // namespace medkern
