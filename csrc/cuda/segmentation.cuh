// CUDA kernels of the sums of segmentation losses; formulas in core/segmentation.hpp.
//
// Forward: a thread takes kSegmentationPixels pixels of one sample, finds the largest logit and the
// sum of exponentials of each, then walks the classes once more; per class, its block adds up in
// double, in a tree. Blocks of a sample are added by another kernel, in a fixed order. Backward: a
// thread per pixel walks its classes three times: statistics, their mean slope, the gradient.
// Any number of classes, no array of them; nothing is added by atomics. Repeated reads of a pixel's
// logits are served by the caches.
// Bytes per logit: forward one read of logits and target; backward the same, and one write.
#pragma once

#include <cmath>

#include "block_sums.cuh"
#include "core/common/storage.hpp"
#include "segmentation.hpp"

namespace medkern::MEDKERN_ISA {

template <class S>
struct SegmentationPixel {
  using C = Compute<S>;
  static constexpr int64_t skipped = -1;

  const SegmentationArrays& a;
  int64_t sample, at;
  int64_t label;  // `skipped`, or with values 0

  MEDKERN_DEVICE_INLINE SegmentationPixel(const SegmentationArrays& arrays, int64_t of, int64_t i)
      : a(arrays), sample(of), at(i), label(i < arrays.pixels ? 0 : skipped) {
    if (!a.labels || label == skipped) return;
    const int64_t index = sample * a.pixels + at;
    label = a.target_type == TargetType::uint8 ? static_cast<const uint8_t*>(a.target)[index]
                                               : static_cast<const int64_t*>(a.target)[index];
    const int64_t last = a.classes == 1 ? 1 : a.classes - 1;
    if (label == a.ignore || label < 0 || label > last) label = skipped;
  }

  MEDKERN_DEVICE_INLINE int64_t index(int64_t k) const {
    return (sample * a.classes + k) * a.pixels + at;
  }
  MEDKERN_DEVICE_INLINE C logit(int64_t k) const {
    return load_one<C>(static_cast<const S*>(a.logits) + index(k));
  }
  MEDKERN_DEVICE_INLINE C target(int64_t k) const {
    if (a.labels) return label == (a.classes == 1 ? 1 : k) ? C{1} : C{};
    switch (a.target_type) {
      case TargetType::float16:
        return static_cast<C>(load_one<float>(static_cast<const Half*>(a.target) + index(k)));
      case TargetType::bfloat16:
        return static_cast<C>(load_one<float>(static_cast<const BFloat16*>(a.target) + index(k)));
      case TargetType::float32:
        return static_cast<C>(static_cast<const float*>(a.target)[index(k)]);
      case TargetType::float64:
        return static_cast<C>(static_cast<const double*>(a.target)[index(k)]);
      default:
        return static_cast<C>(static_cast<const uint8_t*>(a.target)[index(k)]);
    }
  }
};

// Of a pixel's softmax: p_k = exp(z_k - largest) / total.
template <class C>
struct SoftmaxScale {
  C largest, total;

