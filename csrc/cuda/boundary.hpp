// Launching the boundary loss: no torch, no device code.
#pragma once

#include <algorithm>
#include <cstdint>

#include "launch.hpp"

namespace medkern {

// One boundary loss. Arrays are contiguous, on the device.
struct BoundaryArrays {
  enum class Type { float16, bfloat16, float32, float64 };

  const void* logits;  // [batch, classes, pixels]
  const void* maps;    // [batch, classes - first, pixels]: signed distances
  const void* labels;  // [batch, pixels], labelled where `first` or more; null: nowhere
  bool bytes;          // labels are uint8, 255 where there is none; else int64
  int64_t batch, classes, pixels;
  int64_t first;  // classes before it have no map, hence neither a boundary term nor labels
  Type logit_type, map_type;  // the same, or maps in float32
};

// Sums of a sample: boundary term, cross-entropy of labelled pixels, number of these. A label of
// `classes` or more makes the cross-entropy NaN, and the gradient at its pixel.
constexpr int kBoundarySums = 3;

// Blocks that share a sample. A function of its size alone, so that the order of the sums, hence
// the bits, are the same on every device and in every batch.
inline int64_t boundary_parts(int64_t pixels) {
  return std::clamp<int64_t>((pixels + 1023) / 1024, 1, 1024);
}

// sums: [batch, kBoundarySums]; partial: workspace of boundary_parts(pixels) times as much.
LaunchError launch_boundary_forward(const BoundaryArrays& arrays, double* partial, double* sums,
                                    Stream stream);

// weights: [batch, kBoundarySums], the gradients of the sums; a count has none. grad_logits and
// grad_maps (may be null) have the type and shape of logits and maps.
LaunchError launch_boundary_backward(const BoundaryArrays& arrays, const double* weights,
                                     void* grad_logits, void* grad_maps, Stream stream);

}  // namespace medkern
