// The boundary loss on tensors: checks, layouts and allocation.
#pragma once

#include <memory>
#include <vector>

#include "core/boundary.hpp"
#include "core/common/cache.hpp"
#include "views.hpp"

namespace medkern {

inline BoundaryView boundary_view(const Tensor& t, const char* name) {
  BoundaryView view;
  view.data = t.data_ptr();
  view.type = float_type_of(t, name);
  view.batch = t.stride(0);
  view.channel = t.stride(1);
  view.voxel = merged_stride(t, 2);
  return view;
}

// The inputs of a call, copied where their spatial axes cannot be merged, and the problem on them.
class BoundaryInputs {
 public:
  BoundaryInputs(const Tensor& logits, const Tensor& maps, const std::optional<Tensor>& labels)
      : logits_(with_merged_space(logits, 2)), maps_(with_merged_space(maps, 2)) {
    const int64_t axes = logits.dim();
    STD_TORCH_CHECK(axes >= 3, "logits must be [B, K, *space], got ", axes, " axes");
    STD_TORCH_CHECK(maps.dim() == axes && maps.size(0) == logits.size(0),
                    "maps must have the axes and the batch of the logits");
    STD_TORCH_CHECK(maps.size(1) >= 1 && maps.size(1) <= logits.size(1),
                    "maps must have at least 1 and at most as many channels as the logits");
    problem.batch = logits.size(0);
    problem.classes = logits.size(1);
    problem.mapped = maps.size(1);
    problem.voxels = 1;
    for (int64_t axis = 2; axis < axes; ++axis) {
      STD_TORCH_CHECK(maps.size(axis) == logits.size(axis), "maps must have the logits' space");
      problem.voxels *= logits.size(axis);
    }
    problem.logits = boundary_view(logits_, "logits");
    problem.maps = boundary_view(maps_, "maps");
    if (labels) set_labels(*labels);
  }

  BoundaryProblem problem;

 private:
  void set_labels(const Tensor& labels) {
    const bool bytes = labels.scalar_type() == ScalarType::Byte;
    STD_TORCH_CHECK(bytes || labels.scalar_type() == ScalarType::Long,
                    "labels must be uint8 or int64");
    STD_TORCH_CHECK(labels.dim() == logits_.dim() - 1 && labels.size(0) == problem.batch,
                    "labels must be [B, *space]");
    for (int64_t axis = 1; axis < labels.dim(); ++axis) {
      STD_TORCH_CHECK(labels.size(axis) == logits_.size(axis + 1),
                      "labels must have the logits' space");
    }
    labels_ = with_merged_space(labels, 1);
    problem.labels = {labels_->data_ptr(), bytes, labels_->stride(0), merged_stride(*labels_, 1)};
  }

  Tensor logits_, maps_;
  std::optional<Tensor> labels_;
};

// [B, 3] in the compute type: boundary, cross_entropy, labelled.
template <class C>
void store_boundary_sums(const BoundaryProblem& p, const std::vector<BoundarySums>& blocks,
                         C* out) {
  const int64_t per_sample = boundary_blocks_per_sample(p);
  for (int64_t sample = 0; sample < p.batch; ++sample) {
    BoundarySums sum;
    for (int64_t i = sample * per_sample; i < (sample + 1) * per_sample; ++i) {
      sum.boundary += blocks[i].boundary;
      sum.cross_entropy += blocks[i].cross_entropy;
      sum.labelled += blocks[i].labelled;
      sum.invalid += blocks[i].invalid;
    }
    STD_TORCH_CHECK(sum.invalid == 0, "medkern.boundary_loss: points must be below ", p.classes,
                    ", the number of classes, got ", sum.invalid, " labels above in sample ",
                    sample, "; mark unlabelled voxels with -1");
    out[3 * sample] = static_cast<C>(sum.boundary);
    out[3 * sample + 1] = static_cast<C>(sum.cross_entropy);
    out[3 * sample + 2] = static_cast<C>(sum.labelled);
  }
}

inline void run_boundary(const BoundaryProblem& p, BoundaryKernel kernel) {
  const int64_t per_block = std::min(p.voxels, kBoundaryBlock) * p.classes;
  parallel_units(boundary_blocks(p), per_block, [&](int64_t begin, int64_t end) {
    const std::unique_ptr<std::byte[]> scratch(new std::byte[boundary_scratch(p)]);
    kernel(p, begin, end, scratch.get());
  });
}

inline Tensor boundary_loss_cpu(const Tensor& logits, const Tensor& maps,
                                const std::optional<Tensor>& labels) {
  BoundaryInputs inputs(logits, maps, labels);
  BoundaryProblem& p = inputs.problem;
  const ScalarType type = compute_type_of(logits);
  const Tensor out = empty_strided(logits, {p.batch, 3}, {3, 1}, type);
  std::vector<BoundarySums> blocks(static_cast<size_t>(boundary_blocks(p)));
  p.sums = blocks.data();
  run_boundary(p, boundary_kernel(false, p.logits.type));
  if (type == ScalarType::Double) {
    store_boundary_sums(p, blocks, static_cast<double*>(out.data_ptr()));
  } else {
    store_boundary_sums(p, blocks, static_cast<float*>(out.data_ptr()));
  }
  return out;
}

inline Tensor boundary_loss_backward_cpu(const Tensor& logits, const Tensor& grad,
                                         const Tensor& maps, const std::optional<Tensor>& labels) {
  BoundaryInputs inputs(logits, maps, labels);
  BoundaryProblem& p = inputs.problem;
  STD_TORCH_CHECK(grad.dim() == 2 && grad.size(0) == p.batch && grad.size(1) == 3,
                  "grad must be [B, 3]");
  STD_TORCH_CHECK(grad.scalar_type() == compute_type_of(logits),
                  "grad must be float64 for float64 logits, else float32");
  const Tensor weights = torch::stable::contiguous(grad);
  p.weights = weights.data_ptr();
  const Tensor out = allocate_logits_grad(logits);
  p.grad = boundary_view(out, "logits");
  p.streams = out.numel() * static_cast<int64_t>(out.element_size()) >= streaming_bytes();
  run_boundary(p, boundary_kernel(true, p.logits.type));
  return out;
}

}  // namespace medkern
