// The ops on finite differences of fields, for any device: checks and allocation. A Backend
// computes, on contiguous tensors but for the spacing [B, axes], a problem without memory:
//   jacobian(p, u, spacing, out, count)        count [B] int64 may be null
//   jacobian_backward(p, grad, u, spacing, out)
//   smoothness(p, u, spacing, out)
//   smoothness_backward(p, grad, u, spacing, out)
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "binding/euclidean.hpp"
#include "core/field.hpp"
#include "tensor.hpp"

namespace medkern {

inline FieldProblem field_problem(const Tensor& u, const Tensor& spacing, bool components) {
  const int64_t axes = u.dim() - 2;
  STD_TORCH_CHECK(axes >= (components ? 2 : 1) && axes <= 3,
                  "displacement must be [B, C, *space], got ", u.dim(), " axes");
  STD_TORCH_CHECK(!components || u.size(1) == axes,
                  "displacement must have a component per spatial axis");
  STD_TORCH_CHECK(spacing.dim() == 2 && spacing.size(0) == u.size(0) && spacing.size(1) == axes,
                  "spacing must be [", u.size(0), ", ", axes, "]");
  float_type_of(u, "displacement");
  FieldProblem p;
  p.batch = u.size(0);
  p.channels = u.size(1);
  p.axes = static_cast<int>(axes);
  for (int64_t i = 0; i < axes; ++i) {
    STD_TORCH_CHECK(u.size(2 + i) > 0, "spatial axes must not be empty");
    p.size[3 - axes + i] = u.size(2 + i);
  }
  return p;
}

inline void set_penalty(FieldProblem& p, const std::string& penalty) {
  STD_TORCH_CHECK(penalty == "l1" || penalty == "l2", "penalty must be l1 or l2, got ", penalty);
  p.squares = penalty == "l2";
  for (int axis = 3 - p.axes; axis < 3; ++axis) {
    const int64_t n = p.size[axis], count = p.channels * (p.voxels() / n) * (n - 1) * p.axes;
    p.weight[axis] = count > 0 ? 1.0 / static_cast<double>(count) : 0.0;
  }
}

template <class Backend>
struct FieldOps {
  static Tensor jacobian(const Tensor& u, const Tensor& spacing) {
    const FieldProblem p = field_problem(u, spacing, true);
    const Tensor out = determinants(u);
    Backend::jacobian(p, torch::stable::contiguous(u), spacing, out, nullptr);
    return out;
  }

  static std::tuple<Tensor, Tensor> folding(const Tensor& u, const Tensor& spacing) {
    const FieldProblem p = field_problem(u, spacing, true);
    const Tensor out = determinants(u);
    const Tensor count = empty_strided(u, {p.batch}, {1}, ScalarType::Long);
    Backend::jacobian(p, torch::stable::contiguous(u), spacing, out, &count);
    return {out, count};
  }

  static Tensor jacobian_backward(const Tensor& grad, const Tensor& u, const Tensor& spacing) {
    const FieldProblem p = field_problem(u, spacing, true);
    STD_TORCH_CHECK(grad.scalar_type() == u.scalar_type(), "grad must have displacement's dtype");
    STD_TORCH_CHECK(grad.dim() == u.dim() && grad.size(0) == u.size(0) && grad.size(1) == 1,
                    "grad must be [B, 1, *space]");
    for (int64_t i = 2; i < u.dim(); ++i) {
      STD_TORCH_CHECK(grad.size(i) == u.size(i), "grad must be [B, 1, *space]");
    }
    const Tensor out = empty_of(u, u.scalar_type());
    Backend::jacobian_backward(p, torch::stable::contiguous(grad), torch::stable::contiguous(u),
                               spacing, out);
    return out;
  }

  static Tensor smoothness(const Tensor& u, const Tensor& spacing, const std::string& penalty) {
    FieldProblem p = field_problem(u, spacing, false);
    set_penalty(p, penalty);
    const Tensor out = empty_strided(u, {p.batch, 1}, {1, 1}, compute_type_of(u));
    Backend::smoothness(p, torch::stable::contiguous(u), spacing, out);
    return out;
  }

  static Tensor smoothness_backward(const Tensor& grad, const Tensor& u, const Tensor& spacing,
                                    const std::string& penalty) {
    FieldProblem p = field_problem(u, spacing, false);
    set_penalty(p, penalty);
    STD_TORCH_CHECK(grad.dim() == 2 && grad.size(0) == u.size(0) && grad.size(1) == 1,
                    "grad must be [B, 1]");
    STD_TORCH_CHECK(grad.scalar_type() == compute_type_of(u),
                    "grad must be float64 for a float64 displacement, else float32");
    const Tensor out = empty_of(u, u.scalar_type());
    Backend::smoothness_backward(p, torch::stable::contiguous(grad), torch::stable::contiguous(u),
                                 spacing, out);
    return out;
  }

  template <class Library>
  static void register_in(Library& m) {
    m.impl("jacobian_determinant", TORCH_BOX(&jacobian));
    m.impl("_jacobian_folding", TORCH_BOX(&folding));
    m.impl("_jacobian_backward", TORCH_BOX(&jacobian_backward));
    m.impl("diffusion_smoothness_loss", TORCH_BOX(&smoothness));
    m.impl("_diffusion_smoothness_loss_backward", TORCH_BOX(&smoothness_backward));
  }

 private:
  static Tensor determinants(const Tensor& u) {
    std::vector<int64_t> size{u.size(0), 1};
    for (int64_t i = 2; i < u.dim(); ++i) size.push_back(u.size(i));
    return empty_packed(u, size, u.scalar_type());
  }
};

}  // namespace medkern
