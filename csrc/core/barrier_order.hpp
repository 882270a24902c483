// The voxels of an image in ascending order of intensity, row-major among equals.
//
// By counting: integers by value, floats in two steps, into coarse and then into fine intervals of
// their range, each of which holds a voxel or two and is sorted. O(N) unless a few outliers leave
// all others in few intervals. Memory: the order and, while it is made, little else.
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

// Equal intervals of the range of a float image: a monotone map to 0 .. coarse * kFine - 1.
template <class T>
struct Intervals {
  static constexpr int64_t kFine = 1024;  // in a coarse one

  int64_t coarse;
  T lowest, scale;

  Intervals(const T* image, const bool* mask, int64_t voxels)
      : coarse(std::clamp<int64_t>(voxels / kFine, 1, 4096)) {
    T low = std::numeric_limits<T>::max(), high = std::numeric_limits<T>::lowest();
    for (int64_t i = 0; i < voxels; ++i) {
      if (is_wall(image, mask, i)) continue;
      low = std::min(low, image[i]);
      high = std::max(high, image[i]);
    }
    // Halves, lest the difference overflow.
    lowest = low / 2;
    scale = static_cast<T>(coarse * kFine) / (high / 2 - lowest);
    if (!(low < high) || !std::isfinite(scale)) scale = 0;
  }

  int64_t operator()(T intensity) const {
    const auto at = static_cast<int64_t>((intensity / 2 - lowest) * scale);
    return std::min(at, coarse * kFine - 1);
  }
};

// Sorts a run of `order` that lies in one coarse interval and is row-major.
template <class T, class Index>
class FineSort {
 public:
  void operator()(const Intervals<T>& intervals, const T* image, Index* order, int64_t count) {
    std::fill(end_.begin(), end_.end(), 0);
    const auto fine = [&](Index i) { return intervals(image[i]) % Intervals<T>::kFine; };
    for (int64_t i = 0; i < count; ++i) ++end_[fine(order[i]) + 1];
    for (int64_t f = 0; f < Intervals<T>::kFine; ++f) end_[f + 1] += end_[f];
    items_.resize(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i)
      items_[end_[fine(order[i])]++] = {image[order[i]], order[i]};
    for (int64_t f = 0, begin = 0; f < Intervals<T>::kFine; begin = end_[f++]) {
      const auto first = items_.begin() + begin, last = items_.begin() + end_[f];
      if (!std::is_sorted(first, last)) std::sort(first, last);
    }
    for (int64_t i = 0; i < count; ++i) order[i] = items_[i].second;
  }

 private:
  std::vector<std::pair<T, Index>> items_;
  std::vector<int64_t> end_ = std::vector<int64_t>(Intervals<T>::kFine + 1);
};

// The voxels by bucket(intensity), row-major within one; end: of each bucket.
template <class Index, class T, class Bucket>
std::vector<Index> count_into(const T* image, const bool* mask, int64_t voxels,
                              const Bucket& bucket, std::vector<Index>& end) {
  for (int64_t i = 0; i < voxels; ++i) {
    if (!is_wall(image, mask, i)) ++end[bucket(image[i]) + 1];
  }
  for (size_t b = 1; b < end.size(); ++b) end[b] += end[b - 1];
  std::vector<Index> order(static_cast<size_t>(end.back()));
  for (int64_t i = 0; i < voxels; ++i) {
    if (!is_wall(image, mask, i)) order[end[bucket(image[i])]++] = static_cast<Index>(i);
  }
  return order;
}

}  // namespace detail

template <class Index, class T>
std::vector<Index> ascending_order(const T* image, const bool* mask, int64_t voxels) {
  if constexpr (std::is_floating_point_v<T>) {
    const detail::Intervals<T> intervals(image, mask, voxels);
    std::vector<Index> end(intervals.coarse + 1, 0);
    const auto coarse = [&](T v) { return intervals(v) / detail::Intervals<T>::kFine; };
    std::vector<Index> order = detail::count_into(image, mask, voxels, coarse, end);
    detail::FineSort<T, Index> sort;
    for (int64_t c = 0, begin = 0; c < intervals.coarse; begin = end[c++]) {
      sort(intervals, image, order.data() + begin, end[c] - begin);
    }
    return order;
  } else {
    std::vector<Index> end((size_t{1} << 8 * sizeof(T)) + 1, 0);
    const auto value = [](T v) { return int64_t{v} - std::numeric_limits<T>::min(); };
    return detail::count_into(image, mask, voxels, value, end);
  }
}

}  // namespace medkern
