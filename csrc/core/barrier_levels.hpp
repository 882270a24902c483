// The voxels of an image in ascending order of intensity, grouped by equal values (levels).
//
// Integers by counting, floats by a stable radix sort of their bits: O(N) for every type.
#pragma once

#include <bit>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/barrier.hpp"

namespace medkern {

template <class Value, class Index>
struct Levels {
  std::vector<Value> value;  // of each level, ascending
  std::vector<Index> first;  // position in `order` of each level's first voxel, and the end
  std::vector<Index> order;  // indices in the walled grid; row-major within a level

  int64_t count() const { return static_cast<int64_t>(value.size()); }
};

namespace detail {

// An unsigned integer that ascends with the intensity.
template <class T>
auto ascending_key(T value) {
  if constexpr (std::is_floating_point_v<T>) {
    using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
    const Bits bits = std::bit_cast<Bits>(value), sign = Bits{1} << (8 * sizeof(T) - 1);
    return static_cast<Bits>(bits & sign ? ~bits : bits | sign);
  } else if constexpr (std::is_signed_v<T>) {
    return static_cast<std::make_unsigned_t<T>>(value - std::numeric_limits<T>::min());
  } else {
    return value;
  }
}

// The inverse for floating types.
template <class T, class Key>
T value_of_key(Key key) {
  const Key sign = Key{1} << (8 * sizeof(T) - 1);
  return std::bit_cast<T>(static_cast<Key>(key & sign ? key ^ sign : ~key));
}

template <class Key, class Index>
struct Keyed {
  Key key;
  Index index;
};

constexpr int kDigit = 11;

// Stable; one histogram and one pass per digit.
template <class Key, class Index>
void radix_sort(std::vector<Keyed<Key, Index>>& items) {
  std::vector<Keyed<Key, Index>> other(items.size());
  for (int shift = 0; shift < static_cast<int>(8 * sizeof(Key)); shift += kDigit) {
    const auto digit = [shift](Key key) { return (key >> shift) & ((1 << kDigit) - 1); };
    std::vector<Index> start((1 << kDigit) + 1, 0);
    for (const auto& item : items) ++start[digit(item.key) + 1];
    for (int d = 0; d < 1 << kDigit; ++d) start[d + 1] += start[d];
    for (const auto& item : items) other[start[digit(item.key)]++] = item;
    items.swap(other);
  }
}

}  // namespace detail

template <class Index, class T>
Levels<BarrierValue<T>, Index> levels_of(const WalledGrid& grid, const T* image, const bool* mask) {
  using Key = decltype(detail::ascending_key(T{}));
  Levels<BarrierValue<T>, Index> levels;
  const auto each = [&](const auto& body) {
    grid.each([&](int64_t here, int64_t plain) {
      if (!mask || mask[plain]) body(static_cast<Index>(here), image[plain]);
    });
  };
  const auto open = [&](T value, Index position) {
    levels.value.push_back(static_cast<BarrierValue<T>>(value));
    levels.first.push_back(position);
  };
  if constexpr (std::is_floating_point_v<T>) {
    std::vector<detail::Keyed<Key, Index>> items;
    items.reserve(static_cast<size_t>(grid.inner.count()));
    each([&](Index here, T value) { items.push_back({detail::ascending_key(value), here}); });
    detail::radix_sort(items);
    levels.order.resize(items.size());
    for (size_t i = 0; i < items.size(); ++i) {
      levels.order[i] = items[i].index;
      const T value = detail::value_of_key<T>(items[i].key);
      if (i == 0 || value != levels.value.back()) open(value, static_cast<Index>(i));
    }
  } else {
    constexpr int kValues = 1 << (8 * sizeof(T));
    std::vector<Index> start(kValues + 1, 0);
    each([&](Index, T value) { ++start[detail::ascending_key(value) + 1]; });
    for (int v = 0; v < kValues; ++v) {
      if (start[v + 1] > 0) open(static_cast<T>(v + std::numeric_limits<T>::min()), start[v]);
      start[v + 1] += start[v];
    }
    levels.order.resize(static_cast<size_t>(start[kValues]));
    each([&](Index here, T value) { levels.order[start[detail::ascending_key(value)]++] = here; });
  }
  levels.first.push_back(static_cast<Index>(levels.order.size()));
  return levels;
}

}  // namespace medkern
