// Launching the sums of segmentation losses: no torch, no device code.
#pragma once

#include <cstdint>

#include "core/segmentation.hpp"
#include "launch.hpp"

namespace medkern {

// One call. Arrays are contiguous, on the device.
struct SegmentationArrays {
  const void* logits;  // [batch, classes, pixels]
  const void* target;  // [batch, pixels] labels, or [batch, classes, pixels] values
  int64_t batch, classes, pixels;
  int64_t ignore;  // the label that is left out
  FloatType logit_type;
  TargetType target_type;
  bool labels, softmax;
};

constexpr int kSegmentationPixels = 4;  // of a thread

// Blocks that share a sample: a function of its size alone, so that the order of the sums, hence
// the bits, are the same on every device and in every batch.
inline int64_t segmentation_parts(int64_t pixels) {
  return (pixels + 256 * kSegmentationPixels - 1) / (256 * kSegmentationPixels);
}

// sums: [batch, classes, 7]; partial: workspace of segmentation_parts(pixels) times as much.
LaunchError launch_segmentation_forward(const SegmentationArrays& arrays, double* partial,
                                        double* sums, Stream stream);

// weights: [batch, classes, 7], the gradients of the sums; grad: of the type and shape of logits.
LaunchError launch_segmentation_backward(const SegmentationArrays& arrays, const double* weights,
                                         void* grad, Stream stream);

}  // namespace medkern
