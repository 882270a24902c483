// What follows the spectral convolution in a Fourier layer, in one pass:
//
//     s = k + W x + b,   y = act(s) + x
//
// k, y: [batch, outputs, pixels]; x: [batch, inputs, pixels]; W: [outputs, inputs]; b: [outputs].
// act is the GELU, s Phi(s) with the normal distribution function Phi, or nothing; "+ x" is
// optional. For the gradient g of y, with s computed again,
//
//     d_k = g act'(s),  d_x = W^T d_k + g,  d_W = sum d_k x^T,  d_b = sum d_k
//
// over samples and pixels. float16, bfloat16 and float32 compute in float32, float64 in float64.
// Sums over pixels: within a tile in this type, tiles in float64 within each of a number of chunks
// that depends on shapes alone, then chunk by chunk: no bit depends on the threads. Products fuse
// multiply and add where the instruction set can, so that the baseline rounds otherwise.
// Cost: forward one read of k and x and one write; backward reads of k, x and g and two writes.
// 2 outputs inputs operations per pixel forward, three times as many backward.
// Source: Drozdov and Sorokin, "FNOReg", section 3; Hendrycks and Gimpel, "Gaussian error linear
// units", 2016.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/float_type.hpp"

namespace medkern {

// [batch, channel, pixel], in elements; pixels are contiguous.
struct EpilogueView {
  const void* data = nullptr;
  int64_t batch = 0, channel = 0;
};

struct FourierEpilogue {
  int64_t batch = 0, inputs = 0, outputs = 0, pixels = 0;
  FloatType type = FloatType::float32;  // of k, x, g and what is like them
  bool gelu = true, residual = true;
  EpilogueView k, x, grad;
  // In the compute type: W, its transpose (backward only) and b, which may be null.
  const void *weight = nullptr, *transposed = nullptr, *bias = nullptr;
  // Contiguous results: forward y, backward the others.
  void *y = nullptr, *d_k = nullptr, *d_x = nullptr;
  double* sums = nullptr;  // backward: [chunks, outputs, inputs + 1], of W and of b
  bool streams = false;    // write past the caches; see common/cache.hpp

  // Pixels that go through together: their channels stay in the second-level cache.
  MEDKERN_INLINE int64_t tile() const { return inputs <= 128 && outputs <= 128 ? 256 : 64; }
  MEDKERN_INLINE int64_t tiles_per_sample() const { return (pixels + tile() - 1) / tile(); }
  MEDKERN_INLINE int64_t tiles() const { return batch * tiles_per_sample(); }

  MEDKERN_INLINE int64_t sums_of_chunk() const { return outputs * (inputs + 1); }
  // Of four tiles at least, and few enough for their sums to take 32 MB, or to be one.
  MEDKERN_INLINE int64_t chunks() const {
    constexpr int64_t most = 64, most_sums = int64_t{1} << 22;
    const int64_t fit = most_sums / sums_of_chunk(), full = (tiles() + 3) / 4;
    int64_t count = fit < most ? fit : most;
    count = count < full ? count : full;
    return count > 0 || full == 0 ? count : 1;
  }
};

// Processes tiles (forward) or chunks (backward) [begin, end), with fourier_epilogue_scratch bytes
// on a cache line's boundary.
using FourierEpilogueKernel = void (*)(const FourierEpilogue&, int64_t begin, int64_t end,
                                       void* scratch);

// The kernel for the instruction set in use.
FourierEpilogueKernel fourier_epilogue_kernel(bool backward, FloatType type);

// Where a thread's rows start, in elements of C. A line more than a tile between rows, lest the
// channels of one pixel share a set of the cache.
struct EpilogueLayout {
  static constexpr int64_t line = 16;

  int64_t pitch, width;  // between rows of pixels; between those of inputs
  int64_t x, next_x, s, grad, d_x, turned, products, lanes, total;

  MEDKERN_INLINE explicit EpilogueLayout(const FourierEpilogue& p, bool backward)
      : pitch(p.tile() + line), width((p.inputs + line - 1) / line * line) {
    const int64_t per_input = p.inputs * pitch, per_output = p.outputs * pitch;
    x = 0;
    next_x = x + per_input;
    s = next_x + per_input;
    grad = s + per_output;
    d_x = grad + per_output;  // forward: a row of k goes to `grad`, backward to `d_x`
    turned = d_x + (backward ? per_input : 0);
    products = turned + (backward ? p.tile() * width : 0);
    lanes = products + (backward ? p.outputs * width : 0);
    total = lanes + (backward ? p.outputs * 2 * line : 0);
  }
};

MEDKERN_INLINE size_t fourier_epilogue_scratch(const FourierEpilogue& p, bool backward) {
  const size_t bytes = p.type == FloatType::float64 ? sizeof(double) : sizeof(float);
  return static_cast<size_t>(EpilogueLayout(p, backward).total) * bytes;
}

}  // namespace medkern
