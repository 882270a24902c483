// CUDA kernels of the boundary loss: softmax over classes, sum_k s_k phi_k, and the cross-entropy
// of the labelled pixels, in one pass over logits z and maps phi [batch, classes, pixels].
//
// A thread takes one pixel at a time and walks its classes once, keeping the largest logit so far,
// and the sums of exp(z_k - largest) and of exp(z_k - largest) phi_k relative to it: any number of
// classes, no array of them. Sums over pixels are in double and in two stages, block trees and then
// a tree over blocks, in a fixed order.
// Bytes per logit: forward one read of z and phi; backward the same, a second read that the L1
// cache serves, and the writes.
#pragma once

#include <cmath>

#include "block_sums.cuh"
#include "boundary.hpp"
#include "core/common/storage.hpp"

namespace medkern::MEDKERN_ISA {

template <class S, class M>
struct BoundaryPixel {
  using C = Compute<S>;

  const S* logits;  // of class 0; the next class is `pixels` on
  const M* maps;    // of class `first`
  int64_t pixels, classes, first;
  int64_t label;  // -1: none; `classes` or more: no class

  static MEDKERN_DEVICE_INLINE BoundaryPixel at(const BoundaryArrays& a, int64_t sample,
                                                int64_t pixel) {
    const int64_t label = a.labels == nullptr ? -1 : label_at(a, sample * a.pixels + pixel);
    return {static_cast<const S*>(a.logits) + sample * a.classes * a.pixels + pixel,
            static_cast<const M*>(a.maps) + sample * (a.classes - a.first) * a.pixels + pixel,
            a.pixels,
            a.classes,
            a.first,
            label >= a.first ? label : -1};
  }

  static MEDKERN_DEVICE_INLINE int64_t label_at(const BoundaryArrays& a, int64_t i) {
    if (!a.bytes) return static_cast<const int64_t*>(a.labels)[i];
    const uint8_t label = static_cast<const uint8_t*>(a.labels)[i];
    return label == 255 ? -1 : label;
  }

  MEDKERN_DEVICE_INLINE bool names_no_class() const { return label >= classes; }

  MEDKERN_DEVICE_INLINE C logit(int64_t k) const { return load_one<C>(logits + k * pixels); }
  MEDKERN_DEVICE_INLINE C weight(int64_t k) const {
    return k < first ? C{} : static_cast<C>(load_one<Compute<M>>(maps + (k - first) * pixels));
  }
};

// s_k = exp(z_k - largest) / total; weighted = sum_k s_k phi_k.
template <class C>
struct Softmax {
  C largest, total, weighted;
};

template <class S, class M>
MEDKERN_DEVICE_INLINE auto softmax(const BoundaryPixel<S, M>& pixel) {
  using C = Compute<S>;
  Softmax<C> sum{pixel.logit(0), C{1}, pixel.weight(0)};
  for (int64_t k = 1; k < pixel.classes; ++k) {
    const C z = pixel.logit(k), phi = pixel.weight(k);
    // The equality keeps -inf after -inf from becoming NaN.
    const C ratio = z == sum.largest ? C{1} : std::exp(-std::fabs(z - sum.largest));
    if (z > sum.largest) {
      sum = {z, sum.total * ratio + C{1}, sum.weighted * ratio + phi};
    } else {
      sum.total += ratio;
      sum.weighted += ratio * phi;
    }
  }
  sum.weighted /= sum.total;
  return sum;
}

// Block `sample * parts + part` adds up every parts-th run of kThreads pixels.
template <class S, class M>
MEDKERN_GLOBAL void boundary_fwd_parts_kernel(BoundaryArrays a, int64_t parts, double* partial) {
  const int64_t block = blockIdx.x, sample = block / parts, part = block % parts;
  double sums[kBoundarySums] = {0, 0, 0};
  for (int64_t i = part * kThreads + threadIdx.x; i < a.pixels; i += parts * kThreads) {
    const auto pixel = BoundaryPixel<S, M>::at(a, sample, i);
    const auto soft = softmax(pixel);
    sums[0] += static_cast<double>(soft.weighted);
    if (pixel.label < 0) continue;
    if (pixel.names_no_class()) {
      sums[1] = NAN;
      continue;
    }
    sums[1] +=
        static_cast<double>(std::log(soft.total) + (soft.largest - pixel.logit(pixel.label)));
    sums[2] += 1;
  }
  block_sums(sums);
  if (threadIdx.x != 0) return;
  for (int i = 0; i < kBoundarySums; ++i) partial[block * kBoundarySums + i] = sums[i];
}

// One block per sample.
MEDKERN_GLOBAL void boundary_fwd_total_kernel(const double* partial, int64_t parts, double* total) {
  const int64_t sample = blockIdx.x;
  const double* mine = partial + sample * parts * kBoundarySums;
  double sums[kBoundarySums] = {0, 0, 0};
  for (int64_t part = threadIdx.x; part < parts; part += kThreads) {
    for (int i = 0; i < kBoundarySums; ++i) sums[i] += mine[part * kBoundarySums + i];
  }
  block_sums(sums);
  if (threadIdx.x != 0) return;
  for (int i = 0; i < kBoundarySums; ++i) total[sample * kBoundarySums + i] = sums[i];
}

// With b and c the weights of the sample's two sums:
//   d/dz_k = b s_k (phi_k - sum_j s_j phi_j) + c (s_k - [k = label]),   d/dphi_k = b s_k
template <class S, class M>
MEDKERN_GLOBAL void boundary_bwd_kernel(BoundaryArrays a, const double* weights, S* grad_logits,
                                        M* grad_maps) {
  using C = Compute<S>;
  MEDKERN_GRID_STRIDE(i, a.batch * a.pixels) {
    int64_t sample, at;
    split(i, a.pixels, sample, at);
    const auto pixel = BoundaryPixel<S, M>::at(a, sample, at);
    const auto soft = softmax(pixel);
    const C boundary = static_cast<C>(weights[kBoundarySums * sample]);
    const C cross = pixel.label < 0          ? C{}
                    : pixel.names_no_class() ? static_cast<C>(NAN)
                                             : static_cast<C>(weights[kBoundarySums * sample + 1]);
    for (int64_t k = 0; k < a.classes; ++k) {
      const C s = std::exp(pixel.logit(k) - soft.largest) / soft.total;
      const C error = s - (k == pixel.label ? C{1} : C{});
      const C slope = boundary * s * (pixel.weight(k) - soft.weighted);
      store_one(grad_logits + (sample * a.classes + k) * a.pixels + at, slope + cross * error);
      if (grad_maps == nullptr || k < a.first) continue;
      const int64_t map = sample * (a.classes - a.first) + k - a.first;
      store_one(grad_maps + map * a.pixels + at, static_cast<Compute<M>>(boundary * s));
    }
  }
}

}  // namespace medkern::MEDKERN_ISA
