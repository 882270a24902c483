// Voxels waiting at a floor, to be taken from the highest floor down.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

namespace medkern {

// A set of small integers that finds its highest member in O(log_64 n).
class HighestSet {
 public:
  explicit HighestSet(int64_t size) {
    do {
      size = (size + 63) / 64;
      words_.emplace_back(static_cast<size_t>(size), 0);
    } while (size > 1);
  }

  bool empty() const { return words_.back()[0] == 0; }

  void insert(int64_t member) {
    for (auto& words : words_) {
      uint64_t& word = words[static_cast<size_t>(member >> 6)];
      const bool known = word != 0;
      word |= uint64_t{1} << (member & 63);
      if (known) return;
      member >>= 6;
    }
  }

  int64_t take_highest() {
    int64_t member = 0;
    for (size_t i = words_.size(); i-- > 0;) {
      member = member * 64 + 63 - std::countl_zero(words_[i][static_cast<size_t>(member)]);
    }
    int64_t bit = member;
    for (auto& words : words_) {
      uint64_t& word = words[static_cast<size_t>(bit >> 6)];
      word &= ~(uint64_t{1} << (bit & 63));
      if (word) break;
      bit >>= 6;
    }
    return member;
  }

 private:
  std::vector<std::vector<uint64_t>> words_;  // bit i of one: word i of the one before is not 0
};

// For integers, one bucket for each value.
template <class T, class Index>
class FloorBuckets {
 public:
  FloorBuckets() : buckets_(size_t{1} << 8 * sizeof(T)), used_(int64_t{1} << 8 * sizeof(T)) {}

  bool empty() const { return used_.empty(); }

  void push(int64_t floor, Index voxel) {
    auto& bucket = buckets_[static_cast<size_t>(floor - kLowest)];
    if (bucket.empty()) used_.insert(floor - kLowest);
    bucket.push_back(voxel);
  }

  // Moves the voxels of the highest floor into `into`, which is empty, and returns it.
  int64_t take_highest(std::vector<Index>& into) {
    const int64_t at = used_.take_highest();
    into.swap(buckets_[static_cast<size_t>(at)]);
    return at + kLowest;
  }

 private:
  static constexpr int64_t kLowest = std::numeric_limits<T>::min();

  std::vector<std::vector<Index>> buckets_;
  HighestSet used_;
};

// For floats, a heap: few wait at a time.
template <class T, class Index>
class FloorHeap {
 public:
  bool empty() const { return heap_.empty(); }

  void push(T floor, Index voxel) {
    heap_.emplace_back(floor, voxel);
    std::push_heap(heap_.begin(), heap_.end());
  }

  T take_highest(std::vector<Index>& into) {
    const T floor = heap_.front().first;
    do {
      into.push_back(heap_.front().second);
      std::pop_heap(heap_.begin(), heap_.end());
      heap_.pop_back();
    } while (!heap_.empty() && heap_.front().first == floor);
    return floor;
  }

 private:
  std::vector<std::pair<T, Index>> heap_;
};

template <class T, class Index>
using FloorQueue =
    std::conditional_t<std::is_floating_point_v<T>, FloorHeap<T, Index>, FloorBuckets<T, Index>>;

}  // namespace medkern
