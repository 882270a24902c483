// Launching the epilogue of a Fourier layer: no torch, no device code.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "core/fourier_epilogue.hpp"
#include "launch.hpp"

namespace medkern {

// Outputs, and inputs with the column of the bias, that a block of weight gradients has.
constexpr int64_t kEpilogueSide = 16;

inline int64_t epilogue_weight_blocks(const FourierEpilogue& p) {
  const int64_t rows = (p.outputs + kEpilogueSide - 1) / kEpilogueSide;
  return rows * ((p.inputs + kEpilogueSide) / kEpilogueSide);
}

// Parts that the pixels of all samples are cut into for the sums over them: a function of shapes
// alone, so that the bits are the same on every device.
inline int64_t epilogue_parts(const FourierEpilogue& p) {
  const int64_t enough = std::clamp<int64_t>(1024 / epilogue_weight_blocks(p), 1, 512);
  return std::clamp<int64_t>(p.batch * ((p.pixels + 511) / 512), 1, enough);
}

// Bytes of workspace of a backward: partial sums, and d_k in float32 where it is stored in half.
size_t epilogue_workspace(const FourierEpilogue& p);

LaunchError launch_epilogue_forward(const FourierEpilogue& p, Stream stream);

// d_weight [outputs, inputs], d_bias [outputs], in the compute type.
LaunchError launch_epilogue_backward(const FourierEpilogue& p, void* workspace, void* d_weight,
                                     void* d_bias, Stream stream);

}  // namespace medkern
