// ConvLSTM: the gates and the state update of one step, fused, and their backward.
//
// For pre-activations a [batch, 4 hidden, voxels] in the order i, f, o, g, given as one or two
// summands, the old cell state c and optional peepholes p [batch, 3, hidden, voxels],
//     i = sigmoid(a_i + p_i c), f = sigmoid(a_f + p_f c), g = tanh(a_g)
//     c' = f c + i g,  o = sigmoid(a_o + p_o c'),  h = o tanh(c')
// and backward, for dh and dc' (without those terms of p that are not given)
//     da_o = dh tanh(c') o (1 - o);  dc' += dh o (1 - tanh(c')^2) + da_o p_o
//     da_i = dc' g i (1 - i);  da_f = dc' c f (1 - f);  da_g = dc' i (1 - g^2)
//     dc = dc' f + da_i p_i + da_f p_f.
//
// Any strides; rows run along voxels or, in channels_last, along channels. Pre-activations and h
// are float16, bfloat16, float32 or float64, the state float64 for the last and else float32, which
// is also what is computed in. Cost: one read of each input, one write of each output; 5
// exponentials. Source: Shi et al., NeurIPS 2015; SpecSlice-ConvLSTM for the sum of h over time.
#pragma once

#include <cstdint>

#include "common/float_type.hpp"

namespace medkern {

// [batch, gate, channel, voxel] with any strides, in elements; null where there is none.
struct ConvLSTMView {
  void* data = nullptr;
  int64_t batch = 0, gate = 0, channel = 0, voxel = 1;
};

struct ConvLSTMGates {
  int64_t batch = 0, hidden = 0, voxels = 0;
  ConvLSTMView gates_x, gates_h, c, peephole;
  // Forward: h, c', and if wanted the summed pre-activations (may be gates_x itself) and a running
  // sum of h in the state's type. Backward: h again, if wanted.
  ConvLSTMView h, c_out, pre, total;
  // Backward: dh in one or two summands and dc' (may be null), da and dc (may be grad_c itself).
  ConvLSTMView grad_h, grad_h2, grad_c, d_gates, d_c;

  MEDKERN_INLINE bool along_channels() const { return gates_x.channel == 1 && hidden > 1; }
};

// Processes rows [begin, end) of convlstm_rows(problem).
using ConvLSTMKernel = void (*)(const ConvLSTMGates&, int64_t begin, int64_t end);

// The kernel for the instruction set in use.
ConvLSTMKernel convlstm_gates_kernel(bool backward, FloatType type);

MEDKERN_INLINE int64_t convlstm_rows(const ConvLSTMGates& p) {
  return p.batch * (p.along_channels() ? p.voxels : p.hidden);
}

}  // namespace medkern
