// Sums of correlation coefficients on tensors.
//
// What runs is the backend's, of the CPU or of a device:
//   static void sums(CorrelationProblem, const Tensor& out)
//   static void gradient(const CorrelationProblem&, const Tensor& out)
#pragma once

#include <vector>

#include "core/correlation.hpp"
#include "views.hpp"

namespace medkern {

// The inputs of a call, contiguous, and the problem on them; `size` is empty for arrays.
class CorrelationInputs {
 public:
  CorrelationInputs(const Tensor& p, const Tensor& y, const std::vector<int64_t>& size,
                    int64_t rings, double low, double high, double edge)
      : p_(torch::stable::contiguous(p)), y_(torch::stable::contiguous(y)) {
    STD_TORCH_CHECK(p.dim() >= 3 && p.dim() == y.dim(), "p and y must be [B, C, *space]");
    STD_TORCH_CHECK(p.scalar_type() == y.scalar_type(), "p and y must have one dtype");
    for (int64_t axis = 0; axis < p.dim(); ++axis) {
      STD_TORCH_CHECK(p.size(axis) == y.size(axis), "p and y must have one shape");
    }
    problem.type = float_type_of(p, "p");
    problem.images = p.size(0) * p.size(1);
    problem.p = p_.data_ptr();
    problem.y = y_.data_ptr();
    problem.elements = 1;
    for (int64_t axis = 2; axis < p.dim(); ++axis) problem.elements *= p.size(axis);
    problem.rings = rings;
    problem.low = low;
    problem.high = high;
    problem.edge = edge;
    if (!size.empty()) set_spectrum(p, size);
  }

  CorrelationProblem problem;

 private:
  void set_spectrum(const Tensor& p, const std::vector<int64_t>& size) {
    const auto axes = static_cast<int64_t>(size.size());
    STD_TORCH_CHECK(axes <= kMostSpectrumAxes && p.dim() == axes + 3 && p.size(p.dim() - 1) == 2,
                    "p must be [B, C, *half, 2] for the size given");
    STD_TORCH_CHECK(problem.rings >= 1, "rings must be at least 1, got ", problem.rings);
    problem.axes = static_cast<int>(axes);
    problem.rows = 1;
    for (int64_t axis = 0; axis < axes; ++axis) {
      const bool last = axis == axes - 1;
      STD_TORCH_CHECK(
          size[axis] >= 1 && p.size(axis + 2) == (last ? size[axis] / 2 + 1 : size[axis]),
          "p must be the half spectrum of the size given");
      problem.size[axis] = size[axis];
      if (!last) problem.rows *= size[axis];
    }
    problem.columns = size[axes - 1] / 2 + 1;
  }

  Tensor p_, y_;
};

template <class Backend>
Tensor correlation_sums(const Tensor& p, const Tensor& y, std::vector<int64_t> size, int64_t rings,
                        double low, double high, double edge) {
  const CorrelationInputs inputs(p, y, size, rings, low, high, edge);
  const int64_t rows = correlation_sum_rows(inputs.problem);
  const Tensor out =
      empty_packed(p, {p.size(0), p.size(1), rows, kCorrelationSums}, compute_type_of(p));
  Backend::sums(inputs.problem, out);
  return out;
}

template <class Backend>
Tensor correlation_sums_backward(const Tensor& p, const Tensor& grad, const Tensor& y,
                                 std::vector<int64_t> size, int64_t rings, double low, double high,
                                 double edge) {
  CorrelationInputs inputs(p, y, size, rings, low, high, edge);
  CorrelationProblem& problem = inputs.problem;
  STD_TORCH_CHECK(grad.dim() == 4 && grad.size(0) == p.size(0) && grad.size(1) == p.size(1) &&
                      grad.size(2) == correlation_sum_rows(problem) &&
                      grad.size(3) == kCorrelationSums,
                  "grad must have the shape of the sums");
  STD_TORCH_CHECK(grad.scalar_type() == compute_type_of(p),
                  "grad must be float64 for float64 inputs, else float32");
  const Tensor weights = torch::stable::contiguous(grad);
  problem.weights = weights.data_ptr();
  const Tensor out = empty_packed(p, sizes_of(p), p.scalar_type());
  problem.grad = out.data_ptr();
  Backend::gradient(problem, out);
  return out;
}

template <class Backend, class Library>
void register_correlation(Library& m) {
  m.impl("_correlation_sums", TORCH_BOX(&correlation_sums<Backend>));
  m.impl("_correlation_sums_backward", TORCH_BOX(&correlation_sums_backward<Backend>));
}

}  // namespace medkern
