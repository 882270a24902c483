// CUDA kernels of the epilogue of a Fourier layer; see core/fourier_epilogue.hpp.
//
// Products: a thread takes one pixel and kEpilogueOutputs outputs, in registers; a block, kThreads
// neighbouring pixels. Reads of x are coalesced and serve that many multiplications each; weights
// come from shared memory, the same ones for the whole block. What follows the product is done
// before anything is written. With more outputs than a thread has, x is read again, from the L2
// cache: blocks of the same pixels are next to each other.
// Sums over pixels: 16 x 16 weights per block, staged through shared memory, added up in the
// compute type over 32 pixels and in double over these, then over the parts of all pixels, in fixed
// orders. cuBLAS would leave the order, and TF32, to settings that are not ours.
// Bytes: forward reads k and x and writes y; backward reads k, x, grad and d_k and writes d_k and
// d_x, then reads d_k and x once more.
#pragma once

#include <cmath>

#include "core/common/storage.hpp"
#include "fourier_epilogue.hpp"
#include "grid_stride.cuh"

namespace medkern::MEDKERN_ISA {

constexpr int kEpilogueOutputs = 16;  // of a thread
constexpr int kEpilogueInputs = 64;   // whose weights are in shared memory together
constexpr int kEpiloguePixels = 32;   // staged together for the sums

// Blocks that a multiprocessor has at once: left to itself, the compiler aims at more and spills.
template <class S>
constexpr int kEpilogueResident = sizeof(S) == 8 ? 2 : 4;

template <class C>
MEDKERN_DEVICE_INLINE C device_gelu(C s) {
  return s * (std::erfc(s * C(-0.70710678118654752440)) * C(0.5));
}

// Phi(s) + s phi(s); of an infinite s the limit.
template <class C>
MEDKERN_DEVICE_INLINE C device_gelu_slope(C s) {
  const C bounded = s > C{40} ? C{40} : s < C{-40} ? C{-40} : s;
  const C density = std::exp(bounded * bounded * C(-0.5)) * C(0.39894228040143267794);
  return std::erfc(s * C(-0.70710678118654752440)) * C(0.5) + bounded * density;
}

// y = act(k + W x + b) + residual over [batch, channel, pixel], all but W and x optional; x has the
// type X, the others S, W and b the compute type.
template <class S, class X>
struct EpilogueProduct {
  using C = Compute<S>;

  int64_t batch, inputs, outputs, pixels;
  EpilogueView x, k, residual;
  const C *weight, *bias;  // [outputs, inputs], [outputs]

