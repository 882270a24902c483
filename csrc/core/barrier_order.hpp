// The voxels of an image in ascending order of intensity, row-major among equals.
//
// Integers by counting. Floats by counting into buckets that are linear in the intensity, each of
// which is then sorted: O(N) unless a few outliers leave all others in one bucket. Memory: the
// order, and the bounds of the buckets.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

namespace medkern {

// Outside of the mask, or NaN or inf, which callers refuse where they can.
template <class T>
bool is_wall(const T* image, const bool* mask, int64_t voxel) {
  if (mask && !mask[voxel]) return true;
  if constexpr (std::is_floating_point_v<T>) return !std::isfinite(image[voxel]);
  return false;
}

namespace detail {

// bucket(intensity) is monotone and below `count`.
template <class T>
struct IntensityBuckets {
  int64_t count;
  T lowest, scale;

  int64_t operator()(T intensity) const {
    if constexpr (std::is_floating_point_v<T>) {
      // Halves, lest the difference overflow.
      const T position = (intensity / 2 - lowest) * scale;
      return std::min(static_cast<int64_t>(position), count - 1);
    } else {
      return int64_t{intensity} - std::numeric_limits<T>::min();
    }
  }
};

template <class T>
IntensityBuckets<T> buckets_of(const T* image, const bool* mask, int64_t voxels) {
  if constexpr (std::is_floating_point_v<T>) {
    T low = std::numeric_limits<T>::max(), high = std::numeric_limits<T>::lowest();
    for (int64_t i = 0; i < voxels; ++i) {
      if (is_wall(image, mask, i)) continue;
      low = std::min(low, image[i]);
      high = std::max(high, image[i]);
    }
    const int64_t count = std::clamp<int64_t>(voxels / 8, 1, 1 << 18);
    const T width = high / 2 - low / 2;
    const T scale = static_cast<T>(count) / width;
    return {count, low / 2, width > 0 && std::isfinite(scale) ? scale : 0};
  } else {
    return {int64_t{1} << 8 * sizeof(T), 0, 0};
  }
}

}  // namespace detail

template <class Index, class T>
std::vector<Index> ascending_order(const T* image, const bool* mask, int64_t voxels) {
  const auto bucket = detail::buckets_of(image, mask, voxels);
  std::vector<Index> end(bucket.count + 1, 0);
  for (int64_t i = 0; i < voxels; ++i) {
    if (!is_wall(image, mask, i)) ++end[bucket(image[i]) + 1];
  }
  for (int64_t b = 0; b < bucket.count; ++b) end[b + 1] += end[b];
  std::vector<Index> order(end.back());
  for (int64_t i = 0; i < voxels; ++i) {
    if (!is_wall(image, mask, i)) order[end[bucket(image[i])]++] = static_cast<Index>(i);
  }
  if constexpr (std::is_floating_point_v<T>) {
    std::vector<std::pair<T, Index>> items;
    for (int64_t b = 0, begin = 0; b < bucket.count; begin = end[b++]) {
      items.clear();
      for (int64_t i = begin; i < end[b]; ++i) items.push_back({image[order[i]], order[i]});
      std::sort(items.begin(), items.end());
      for (size_t i = 0; i < items.size(); ++i) order[begin + i] = items[i].second;
    }
  }
  return order;
}

}  // namespace medkern
