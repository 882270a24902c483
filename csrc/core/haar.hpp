// Haar wavelet analysis, synthesis and pooling in one pass over memory, 1-D, 2-D and 3-D.
//
// A block is 2^N neighbouring samples; corner q of a block sits at offset bit i of q along spatial
// axis i (bit 0 = first axis, bit N-1 = W). With s = 2^(-N/2), band k of a block is
//     y_k = s * sum_q (-1)^popcount(q & k) x_q
// so bit i of k set means high-pass along axis i; in 2-D the bands are LL, LH, HL, HH of
// Das et al., ICPR 2024 (equation 6), and PyWavelets' aa, da, ad, dd.
//
// x: [batch, channel, *size], any outer strides, stride 1 along W (planar) or along the channel
// (channels-last); y: [batch, channel, band, *half] likewise, half = ceil(size / 2). An odd axis is
// extended by one sample (Pad). The adjoint of every map is exact for every Pad: each sample of x
// gathers all block corners that read it, so no two threads ever write one address.
// float16, bfloat16 and float32 compute in float32, float64 in float64, integers by lifting.
// Cost: one read of the input and one write of the output; no temporaries.
#pragma once

#include <cstdint>

#include "common/inline.hpp"

namespace medkern {

enum class Pad { zero, replicate, reflect, periodic };
enum class HaarMode { dwt, ll, iewa, all, max_concat, lift };
enum class HaarDType { float16, bfloat16, float32, float64, uint8, int16 };

struct HaarView {
  void* data = nullptr;
  int64_t batch = 0, channel = 0, band = 0;  // strides, in elements
  int64_t space[3] = {0, 0, 0};              // strides of D, H, W
};

// The transformed axes are the last N of (D, H, W); the others have size 1.
struct HaarProblem {
  int64_t batch = 0, channels = 0;
  int64_t size[3] = {1, 1, 1};  // of x
  int64_t half[3] = {1, 1, 1};  // of y
  Pad pad = Pad::zero;
  bool channels_last = false;
  bool streams = false;  // write past the caches; see common/cache.hpp
  HaarView x, y;
  HaarView keys;  // max_concat: the tensor whose maxima choose; shape of x
};

// Processes work units [begin, end) of haar_units(problem): one row of blocks each.
using HaarKernel = void (*)(const HaarProblem&, int64_t begin, int64_t end);

// The kernel for the instruction set in use; adjoint = false maps x to y, true maps y to x. Given
// haar_row(problem), short rows take shorter vectors, with the same bits.
HaarKernel haar_kernel(HaarMode mode, bool adjoint, HaarDType dtype, int ndim,
                       int64_t row = INT64_MAX);

MEDKERN_INLINE int haar_outputs(HaarMode mode, int ndim) {
  if (mode == HaarMode::dwt || mode == HaarMode::lift) return 1 << ndim;
  return mode == HaarMode::max_concat ? 2 : 1;
}

MEDKERN_INLINE int64_t haar_units(const HaarProblem& p) {
  return p.batch * (p.channels_last ? 1 : p.channels) * p.half[0] * p.half[1];
}

// The blocks or channels that a vector can span.
MEDKERN_INLINE int64_t haar_row(const HaarProblem& p) {
  return p.channels_last ? p.channels : p.size[2] / 2;
}

// Where the sample one past the end of an axis of odd length n comes from; -1: it is zero.
MEDKERN_INLINE int64_t pad_source(Pad pad, int64_t n) {
  switch (pad) {
    case Pad::replicate:
      return n - 1;
    case Pad::reflect:
      return n > 1 ? n - 2 : 0;
    case Pad::periodic:
      return 0;
    default:
      return -1;
  }
}

}  // namespace medkern
