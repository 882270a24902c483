// The sums of segmentation losses on tensors: checks, layouts and allocation.
#pragma once

#include <memory>
#include <new>
#include <vector>

#include "core/common/cache.hpp"
#include "core/segmentation.hpp"
#include "views.hpp"

namespace medkern {

inline TargetType target_type_of(const Tensor& t) {
  if (t.scalar_type() == ScalarType::Byte) return TargetType::uint8;
  if (t.scalar_type() == ScalarType::Long) return TargetType::int64;
  return static_cast<TargetType>(float_type_of(t, "target, if neither uint8 nor int64,"));
}

inline SegmentationView segmentation_view(const Tensor& t, const char* name) {
  return {t.data_ptr(), float_type_of(t, name), t.stride(0), t.stride(1), merged_stride(t, 2)};
}

// The inputs of a call, copied where their spatial axes cannot be merged, and the problem on them.
class SegmentationInputs {
 public:
  SegmentationInputs(const Tensor& logits, const Tensor& target, bool softmax, int64_t ignore)
      : logits_(with_merged_space(logits, 2)),
        target_(with_merged_space(target, target.dim() < logits.dim() ? 1 : 2)) {
    const int64_t axes = logits.dim();
    STD_TORCH_CHECK(axes >= 3, "logits must be [B, K, *space], got ", axes, " axes");
    STD_TORCH_CHECK(logits.size(1) >= (softmax ? 2 : 1), "logits must have a class",
                    softmax ? " beside the background" : "");
    float_type_of(logits, "logits");
    problem.softmax = softmax;
    problem.batch = logits.size(0);
    problem.classes = logits.size(1);
    problem.voxels = 1;
    for (int64_t axis = 2; axis < axes; ++axis) problem.voxels *= logits.size(axis);
    check_target(logits, target);
    problem.logits = segmentation_view(logits_, "logits");
    SegmentationTarget& y = problem.target;
    y.labels = target.dim() == axes - 1;
    y.type = target_type_of(target);
    STD_TORCH_CHECK(y.labels ? y.type == TargetType::uint8 || y.type == TargetType::int64
                             : y.type != TargetType::int64,
                    "labels must be uint8 or int64, other targets floating or uint8");
    y.data = target_.data_ptr();
    y.ignore = ignore;
    y.batch = target_.stride(0);
    y.channel = y.labels ? 0 : target_.stride(1);
    y.voxel = merged_stride(target_, y.labels ? 1 : 2);
  }

  SegmentationProblem problem;

 private:
  static void check_target(const Tensor& logits, const Tensor& target) {
    const int64_t axes = logits.dim(), behind = axes - target.dim();
    STD_TORCH_CHECK(behind == 0 || behind == 1, "target must be [B, *space] or [B, K, *space]");
    for (int64_t axis = 0; axis < target.dim(); ++axis) {
      const int64_t other = axis == 0 ? 0 : axis + behind;
      STD_TORCH_CHECK(target.size(axis) == logits.size(other), "target must fit the logits");
    }
  }

  Tensor logits_, target_;
};

inline void run_segmentation(const SegmentationProblem& p) {
  struct Free {
    void operator()(void* bytes) const { ::operator delete(bytes, std::align_val_t(64)); }
  };
  const SegmentationKernel kernel = segmentation_kernel(p.logits.type);
  const int64_t per_block = std::min(p.voxels, kSegmentationBlock) * p.classes;
  parallel_units(segmentation_blocks(p), per_block, [&](int64_t begin, int64_t end) {
    const size_t bytes = segmentation_scratch(p);
    const std::unique_ptr<void, Free> scratch(::operator new(bytes, std::align_val_t(64)));
    kernel(p, begin, end, scratch.get());
  });
}

// [B, K, 7] in the compute type: the sums of the blocks, in their order.
template <class C>
void store_segmentation_sums(const SegmentationProblem& p, C* out) {
  const int64_t per_sample = segmentation_blocks_per_sample(p);
  const int64_t count = p.classes * kSegmentationSums;
  std::vector<double> total(static_cast<size_t>(count));
  for (int64_t sample = 0; sample < p.batch; ++sample) {
    std::fill(total.begin(), total.end(), 0.0);
    int64_t invalid = 0;
    for (int64_t block = sample * per_sample; block < (sample + 1) * per_sample; ++block) {
      for (int64_t i = 0; i < count; ++i) total[i] += p.sums[block * count + i];
      invalid += p.invalid[block];
    }
    STD_TORCH_CHECK(invalid == 0, "medkern.segmentation_loss: target must hold labels from 0 to ",
                    p.classes == 1 ? 1 : p.classes - 1, " or ignore_index, got ", invalid,
                    " others in sample ", sample, "; set ignore_index to the label to leave out");
    for (int64_t i = 0; i < count; ++i) out[sample * count + i] = static_cast<C>(total[i]);
  }
}

inline Tensor segmentation_sums_cpu(const Tensor& logits, const Tensor& target, bool softmax,
                                    int64_t ignore) {
  SegmentationInputs inputs(logits, target, softmax, ignore);
  SegmentationProblem& p = inputs.problem;
  const ScalarType type = compute_type_of(logits);
  const int64_t row = p.classes * kSegmentationSums;
  const Tensor out = empty_strided(logits, {p.batch, p.classes, kSegmentationSums},
                                   {row, kSegmentationSums, 1}, type);
  const int64_t blocks = segmentation_blocks(p);
  std::vector<double> sums(static_cast<size_t>(std::max<int64_t>(1, blocks * row)));
  std::vector<int64_t> invalid(static_cast<size_t>(blocks));
  p.sums = sums.data();
  p.invalid = invalid.data();
  run_segmentation(p);
  if (type == ScalarType::Double) {
    store_segmentation_sums(p, static_cast<double*>(out.data_ptr()));
  } else {
    store_segmentation_sums(p, static_cast<float*>(out.data_ptr()));
  }
  return out;
}

inline Tensor segmentation_sums_backward_cpu(const Tensor& logits, const Tensor& grad,
                                             const Tensor& target, bool softmax, int64_t ignore) {
  SegmentationInputs inputs(logits, target, softmax, ignore);
  SegmentationProblem& p = inputs.problem;
  STD_TORCH_CHECK(grad.dim() == 3 && grad.size(0) == p.batch && grad.size(1) == p.classes &&
                      grad.size(2) == kSegmentationSums,
                  "grad must be [B, K, 7]");
  STD_TORCH_CHECK(grad.scalar_type() == compute_type_of(logits),
                  "grad must be float64 for float64 logits, else float32");
  const Tensor weights = torch::stable::contiguous(grad);
  p.weights = weights.data_ptr();
  const Tensor out = allocate_logits_grad(logits);
  p.grad = segmentation_view(out, "logits");
  p.streams = out.numel() * static_cast<int64_t>(out.element_size()) >= streaming_bytes();
  run_segmentation(p);
  return out;
}

}  // namespace medkern