  MEDKERN_INLINE int64_t pixel_blocks() const { return (pixels + kThreads - 1) / kThreads; }
  MEDKERN_INLINE int64_t output_blocks() const {
    return (outputs + kEpilogueOutputs - 1) / kEpilogueOutputs;
  }
  MEDKERN_INLINE int64_t units() const { return batch * pixel_blocks() * output_blocks(); }
};

template <class T>
MEDKERN_DEVICE_INLINE const T* epilogue_at(const EpilogueView& v, int64_t sample, int64_t channel,
                                           int64_t pixel) {
  return static_cast<const T*>(v.data) + sample * v.batch + channel * v.channel + pixel;
}

// Calls body(sample, output, pixel, W x) for every output of every pixel; all threads of a block
// must be here.
template <class S, class X, class Body>
MEDKERN_DEVICE_INLINE void each_product(const EpilogueProduct<S, X>& p, const Body& body) {
  using C = Compute<S>;
  MEDKERN_SHARED(C[kEpilogueOutputs], weights, kEpilogueInputs);
  for (int64_t unit = blockIdx.x; unit < p.units(); unit += gridDim.x) {
    const int64_t block = unit / p.output_blocks();
    const int64_t first = unit % p.output_blocks() * kEpilogueOutputs;
    const int64_t sample = block / p.pixel_blocks();
    const int64_t pixel = block % p.pixel_blocks() * kThreads + threadIdx.x;
    const bool inside = pixel < p.pixels;
    const X* x = epilogue_at<X>(p.x, sample, 0, inside ? pixel : 0);
    C sum[kEpilogueOutputs] = {};
    for (int64_t start = 0; start < p.inputs; start += kEpilogueInputs) {
      const int64_t rest = p.inputs - start;
      const int count = static_cast<int>(rest < kEpilogueInputs ? rest : kEpilogueInputs);
      __syncthreads();
      for (int j = static_cast<int>(threadIdx.x); j < count * kEpilogueOutputs; j += kThreads) {
        const int64_t output = first + j / count;
        const int input = j % count;
        weights[input][j / count] =
            output < p.outputs ? p.weight[output * p.inputs + start + input] : C{};
      }
      __syncthreads();
      for (int i = 0; i < count; ++i) {
        const C value = static_cast<C>(load_one<Compute<X>>(x + (start + i) * p.x.channel));
        MEDKERN_UNROLL
        for (int o = 0; o < kEpilogueOutputs; ++o) sum[o] += weights[i][o] * value;
      }
    }
    if (!inside) continue;
    MEDKERN_UNROLL
    for (int o = 0; o < kEpilogueOutputs; ++o) {
      if (first + o < p.outputs) body(sample, first + o, pixel, sum[o]);
    }
  }
}

template <class S, class X>
MEDKERN_DEVICE_INLINE Compute<S> before_activation(const EpilogueProduct<S, X>& p, int64_t sample,
                                                   int64_t output, int64_t pixel,
                                                   Compute<S> product) {
  using C = Compute<S>;
  const C b = p.bias != nullptr ? p.bias[output] : C{};
  if (p.k.data == nullptr) return product + b;
  return product + (load_one<C>(epilogue_at<S>(p.k, sample, output, pixel)) + b);
}

template <class S, class X>
MEDKERN_GLOBAL MEDKERN_LAUNCH_BOUNDS(
    kThreads, kEpilogueResident<S>) void fourier_epilogue_fwd_kernel(EpilogueProduct<S, X> p,
                                                                     bool gelu, S* y) {
  using C = Compute<S>;
  each_product(p, [&](int64_t sample, int64_t output, int64_t pixel, C product) {
    C v = before_activation(p, sample, output, pixel, product);
    if (gelu) v = device_gelu(v);
    if (p.residual.data != nullptr) {
      v += load_one<C>(epilogue_at<S>(p.residual, sample, output, pixel));
    }
    store_one(y + (sample * p.outputs + output) * p.pixels + pixel, v);
  });
}

// d_k = grad act'(s); wide: the same in the compute type, or null.
template <class S>
MEDKERN_GLOBAL MEDKERN_LAUNCH_BOUNDS(
    kThreads, kEpilogueResident<S>) void fourier_epilogue_slope_bwd_kernel(EpilogueProduct<S, S> p,
                                                                           EpilogueView grad,
                                                                           S* d_k,
                                                                           Compute<S>* wide) {
  using C = Compute<S>;
  each_product(p, [&](int64_t sample, int64_t output, int64_t pixel, C product) {
    const C s = before_activation(p, sample, output, pixel, product);
    const C g = load_one<C>(epilogue_at<S>(grad, sample, output, pixel)) * device_gelu_slope(s);
    const int64_t at = (sample * p.outputs + output) * p.pixels + pixel;
    store_one(d_k + at, g);
    if (wide != nullptr) wide[at] = g;
  });
}

// Of no activation.
template <class S>
MEDKERN_GLOBAL void fourier_epilogue_copy_bwd_kernel(EpilogueView grad, int64_t batch,
                                                     int64_t outputs, int64_t pixels, S* d_k,
                                                     Compute<S>* wide) {
  using C = Compute<S>;
  MEDKERN_GRID_STRIDE(i, batch * outputs * pixels) {
    int64_t row, pixel;
    split(i, pixels, row, pixel);
    const C g = load_one<C>(epilogue_at<S>(grad, row / outputs, row % outputs, pixel));
    store_one(d_k + i, g);
    if (wide != nullptr) wide[i] = g;
  }
}

// Sums over pixels of d_k times the inputs, and times 1 for the bias.
template <class S>
struct EpilogueSums {
  using C = Compute<S>;

