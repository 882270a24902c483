// The fused gates of the ConvLSTM on tensors, for any device: checks, layouts and allocation. A
// Backend runs the kernel:
//   static void run(const ConvLSTMGates&, bool backward, FloatType, const Tensor& on)
// Ops that end in _ write into tensors of the sequence loop, medkern/ops/convlstm_steps.py.
#pragma once

#include <tuple>
#include <vector>

#include "binding/boundary.hpp"
#include "core/convlstm.hpp"

namespace medkern {

inline ScalarType convlstm_state_type(ScalarType dtype) {
  return dtype == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// [B, channels, *space of like], channels_last where `like` is; see _like in ops/convlstm.py.
inline Tensor empty_in_layout_of(const Tensor& like, int64_t channels, ScalarType dtype) {
  const int64_t last = like.dim() - 1;
  const bool channels_last = like.size(1) > 1 && like.stride(1) == 1 && like.stride(last) != 1;
  std::vector<int64_t> size = sizes_of(like), stride(like.dim());
  size[1] = channels;
  int64_t step = channels_last ? channels : 1;
  for (int64_t axis = last; axis >= 2; --axis) {
    stride[axis] = step;
    step *= std::max<int64_t>(size[axis], 1);
  }
  stride[1] = channels_last ? 1 : step;
  stride[0] = channels_last ? step : step * std::max<int64_t>(channels, 1);
  return empty_strided(like, size, stride, dtype);
}

// The operands of a call. Inputs are converted and copied where the kernels cannot take them as
// they are, and live as long as this; outputs must fit.
class ConvLSTMOperands {
 public:
  ConvLSTMOperands(const Tensor& gates_x, const MaybeTensor& gates_h)
      : dtype(gates_h ? wider(gates_x.scalar_type(), gates_h->scalar_type())
                      : gates_x.scalar_type()),
        state(convlstm_state_type(dtype)),
        type(float_type_of(dtype, "the gates")) {
    STD_TORCH_CHECK(gates_x.dim() >= 3 && gates_x.size(1) % 4 == 0,
                    "the gates must be [B, 4 C, *space]");
    for (int64_t axis = 2; axis < gates_x.dim(); ++axis) space_.push_back(gates_x.size(axis));
    problem.batch = gates_x.size(0);
    problem.hidden = gates_x.size(1) / 4;
    problem.voxels = 1;
    for (const int64_t size : space_) problem.voxels *= size;
    problem.gates_x = input(gates_x, dtype, 4 * problem.hidden);
    if (gates_h) problem.gates_h = input(*gates_h, dtype, 4 * problem.hidden);
  }

  ConvLSTMView gates(const MaybeTensor& t) { return input(t, dtype, 4 * problem.hidden); }
  ConvLSTMView hidden(const MaybeTensor& t) { return input(t, dtype, problem.hidden); }
  ConvLSTMView cell(const MaybeTensor& t) { return input(t, state, problem.hidden); }

  ConvLSTMView peephole(const MaybeTensor& t) {
    if (!t) return {};
    STD_TORCH_CHECK(t->dim() == static_cast<int64_t>(space_.size()) + 3 && t->size(1) == 3,
                    "peephole must be [B, 3, C, *space]");
    check_space(*t, 3);
    STD_TORCH_CHECK(t->size(0) == problem.batch && t->size(2) == problem.hidden,
                    "peephole must have the batch and the channels of c");
    const Tensor kept = keep(*t, state, 3);
    return {kept.data_ptr(), kept.stride(0), kept.stride(1), kept.stride(2),
            merged_stride(kept, 3)};
  }

  // A tensor that the kernel writes: of the right dtype, its space one axis.
  ConvLSTMView output(const MaybeTensor& t, ScalarType type, int64_t channels) {
    if (!t) return {};
    STD_TORCH_CHECK(t->scalar_type() == type && (merged_stride(*t, 2) > 0 || t->numel() == 0),
                    "an output of the gates has the wrong dtype or layout");
    return view(*t, channels);
  }

  const ScalarType dtype, state;
  const FloatType type;
  ConvLSTMGates problem;

 private:
  ConvLSTMView input(const MaybeTensor& t, ScalarType wanted, int64_t channels) {
    return t ? view(keep(*t, wanted, 2), channels) : ConvLSTMView{};
  }

  Tensor keep(const Tensor& t, ScalarType wanted, int64_t first) {
    float_type_of(t, "the gates");  // checks it
    Tensor kept = as_dtype(t, wanted);
    kept = with_merged_space(kept, first);
    kept_.push_back(kept);
    return kept;
  }

  ConvLSTMView view(const Tensor& t, int64_t channels) const {
    STD_TORCH_CHECK(t.dim() == static_cast<int64_t>(space_.size()) + 2 &&
                        t.size(0) == problem.batch && t.size(1) == channels,
                    "an operand of the gates must be [B, ", channels, ", *space]");
    check_space(t, 2);
    return {t.data_ptr(), t.stride(0), problem.hidden * t.stride(1), t.stride(1),
            merged_stride(t, 2)};
  }

  void check_space(const Tensor& t, int64_t first) const {
    for (size_t axis = 0; axis < space_.size(); ++axis) {
      STD_TORCH_CHECK(t.size(first + static_cast<int64_t>(axis)) == space_[axis],
                      "all operands of the gates must have the same space");
    }
  }

  std::vector<int64_t> space_;
  std::vector<Tensor> kept_;
};

template <class Backend>
struct ConvLSTMOps {
  static std::tuple<Tensor, Tensor> gates(const Tensor& gates_x, const MaybeTensor& gates_h,
                                          const Tensor& c, const MaybeTensor& peephole) {
    ConvLSTMOperands operands(gates_x, gates_h);
    ConvLSTMGates& p = operands.problem;
    p.c = operands.cell(c);
    p.peephole = operands.peephole(peephole);
    const Tensor h = empty_in_layout_of(gates_x, p.hidden, operands.dtype);
    const Tensor c_out = empty_in_layout_of(gates_x, p.hidden, operands.state);
    p.h = operands.output(h, operands.dtype, p.hidden);
    p.c_out = operands.output(c_out, operands.state, p.hidden);
    Backend::run(p, false, operands.type, gates_x);
    return {h, c_out};
  }

  static std::tuple<Tensor, Tensor> gates_backward(const Tensor& gates_x, const MaybeTensor& grad_h,
                                                   const MaybeTensor& grad_c,
                                                   const MaybeTensor& gates_h, const Tensor& c,
                                                   const MaybeTensor& peephole) {
    ConvLSTMOperands operands(gates_x, gates_h);
    ConvLSTMGates& p = operands.problem;
    p.c = operands.cell(c);
    p.peephole = operands.peephole(peephole);
    p.grad_h = operands.hidden(grad_h);
    p.grad_c = operands.cell(grad_c);
    const Tensor d_gates = empty_in_layout_of(gates_x, 4 * p.hidden, operands.dtype);
    const Tensor d_c = empty_in_layout_of(gates_x, p.hidden, operands.state);
    p.d_gates = operands.output(d_gates, operands.dtype, 4 * p.hidden);
    p.d_c = operands.output(d_c, operands.state, p.hidden);
    Backend::run(p, true, operands.type, gates_x);
    return {d_gates, d_c};
  }

  // One step of a sequence; c may be c_out, and pre may be gates_x.
  static void step(const Tensor& gates_x, const MaybeTensor& gates_h, const MaybeTensor& c,
                   const MaybeTensor& peephole, const Tensor& h, const Tensor& c_out,
                   const MaybeTensor& pre, const MaybeTensor& total) {
    ConvLSTMOperands operands(gates_x, gates_h);
    ConvLSTMGates& p = operands.problem;
    p.c = operands.cell(c);
    p.peephole = operands.peephole(peephole);
    p.h = operands.output(h, operands.dtype, p.hidden);
    p.c_out = operands.output(c_out, operands.state, p.hidden);
    p.pre = operands.output(pre, operands.dtype, 4 * p.hidden);
    p.total = operands.output(total, operands.state, p.hidden);
    Backend::run(p, false, operands.type, gates_x);
  }

  // d_c holds dc' and becomes dc; h, if wanted, becomes the state after this step.
  static void step_backward(const Tensor& pre, const MaybeTensor& grad_h,
                            const MaybeTensor& grad_h2, const MaybeTensor& c,
                            const MaybeTensor& peephole, const Tensor& d_c, const Tensor& d_gates,
                            const MaybeTensor& h) {
    ConvLSTMOperands operands(pre, MaybeTensor());
    ConvLSTMGates& p = operands.problem;
    p.grad_h = operands.hidden(grad_h);
    p.grad_h2 = operands.hidden(grad_h2);
    p.c = operands.cell(c);
    p.peephole = operands.peephole(peephole);
    p.grad_c = p.d_c = operands.output(d_c, operands.state, p.hidden);
    p.d_gates = operands.output(d_gates, operands.dtype, 4 * p.hidden);
    p.h = operands.output(h, operands.dtype, p.hidden);
    Backend::run(p, true, operands.type, pre);
  }

  template <class Library>
  static void register_in(Library& m) {
    m.impl("convlstm_gates", TORCH_BOX(&gates));
    m.impl("_convlstm_gates_backward", TORCH_BOX(&gates_backward));
    m.impl("_convlstm_step_", TORCH_BOX(&step));
    m.impl("_convlstm_step_backward_", TORCH_BOX(&step_backward));
  }
};

}  // namespace medkern
