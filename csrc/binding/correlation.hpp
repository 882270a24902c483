// Sums of correlation coefficients, and half spectra, on tensors.
//
// What runs besides torch's transforms is the backend's, of the CPU or of a device:
//   static void sums(CorrelationProblem, const Tensor& out)
//   static void gradient(const CorrelationProblem&, const Tensor& out)
//   static Tensor halved(const Tensor& spectrum, int64_t last)  a copy, whose columns with a mirror
//                                                               image are halved
#pragma once

#include <numeric>
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

inline Tensor contiguous_like(const Tensor& t) {
  std::vector<int64_t> size;
  for (int64_t axis = 0; axis < t.dim(); ++axis) size.push_back(t.size(axis));
  return empty_packed(t, size, t.scalar_type());
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
  const Tensor out = contiguous_like(p);
  problem.grad = out.data_ptr();
  Backend::gradient(problem, out);
  return out;
}

// A torch op of one tensor result; FFTs and views of complex numbers are torch's.
template <size_t N>
Tensor call_torch(const char* op, std::array<StableIValue, N> stack) {
  STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher(op, "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

constexpr int64_t kByRootOfSize = 1;  // at::native::fft_norm_mode

inline std::vector<int64_t> space_axes(int64_t axes) {
  std::vector<int64_t> dims(static_cast<size_t>(axes));
  std::iota(dims.begin(), dims.end(), 2);
  return dims;
}

inline void check_spectrum_type(const Tensor& t) {
  STD_TORCH_CHECK(t.scalar_type() == ScalarType::Float || t.scalar_type() == ScalarType::Double,
                  "spectra must be float32 or float64");
}

// torch's transforms refuse what is empty.
inline Tensor empty_spectrum(const Tensor& x) {
  std::vector<int64_t> size;
  for (int64_t axis = 0; axis < x.dim(); ++axis) size.push_back(x.size(axis));
  size.back() = size.back() / 2 + 1;
  size.push_back(2);
  return empty_packed(x, size, x.scalar_type());
}

// [B, C, *half, 2] of x [B, C, *space], unitary.
inline Tensor half_spectrum(const Tensor& x) {
  using torch::stable::detail::from;
  check_spectrum_type(x);
  STD_TORCH_CHECK(x.dim() >= 3, "x must be [B, C, *space]");
  if (x.numel() == 0) return empty_spectrum(x);
  const Tensor complex = call_torch<4>(
      "aten::_fft_r2c", {from(x), from(space_axes(x.dim() - 2)), from(kByRootOfSize), from(true)});
  return torch::stable::contiguous(call_torch<1>("aten::view_as_real", {from(complex)}));
}

// The adjoint of half_spectrum: [B, C, *half, 2] -> [B, C, *space], with `last` columns.
template <class Backend>
Tensor half_spectrum_adjoint(const Tensor& s, int64_t last) {
  using torch::stable::detail::from;
  check_spectrum_type(s);
  const int64_t dim = s.dim();
  STD_TORCH_CHECK(dim >= 4 && s.size(dim - 1) == 2 && last >= 1 && s.size(dim - 2) == last / 2 + 1,
                  "s must be [B, C, *half, 2] of the last size given");
  if (s.numel() == 0) {
    std::vector<int64_t> size;
    for (int64_t axis = 0; axis < dim - 2; ++axis) size.push_back(s.size(axis));
    size.push_back(last);
    return empty_packed(s, size, s.scalar_type());
  }
  const Tensor scaled = Backend::halved(torch::stable::contiguous(s), last);
  const Tensor complex = call_torch<1>("aten::view_as_complex", {from(scaled)});
  return torch::stable::contiguous(
      call_torch<4>("aten::_fft_c2r",
                    {from(complex), from(space_axes(dim - 3)), from(kByRootOfSize), from(last)}));
}

template <class Backend, class Library>
void register_correlation(Library& m) {
  m.impl("_correlation_sums", TORCH_BOX(&correlation_sums<Backend>));
  m.impl("_correlation_sums_backward", TORCH_BOX(&correlation_sums_backward<Backend>));
  m.impl("_half_spectrum", TORCH_BOX(&half_spectrum));
  m.impl("_half_spectrum_adjoint", TORCH_BOX(&half_spectrum_adjoint<Backend>));
}

}  // namespace medkern