  int64_t batch, inputs, outputs, pixels, parts;
  EpilogueView x;
  const C* d_k;  // [batch, outputs, pixels]

  MEDKERN_INLINE int64_t columns() const { return inputs + 1; }
  MEDKERN_INLINE int64_t column_blocks() const {
    return (columns() + kEpilogueSide - 1) / kEpilogueSide;
  }
  MEDKERN_INLINE int64_t stages() const {
    return batch * ((pixels + kEpiloguePixels - 1) / kEpiloguePixels);
  }
  MEDKERN_DEVICE_INLINE C d_k_at(int64_t sample, int64_t output, int64_t pixel) const {
    if (output >= outputs || pixel >= pixels) return C{};
    return d_k[(sample * outputs + output) * pixels + pixel];
  }
  MEDKERN_DEVICE_INLINE C x_at(int64_t sample, int64_t input, int64_t pixel) const {
    if (input >= columns() || pixel >= pixels) return C{};
    return input == inputs ? C{1} : load_one<C>(epilogue_at<S>(x, sample, input, pixel));
  }
};

// partial: [parts, outputs, inputs + 1]
template <class S>
MEDKERN_GLOBAL MEDKERN_LAUNCH_BOUNDS(kThreads) void fourier_epilogue_parts_bwd_kernel(
    EpilogueSums<S> p, double* partial) {
  using C = Compute<S>;
  constexpr int side = static_cast<int>(kEpilogueSide);
  static_assert(side * side == kThreads, "a thread per weight");
  // A column more than the pixels, lest a warp's reads share a bank.
  MEDKERN_SHARED(C[kEpiloguePixels + 1], of_d_k, side);
  MEDKERN_SHARED(C[kEpiloguePixels + 1], of_x, side);
  const int64_t part = blockIdx.x % p.parts, block = blockIdx.x / p.parts;
  const int64_t first_output = block / p.column_blocks() * side;
  const int64_t first_input = block % p.column_blocks() * side;
  const int thread = static_cast<int>(threadIdx.x), row = thread / side, column = thread % side;
  const int64_t stages = p.stages(), per_sample = stages / p.batch;
  double total = 0;
  for (int64_t stage = part * stages / p.parts; stage < (part + 1) * stages / p.parts; ++stage) {
    const int64_t sample = stage / per_sample, first = stage % per_sample * kEpiloguePixels;
    __syncthreads();
    for (int j = thread; j < side * kEpiloguePixels; j += kThreads) {
      const int channel = j / kEpiloguePixels, at = j % kEpiloguePixels;
      of_d_k[channel][at] = p.d_k_at(sample, first_output + channel, first + at);
      of_x[channel][at] = p.x_at(sample, first_input + channel, first + at);
    }
    __syncthreads();
    C sum{};
    for (int at = 0; at < kEpiloguePixels; ++at) sum += of_d_k[row][at] * of_x[column][at];
    total += static_cast<double>(sum);
  }
  const int64_t output = first_output + row, input = first_input + column;
  if (output >= p.outputs || input >= p.columns()) return;
  partial[(part * p.outputs + output) * p.columns() + input] = total;
}

template <class C>
MEDKERN_GLOBAL void fourier_epilogue_total_bwd_kernel(const double* partial, int64_t parts,
                                                      int64_t outputs, int64_t inputs, C* d_weight,
                                                      C* d_bias) {
  const int64_t columns = inputs + 1, sums = outputs * columns;
  MEDKERN_GRID_STRIDE(i, sums) {
    double total = 0;
    for (int64_t part = 0; part < parts; ++part) total += partial[part * sums + i];
    const int64_t output = i / columns, input = i % columns;
    (input < inputs ? d_weight[output * inputs + input] : d_bias[output]) = static_cast<C>(total);
  }
}

}  // namespace medkern::MEDKERN_ISA
