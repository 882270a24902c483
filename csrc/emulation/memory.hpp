// Memory of one emulated block: a stack per thread and the shared memory.
//
// Shared memory starts out as bytes 0xff, so that reading what nobody wrote gives NaN. Each array
// is a heap buffer of exactly its size, hence AddressSanitizer sees the first byte past its end.
// Under ThreadSanitizer everything comes from one mapping that is renewed for each block instead:
// what another block or the allocator did at the same address is then no race.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <new>

#include "sanitizer.hpp"

namespace medkern::emulation {

constexpr unsigned kWarpSize = 32;
constexpr unsigned kMaxThreads = 1024;
constexpr size_t kPage = 4096;
constexpr size_t kStackBytes = (tsan::enabled ? 64 : 256) * 1024;
constexpr unsigned kMaxSharedArrays = 64;

// Addresses that name the barriers and warp operations of a block to ThreadSanitizer.
struct SyncTag {
  uint64_t unused;
};
constexpr unsigned kTagsPerWarp = 1024;
constexpr unsigned kTags = 2 + kMaxThreads / kWarpSize * kTagsPerWarp;

struct SharedArray {
  const void* declaration;  // names the source line that declares it
  void* data;
  size_t bytes;
};

// CUDA allocates on the device, never through this: it belongs to the emulator, one per OS thread.
class BlockMemory {
 public:
  BlockMemory() = default;
  BlockMemory(const BlockMemory&) = delete;
  BlockMemory& operator=(const BlockMemory&) = delete;
  ~BlockMemory() {
    release_shared();
    unmap();
  }

  // Fresh memory for a block of so many threads.
  MEDKERN_EMULATION_RUNTIME void begin_block(unsigned threads) {
    release_shared();
    if (tsan::enabled || threads > threads_) {
      unmap();
      map(threads);
    }
  }

  MEDKERN_EMULATION_RUNTIME void release_shared() {
    if (!tsan::enabled) {
      for (unsigned i = 0; i < arrays_; ++i) std::free(shared_[i].data);
    }
    arrays_ = 0;
    shared_bytes_ = 0;
  }

  MEDKERN_EMULATION_RUNTIME char* stack(unsigned thread) const {
    return base_ + thread * stack_pitch + (stack_pitch - kStackBytes);
  }

  MEDKERN_EMULATION_RUNTIME SyncTag* tags() const { return tags_; }

  MEDKERN_EMULATION_RUNTIME size_t shared_bytes() const { return shared_bytes_; }

  MEDKERN_EMULATION_RUNTIME void* find_shared(const void* declaration) const {
    for (unsigned i = 0; i < arrays_; ++i) {
      if (shared_[i].declaration == declaration) return shared_[i].data;
    }
    return nullptr;
  }

  // Null where the block has too many arrays.
  MEDKERN_EMULATION_RUNTIME void* add_shared(const void* declaration, size_t bytes,
                                             size_t alignment) {
    if (arrays_ == kMaxSharedArrays) return nullptr;
    void* data = tsan::enabled ? carve(bytes, alignment) : allocate(bytes, alignment);
    // No memset: ThreadSanitizer would take it for a write of the thread that came first.
    for (size_t i = 0; i < bytes; ++i) static_cast<volatile unsigned char*>(data)[i] = 0xff;
    shared_[arrays_++] = {declaration, data, bytes};
    shared_bytes_ += bytes;
    return data;
  }

 private:
  // A page that faults on access lies below each stack. Not under ThreadSanitizer, which maps anew
  // for each block: too slow.
  static constexpr size_t stack_pitch = kStackBytes + (tsan::enabled ? 0 : kPage);
  static constexpr size_t arena_bytes = tsan::enabled ? 1024 * 1024 : 0;
  static constexpr size_t tag_bytes = tsan::enabled ? kTags * sizeof(SyncTag) : 0;

  static void* allocate(size_t bytes, size_t alignment) {
    void* data = nullptr;
    if (posix_memalign(&data, alignment < 16 ? 16 : alignment, bytes) != 0) throw std::bad_alloc();
    return data;
  }

  MEDKERN_EMULATION_RUNTIME void* carve(size_t bytes, size_t alignment) {
    const size_t start = (arena_used_ + alignment - 1) / alignment * alignment;
    if (start + bytes > arena_bytes) throw std::bad_alloc();
    arena_used_ = start + bytes;
    return arena_ + start;
  }

  MEDKERN_EMULATION_RUNTIME void map(unsigned threads) {
    mapped_bytes_ = threads * stack_pitch + arena_bytes + tag_bytes;
    void* start = mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED) throw std::bad_alloc();
    threads_ = threads;
    base_ = static_cast<char*>(start);
    arena_ = base_ + threads * stack_pitch;
    arena_used_ = 0;
    tags_ = reinterpret_cast<SyncTag*>(arena_ + arena_bytes);
    if (tsan::enabled) return;
    for (unsigned i = 0; i < threads; ++i) mprotect(base_ + i * stack_pitch, kPage, PROT_NONE);
  }

  MEDKERN_EMULATION_RUNTIME void unmap() {
    if (base_ != nullptr) munmap(base_, mapped_bytes_);
    base_ = nullptr;
    threads_ = 0;
  }

  char* base_ = nullptr;
  size_t mapped_bytes_ = 0;
  unsigned threads_ = 0;
  char* arena_ = nullptr;
  size_t arena_used_ = 0;
  SyncTag* tags_ = nullptr;
  SharedArray shared_[kMaxSharedArrays];
  unsigned arrays_ = 0;
  size_t shared_bytes_ = 0;
};

}  // namespace medkern::emulation