  MEDKERN_DEVICE_INLINE C probability(C z) const { return std::exp(z - largest) / total; }
};

template <class S>
MEDKERN_DEVICE_INLINE auto softmax_scale(const SegmentationPixel<S>& pixel) {
  using C = Compute<S>;
  SoftmaxScale<C> sum{pixel.logit(0), C{1}};
  for (int64_t k = 1; k < pixel.a.classes; ++k) {
    const C z = pixel.logit(k);
    // The equality keeps -inf after -inf from becoming NaN.
    const C ratio = z == sum.largest ? C{1} : std::exp(-std::fabs(z - sum.largest));
    sum = z > sum.largest ? SoftmaxScale<C>{z, sum.total * ratio + C{1}}
                          : SoftmaxScale<C>{sum.largest, sum.total + ratio};
  }
  return sum;
}

template <class C>
MEDKERN_DEVICE_INLINE C sigmoid(C z) {
  const C e = std::exp(-std::fabs(z));
  return (z < C{} ? e : C{1}) / (C{1} + e);
}

// Block `sample * parts + part`.
template <class S, bool softmax>
MEDKERN_GLOBAL void segmentation_fwd_parts_kernel(SegmentationArrays a, int64_t parts,
                                                  double* partial) {
  using C = Compute<S>;
  const int64_t block = blockIdx.x, sample = block / parts, part = block % parts;
  const int64_t first = part * kThreads * kSegmentationPixels + threadIdx.x;
  SoftmaxScale<C> scale[kSegmentationPixels];
  MEDKERN_UNROLL
  for (int j = 0; j < kSegmentationPixels; ++j) {
    scale[j] = {C{}, C{1}};
    const SegmentationPixel<S> pixel(a, sample, first + j * kThreads);
    if (softmax && pixel.label != pixel.skipped) scale[j] = softmax_scale(pixel);
  }
  for (int64_t k = 0; k < a.classes; ++k) {
    double sums[kSegmentationSums] = {};
    MEDKERN_UNROLL
    for (int j = 0; j < kSegmentationPixels; ++j) {
      const SegmentationPixel<S> pixel(a, sample, first + j * kThreads);
      if (pixel.label == pixel.skipped) continue;
      const C z = pixel.logit(k), y = pixel.target(k);
      C p, surprise;
      if constexpr (softmax) {
        p = scale[j].probability(z);
        surprise = y == C{} ? C{} : y * ((scale[j].largest - z) + std::log(scale[j].total));
      } else {
        p = sigmoid(z);
        surprise = ((z > C{} ? z : C{}) - y * z) + std::log1p(std::exp(-std::fabs(z)));
      }
      const C terms[kSegmentationSums] = {p * y, p, p * p, y, y * y, surprise, C{1}};
      for (int i = 0; i < kSegmentationSums; ++i) sums[i] += static_cast<double>(terms[i]);
    }
    block_sums(sums);
    if (threadIdx.x == 0) {
      double* out = partial + (block * a.classes + k) * kSegmentationSums;
      for (int i = 0; i < kSegmentationSums; ++i) out[i] = sums[i];
    }
    __syncthreads();
  }
}

// One block per sample and class.
MEDKERN_GLOBAL void segmentation_fwd_total_kernel(const double* partial, int64_t classes,
                                                  int64_t parts, double* total) {
  const int64_t sample = blockIdx.x / classes, k = blockIdx.x % classes;
  double sums[kSegmentationSums] = {};
  for (int64_t part = threadIdx.x; part < parts; part += kThreads) {
    const double* mine = partial + ((sample * parts + part) * classes + k) * kSegmentationSums;
    for (int i = 0; i < kSegmentationSums; ++i) sums[i] += mine[i];
  }
  block_sums(sums);
  if (threadIdx.x != 0) return;
  double* out = total + (sample * classes + k) * kSegmentationSums;
  for (int i = 0; i < kSegmentationSums; ++i) out[i] = sums[i];
}

template <class S, bool softmax>
MEDKERN_GLOBAL void segmentation_bwd_kernel(SegmentationArrays a, const double* weights, S* grad) {
  using C = Compute<S>;
  MEDKERN_GRID_STRIDE(i, a.batch * a.pixels) {
    int64_t sample, at;
    split(i, a.pixels, sample, at);
    const SegmentationPixel<S> pixel(a, sample, at);
    const bool skip = pixel.label == pixel.skipped;
    const double* of_sample = weights + sample * a.classes * kSegmentationSums;
    const auto weight = [&](int64_t k, int column) {
      return static_cast<C>(of_sample[k * kSegmentationSums + column]);
    };
    const auto slope = [&](int64_t k, C p, C y) {
      return weight(k, 0) * y + (weight(k, 1) + C{2} * weight(k, 2) * p);
    };
    SoftmaxScale<C> scale{C{}, C{1}};
    C shift{};
    if constexpr (softmax) {
      if (!skip) scale = softmax_scale(pixel);
      for (int64_t k = 0; k < a.classes && !skip; ++k) {
        const C p = scale.probability(pixel.logit(k)), y = pixel.target(k);
        shift += weight(k, 5) * y - p * slope(k, p, y);
      }
    }
    for (int64_t k = 0; k < a.classes; ++k) {
      C value{};
      if (!skip) {
        const C z = pixel.logit(k), y = pixel.target(k);
        if constexpr (softmax) {
          const C p = scale.probability(z);
          value = p * (slope(k, p, y) + shift) - weight(k, 5) * y;
        } else {
          const C p = sigmoid(z);
          value = p * (C{1} - p) * slope(k, p, y) + weight(k, 5) * (p - y);
        }
      }
      store_one(grad + pixel.index(k), value);
    }
  }
}

}  // namespace medkern::MEDKERN_ISA
