// The ops on finite differences of fields: checks and allocation.
#pragma once

#include <cmath>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "binding/euclidean.hpp"
#include "core/field.hpp"
#include "tensor.hpp"

namespace medkern {

class FieldCall {
 public:
  FieldCall(const Tensor& u, const Tensor& spacing, bool components)
      : type_(float_type_of(u, "displacement")), u_(torch::stable::contiguous(u)) {
    const int64_t axes = u.dim() - 2;
    STD_TORCH_CHECK(axes >= (components ? 2 : 1) && axes <= 3,
                    "displacement must be [B, C, *space], got ", u.dim(), " axes");
    STD_TORCH_CHECK(!components || u.size(1) == axes,
                    "displacement must have a component per spatial axis");
    problem.batch = u.size(0);
    problem.channels = u.size(1);
    problem.axes = static_cast<int>(axes);
    for (int64_t i = 0; i < axes; ++i) {
      STD_TORCH_CHECK(u.size(2 + i) > 0, "spatial axes must not be empty");
      problem.size[3 - axes + i] = u.size(2 + i);
    }
    problem.u = u_.data_ptr();
    lengths_ = spacing_rows(spacing, u.size(0), axes);
    problem.spacing = lengths_.data();
  }

  void run(FieldTask task, int64_t rows) {
    const FieldKernel kernel = field_kernel(task, type_);
    const FieldProblem& p = problem;
    parallel_units(rows, 3 * p.size[2], [&](int64_t begin, int64_t end) {
      const std::unique_ptr<std::byte[]> scratch(new std::byte[field_scratch(p)]);
      kernel(p, begin, end, scratch.get());
    });
  }

  void set_penalty(const std::string& penalty) {
    STD_TORCH_CHECK(penalty == "l1" || penalty == "l2", "penalty must be l1 or l2, got ", penalty);
    FieldProblem& p = problem;
    p.squares = penalty == "l2";
    for (int axis = 3 - p.axes; axis < 3; ++axis) {
      const int64_t n = p.size[axis], count = p.channels * (p.voxels() / n) * (n - 1) * p.axes;
      p.weight[axis] = count > 0 ? 1.0 / static_cast<double>(count) : 0.0;
    }
  }

  FieldProblem problem;

 private:
  FloatType type_;
  Tensor u_;
  std::vector<double> lengths_;
};

inline Tensor jacobian_like(const Tensor& u) {
  std::vector<int64_t> size{u.size(0), 1};
  for (int64_t i = 2; i < u.dim(); ++i) size.push_back(u.size(i));
  return empty_packed(u, size, u.scalar_type());
}

inline Tensor jacobian_determinant_cpu(const Tensor& u, const Tensor& spacing) {
  FieldCall call(u, spacing, true);
  const Tensor out = jacobian_like(u);
  call.problem.out = out.data_ptr();
  call.run(FieldTask::jacobian, call.problem.sample_rows());
  return out;
}

inline std::tuple<Tensor, Tensor> jacobian_folding_cpu(const Tensor& u, const Tensor& spacing) {
  FieldCall call(u, spacing, true);
  FieldProblem& p = call.problem;
  const Tensor out = jacobian_like(u);
  const Tensor count = empty_strided(u, {p.batch}, {1}, ScalarType::Long);
  std::vector<int64_t> folds(static_cast<size_t>(p.sample_rows()));
  p.out = out.data_ptr();
  p.folds = folds.data();
  call.run(FieldTask::jacobian, p.sample_rows());
  const int64_t rows = p.size[0] * p.size[1];
  for (int64_t sample = 0; sample < p.batch; ++sample) {
    int64_t sum = 0;
    for (int64_t row = 0; row < rows; ++row) sum += folds[static_cast<size_t>(sample * rows + row)];
    static_cast<int64_t*>(count.data_ptr())[sample] = sum;
  }
  return {out, count};
}

inline Tensor jacobian_backward_cpu(const Tensor& grad, const Tensor& u, const Tensor& spacing) {
  FieldCall call(u, spacing, true);
  STD_TORCH_CHECK(grad.scalar_type() == u.scalar_type(), "grad must have displacement's dtype");
  STD_TORCH_CHECK(grad.dim() == u.dim() && grad.size(0) == u.size(0) && grad.size(1) == 1,
                  "grad must be [B, 1, *space]");
  for (int64_t i = 2; i < u.dim(); ++i) {
    STD_TORCH_CHECK(grad.size(i) == u.size(i), "grad must be [B, 1, *space]");
  }
  const Tensor g = torch::stable::contiguous(grad), out = empty_of(u, u.scalar_type());
  call.problem.grad = g.data_ptr();
  call.problem.out = out.data_ptr();
  call.run(FieldTask::jacobian_backward, call.problem.sample_rows());
  return out;
}

inline Tensor smoothness_cpu(const Tensor& u, const Tensor& spacing, const std::string& penalty) {
  FieldCall call(u, spacing, false);
  FieldProblem& p = call.problem;
  call.set_penalty(penalty);
  std::vector<double> sums(static_cast<size_t>(3 * p.channel_rows()));
  p.sums = sums.data();
  call.run(FieldTask::smoothness, p.channel_rows());
  const Tensor out = empty_strided(u, {p.batch, 1}, {1, 1}, compute_type_of(u));
  const int64_t rows = p.channels * p.size[0] * p.size[1];
  for (int64_t sample = 0; sample < p.batch; ++sample) {
    double axis_sum[3] = {0, 0, 0}, total = 0;
    for (int64_t i = 0; i < 3 * rows; ++i) {
      axis_sum[i % 3] += sums[static_cast<size_t>(3 * rows * sample + i)];
    }
    for (int axis = 0; axis < 3; ++axis) {
      const double length = p.spacing[3 * sample + axis];
      if (p.weight[axis] == 0) continue;
      total += axis_sum[axis] * p.weight[axis] / (p.squares ? length * length : length);
    }
    if (out.scalar_type() == ScalarType::Double) {
      static_cast<double*>(out.data_ptr())[sample] = total;
    } else {
      static_cast<float*>(out.data_ptr())[sample] = static_cast<float>(total);
    }
  }
  return out;
}

inline Tensor smoothness_backward_cpu(const Tensor& grad, const Tensor& u, const Tensor& spacing,
                                      const std::string& penalty) {
  FieldCall call(u, spacing, false);
  call.set_penalty(penalty);
  STD_TORCH_CHECK(grad.dim() == 2 && grad.size(0) == u.size(0) && grad.size(1) == 1,
                  "grad must be [B, 1]");
  STD_TORCH_CHECK(grad.scalar_type() == compute_type_of(u),
                  "grad must be float64 for a float64 displacement, else float32");
  const Tensor g = torch::stable::contiguous(grad), out = empty_of(u, u.scalar_type());
  call.problem.grad = g.data_ptr();
  call.problem.out = out.data_ptr();
  call.run(FieldTask::smoothness_backward, call.problem.channel_rows());
  return out;
}

}  // namespace medkern
