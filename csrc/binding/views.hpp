// Tensors of logits as kernels see them: [batch, channel, voxel] at any strides.
#pragma once

#include "tensor.hpp"

namespace medkern {

// The step between neighbours where the axes from `first` on are as good as one, else -1.
inline int64_t merged_stride(const Tensor& t, int64_t first) {
  int64_t step = 1, next = 1;
  bool innermost = true;
  for (int64_t axis = t.dim() - 1; axis >= first; --axis) {
    if (t.size(axis) == 1) continue;
    if (innermost) step = t.stride(axis);
    if (!innermost && t.stride(axis) != next) return -1;
    next = t.stride(axis) * t.size(axis);
    innermost = false;
  }
  return step;
}

inline Tensor with_merged_space(const Tensor& t, int64_t first) {
  return merged_stride(t, first) < 0 ? torch::stable::contiguous(t) : t;
}

// The gradient keeps channels_last logits in their format: see the fakes in medkern/ops.
inline Tensor allocate_logits_grad(const Tensor& logits) {
  const int64_t last = logits.dim() - 1;
  const bool channels_last =
      logits.size(1) > 1 && logits.stride(1) == 1 && logits.stride(last) != 1;
  std::vector<int64_t> size, stride(logits.dim());
  for (int64_t axis = 0; axis <= last; ++axis) size.push_back(logits.size(axis));
  int64_t step = channels_last ? size[1] : 1;
  for (int64_t axis = last; axis >= 2; --axis) {
    stride[axis] = step;
    step *= std::max<int64_t>(size[axis], 1);
  }
  stride[1] = channels_last ? 1 : step;
  stride[0] = channels_last ? step : step * size[1];
  return empty_strided(logits, size, stride, logits.scalar_type());
}

}  // namespace medkern
