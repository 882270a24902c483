// CUDA kernels of the geodesic distance: the metrics and conventions of core/geodesic.hpp as a
// Front of active_tiles.cuh.
//
// The weight of an edge is rounded, then its sum with the distance, in the type of the image, and
// the file is compiled without contraction: the fixpoint has the bits of the CPU's.
#pragma once

#include <cmath>

#include "active_tiles.cuh"
#include "core/common/storage.hpp"
#include "geodesic.hpp"

namespace medkern::MEDKERN_ISA {

using Metric = GeodesicMetric;
using Norm = ChannelNorm;

// The weight of the edge from one voxel of an image to its neighbour.
template <class T>
struct GeodesicEdge {
  const T* image;  // [channels, voxels]
  int64_t channels, voxels;
  Metric metric;
  Norm norm;
  T intensity, rest;  // factors of the difference, and of the rest

  MEDKERN_DEVICE_INLINE T difference(int64_t from, int64_t to) const {
    T sum = std::fabs(image[from] - image[to]);
    if (channels == 1) return sum;
    const Norm how = metric == Metric::geodistk ? Norm::l2 : norm;
    if (how == Norm::l2) sum = sum * sum;
    for (int64_t c = 1; c < channels; ++c) {
      const T d = std::fabs(image[c * voxels + from] - image[c * voxels + to]);
      if (how == Norm::linf) {
        sum = d <= sum ? sum : d + (sum - sum);  // a NaN stays
      } else {
        sum = sum + (how == Norm::l2 ? d * d : d);
      }
    }
    return how == Norm::l2 ? std::sqrt(sum) : sum;
  }

  MEDKERN_DEVICE_INLINE T weight(int64_t from, int64_t to, T step) const {
    switch (metric) {
      case Metric::l1:
      case Metric::fastgeodis:
        return intensity * difference(from, to) + step;
      case Metric::l2:
      case Metric::geos: {
        const T d = difference(from, to);
        return std::sqrt(intensity * (d * d) + step);
      }
      case Metric::geodistk:
        return step / (rest + intensity / (difference(from, to) + static_cast<T>(1e-5)));
      case Metric::mcp:
        return (image[from] + image[to]) * step;
      default:
        return image[to] + step;
    }
  }
};

template <class T>
struct GeodesicFront {
  using Value = T;

  GeodesicArrays p;

  struct Item {
    GeodesicEdge<T> edge;
    T limit;

    MEDKERN_DEVICE_INLINE T offer(T value, int64_t from, int64_t to, T step) const {
      T weight = edge.weight(from, to, step);
      if (weight < 0) weight = 0;  // or a negative image would never end
      const T offered = value + weight;
      return offered <= limit ? offered : static_cast<T>(INFINITY);
    }
  };

  MEDKERN_DEVICE_INLINE int64_t voxels() const {
    return p.grid.size[0] * p.grid.size[1] * p.grid.size[2];
  }
  MEDKERN_DEVICE_INLINE T* values(int64_t item) const {
    return static_cast<T*>(p.distance) + item * voxels();
  }

  MEDKERN_DEVICE_INLINE GeodesicEdge<T> edge(int64_t item) const {
    const int64_t sample = item / p.classes;
    return {static_cast<const T*>(p.image) + sample * p.channels * voxels(),
            p.channels,
            voxels(),
            p.metric,
            p.norm,
            static_cast<T>(geodesic_intensity(p.metric, p.lam)),
            static_cast<T>(1 - p.lam)};
  }

  MEDKERN_DEVICE_INLINE Item item(int64_t item) const {
    return {edge(item), static_cast<T>(p.limit)};
  }

  MEDKERN_DEVICE_INLINE T step(int64_t item, int z, int y, int x) const {
    const double* spacing = p.spacing + item / p.classes * 3;
    const double dz = z * spacing[0], dy = y * spacing[1], dx = x * spacing[2];
    return static_cast<T>(geodesic_step(p.metric, p.lam, std::sqrt(dz * dz + dy * dy + dx * dx)));
  }

  // The start cost; a wall is outside the mask or where a channel is NaN.
  MEDKERN_DEVICE_INLINE T start(int64_t item, int64_t voxel) const {
    const int64_t sample = item / p.classes;
    bool wall = p.mask != nullptr && !p.mask[sample * voxels() + voxel];
    const T* image = static_cast<const T*>(p.image) + sample * p.channels * voxels() + voxel;
    for (int64_t c = 0; c < p.channels; ++c) wall = wall || std::isnan(image[c * voxels()]);
    if (wall) return static_cast<T>(NAN);
    const T cost = static_cast<const T*>(p.starts)[item * voxels() + voxel];
    return cost <= static_cast<T>(p.limit) ? cost : static_cast<T>(INFINITY);
  }
  MEDKERN_DEVICE_INLINE bool stirs(int64_t, int64_t, T start) const { return start < INFINITY; }
};

template <class Tile, class T>
MEDKERN_GLOBAL void geodesic_fwd_start_kernel(GeodesicFront<T> front, TileGrid g, TileQueue queue,
                                              int64_t items) {
  start_tiles<Tile>(front, g, queue, items);
}

template <class Tile, class T>
MEDKERN_GLOBAL void geodesic_fwd_round_kernel(GeodesicFront<T> front, TileGrid g, TileQueue queue,
                                              int round) {
  visit_queued_tiles<Tile>(front, g, queue, round);
}

// Walls were NaN while values spread.
template <class T>
MEDKERN_GLOBAL void geodesic_fwd_finish_kernel(T* distance, int64_t count) {
  MEDKERN_GRID_STRIDE(i, count) {
    if (std::isnan(distance[i])) distance[i] = static_cast<T>(INFINITY);
  }
}

}  // namespace medkern::MEDKERN_ISA
