// A bucket queue (Dial 1969) of voxels by distance.
//
// Entry keys are whole numbers of bucket widths. A window of kSlots buckets from `base` on is held
// as stacks in a circle; entries beyond it wait in one stack, whatever the range of the edges. The
// buckets are chunked stacks: entries are written once and read once, and the memory is that of the
// entries alive.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <new>

#include "common/inline.hpp"

namespace medkern::MEDKERN_ISA {

template <class T>
struct Entry {
  T distance;
  uint32_t voxel;
};

// Stacks of entries in chunks. A stack is the address behind its top entry; chunks are aligned to
// their size, and the first entry of each is the link to the chunk below.
template <class T>
class StackPool {
 public:
  using Stack = Entry<T>*;
  static constexpr size_t kBytes = 512;

  StackPool() = default;
  StackPool(const StackPool&) = delete;
  StackPool& operator=(const StackPool&) = delete;
  ~StackPool() { release(); }

  MEDKERN_INLINE void push(Stack& stack, Entry<T> entry) {
    if (reinterpret_cast<uintptr_t>(stack) % kBytes == 0) grow(stack);  // empty, or a full chunk
    *stack++ = entry;
  }

  // Calls visit(entry) on all entries and frees them; visit may push on other stacks.
  template <class Visit>
  MEDKERN_INLINE void consume(Stack stack, const Visit& visit) {
    while (stack) {
      Stack chunk = stack - 1;
      chunk -= reinterpret_cast<uintptr_t>(chunk) % kBytes / sizeof(Entry<T>);
      for (Stack entry = chunk + 1; entry != stack; ++entry) visit(*entry);
      stack = link(chunk);
      give_back(chunk);
    }
  }

  void release() {
    while (slabs_) {
      void* const slab = slabs_;
      std::memcpy(&slabs_, slab, sizeof(slabs_));
      ::operator delete(slab, std::align_val_t{kBytes});
    }
    free_ = nullptr;
  }

 private:
  static constexpr int kChunksPerSlab = 16;  // the first one links the slabs

  static MEDKERN_INLINE Stack link(Stack chunk) {
    Stack below;
    std::memcpy(&below, chunk, sizeof(below));
    return below;
  }
  static MEDKERN_INLINE void set_link(Stack chunk, Stack below) {
    std::memcpy(static_cast<void*>(chunk), &below, sizeof(below));
  }

  MEDKERN_INLINE void give_back(Stack chunk) {
    set_link(chunk, free_);
    free_ = chunk;
  }

  [[gnu::noinline]] void grow(Stack& stack) {
    if (!free_) add_slab();
    const Stack chunk = free_;
    free_ = link(chunk);
    set_link(chunk, stack);
    stack = chunk + 1;
  }

  void add_slab() {
    char* const slab =
        static_cast<char*>(::operator new(kChunksPerSlab * kBytes, std::align_val_t{kBytes}));
    std::memcpy(slab, &slabs_, sizeof(slabs_));
    slabs_ = slab;
    for (int i = kChunksPerSlab - 1; i >= 1; --i) {
      give_back(reinterpret_cast<Stack>(slab + static_cast<size_t>(i) * kBytes));
    }
  }

  Stack free_ = nullptr;
  void* slabs_ = nullptr;
};

// From distances to bucket numbers, by rounded and so monotone steps.
template <class T>
struct BucketScale {
  T origin = 0, per_width = 1;

  MEDKERN_INLINE int64_t key(T distance) const {
    constexpr T most = static_cast<T>(int64_t{1} << 62);
    const T scaled = (distance - origin) * per_width;
    return static_cast<int64_t>(scaled < most ? scaled : most);
  }
};

template <class T>
class BucketQueue {
 public:
  static constexpr int64_t kSlots = 1024;
  static constexpr int64_t kEmpty = std::numeric_limits<int64_t>::max();

  // `key` must not lie below the base; while draining, nor below the bucket being drained.
  MEDKERN_INLINE void push(int64_t key, Entry<T> entry) {
    if (key - base_ < kSlots) {
      pool_.push(slots_[key & (kSlots - 1)], entry);
    } else {
      pool_.push(far_, entry);
      far_low_ = far_low_ < key ? far_low_ : key;
    }
  }

  // Like push, outside of drain: the bucket may lie below those drained last.
  void insert(int64_t key, Entry<T> entry) {
    push(key, entry);
    if (key < low_) low_ = key;
  }

  // The smallest key, or kEmpty.
  int64_t first() {
    while (low_ < base_ + kSlots && !slots_[low_ & (kSlots - 1)]) ++low_;
    return low_ < base_ + kSlots ? low_ : far_low_;
  }

  // Moves the window to start at `low`, not above first(), and to hold all entries below `high`.
  void open(int64_t low, int64_t high, const BucketScale<T>& scale) {
    if (low > base_) {
      base_ = low;
      if (low_ < low) low_ = low;
    }
    if (far_low_ >= high) return;
    const auto waiting = far_;
    far_ = nullptr;
    far_low_ = kEmpty;
    pool_.consume(waiting, [&](Entry<T> entry) { insert(scale.key(entry.distance), entry); });
  }

  // Visits all entries below `high`, at most base + kSlots, also those pushed meanwhile, by rising
  // bucket. Within a bucket in generations: a bucket with edges shorter than its width is settled
  // like Bellman and Ford's, never in depth first order, which may take exponential time.
  // `keep_going` is asked before each generation.
  template <class Visit, class KeepGoing>
  MEDKERN_INLINE void drain(int64_t high, const Visit& visit, const KeepGoing& keep_going) {
    for (; low_ < high; ++low_) {
      typename StackPool<T>::Stack& slot = slots_[low_ & (kSlots - 1)];
      while (slot && keep_going()) {
        const auto generation = slot;
        slot = nullptr;
        pool_.consume(generation, visit);
      }
    }
  }

 private:
  StackPool<T> pool_;
  typename StackPool<T>::Stack slots_[kSlots] = {};
  typename StackPool<T>::Stack far_ = nullptr;
  int64_t base_ = 0, low_ = 0, far_low_ = kEmpty;
};

}  // namespace medkern::MEDKERN_ISA
