// The epilogue of a Fourier layer on tensors, for any device: checks, layouts and allocation. A
// Backend runs the kernels:
//   static void forward(const FourierEpilogue&, const Tensor& on)
//   static void backward(FourierEpilogue&, const Tensor& d_weight, const Tensor& d_bias)
#pragma once

#include <string>
#include <tuple>

#include "core/common/cache.hpp"
#include "core/fourier_epilogue.hpp"
#include "views.hpp"

namespace medkern {

// The inputs of a call, converted and copied where the kernels cannot take them as they are, and
// the problem on them.
class FourierEpilogueInputs {
 public:
  FourierEpilogueInputs(const Tensor& k, const Tensor& x, const Tensor& weight,
                        const MaybeTensor& bias, const std::string& activation, bool residual)
      : dtype(wider(checked(k, "k"), checked(x, "x"))),
        compute(dtype == ScalarType::Double ? ScalarType::Double : ScalarType::Float),
        k_(packed(k)),
        x_(packed(x)),
        weight_(torch::stable::contiguous(as_dtype(weight, compute))) {
    STD_TORCH_CHECK(activation == "gelu" || activation == "none",
                    "activation must be gelu or none");
    STD_TORCH_CHECK(k.dim() >= 3 && x.dim() == k.dim() && x.size(0) == k.size(0),
                    "k and x must be [B, C, *space] of one batch");
    problem.batch = k.size(0);
    problem.outputs = k.size(1);
    problem.inputs = x.size(1);
    problem.pixels = 1;
    for (int64_t axis = 2; axis < k.dim(); ++axis) {
      STD_TORCH_CHECK(x.size(axis) == k.size(axis), "k and x must have the same space");
      problem.pixels *= k.size(axis);
    }
    STD_TORCH_CHECK(problem.outputs >= 1 && problem.inputs >= 1, "k and x must have channels");
    STD_TORCH_CHECK(!residual || problem.inputs == problem.outputs,
                    "a residual needs as many channels in k as in x");
    STD_TORCH_CHECK(
        weight.dim() == 2 && weight.size(0) == problem.outputs && weight.size(1) == problem.inputs,
        "weight must be [C_out, C_in]");
    problem.type = float_type_of(dtype, "k");
    problem.gelu = activation == "gelu";
    problem.residual = residual;
    problem.k = view(k_);
    problem.x = view(x_);
    problem.weight = weight_.data_ptr();
    if (bias) set_bias(*bias);
    problem.streams = k.numel() * bytes_of(problem.type) >= streaming_bytes();
  }

  void set_grad(const Tensor& grad) {
    checked(grad, "grad");
    STD_TORCH_CHECK(sizes_of(grad) == sizes_of(k_), "grad must have the shape of k");
    grad_ = packed(grad);
    problem.grad = view(*grad_);
    transposed_ = torch::stable::contiguous(torch::stable::transpose(weight_, 0, 1));
    problem.transposed = transposed_->data_ptr();
  }

  FourierEpilogue problem;
  const ScalarType dtype, compute;

 private:
  static ScalarType checked(const Tensor& t, const char* name) {
    float_type_of(t, name);
    return t.scalar_type();
  }

  // Of the common dtype, with the pixels of a channel next to each other.
  Tensor packed(const Tensor& t) const {
    const Tensor kept = as_dtype(t, dtype);
    return merged_stride(kept, 2) == 1 ? kept : torch::stable::contiguous(kept);
  }

  static EpilogueView view(const Tensor& t) { return {t.data_ptr(), t.stride(0), t.stride(1)}; }

  void set_bias(const Tensor& bias) {
    STD_TORCH_CHECK(bias.dim() == 1 && bias.size(0) == problem.outputs, "bias must be [C_out]");
    bias_ = torch::stable::contiguous(as_dtype(bias, compute));
    problem.bias = bias_->data_ptr();
  }

  Tensor k_, x_, weight_;
  MaybeTensor bias_, grad_, transposed_;
};

template <class Backend>
struct FourierEpilogueOps {
  static Tensor forward(const Tensor& k, const Tensor& x, const Tensor& weight,
                        const MaybeTensor& bias, std::string activation, bool residual) {
    FourierEpilogueInputs inputs(k, x, weight, bias, activation, residual);
    const Tensor y = empty_packed(k, sizes_of(k), inputs.dtype);
    inputs.problem.y = y.data_ptr();
    if (y.numel() > 0) Backend::forward(inputs.problem, y);
    return y;
  }

  static std::tuple<Tensor, Tensor, Tensor, Tensor> backward(const Tensor& grad, const Tensor& k,
                                                             const Tensor& x, const Tensor& weight,
                                                             const MaybeTensor& bias,
                                                             std::string activation,
                                                             bool residual) {
    FourierEpilogueInputs inputs(k, x, weight, bias, activation, residual);
    inputs.set_grad(grad);
    FourierEpilogue& p = inputs.problem;
    const Tensor d_k = empty_packed(k, sizes_of(k), inputs.dtype);
    const Tensor d_x = empty_packed(x, sizes_of(x), inputs.dtype);
    const Tensor d_weight = empty_packed(weight, {p.outputs, p.inputs}, inputs.compute);
    const Tensor d_bias = empty_packed(weight, {p.outputs}, inputs.compute);
    p.d_k = d_k.data_ptr();
    p.d_x = d_x.data_ptr();
    Backend::backward(p, d_weight, d_bias);
    return {d_k, d_x, d_weight, d_bias};
  }
};

template <class Backend, class Library>
void register_fourier_epilogue(Library& m) {
  using Ops = FourierEpilogueOps<Backend>;
  m.impl("fourier_epilogue", TORCH_BOX(&Ops::forward));
  m.impl("_fourier_epilogue_backward", TORCH_BOX(&Ops::backward));
}

}  // namespace medkern
