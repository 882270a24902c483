// One emulated block: its threads, who runs next, barriers, shared memory and errors.
//
// Threads run one at a time until they wait at a barrier or in a warp operation, or return. An
// error throws inside the CUDA thread; the launch then unwinds every other thread and rethrows.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <source_location>
#include <stdexcept>
#include <string>

#include "fiber.hpp"
#include "memory.hpp"
#include "types.hpp"

namespace medkern::emulation {

using Site = std::source_location;

// CUDA's built-in variables, set at each switch. Plain variables: kernels read them quickly.
namespace cuda {
inline constinit thread_local uint3 threadIdx{};
inline constinit thread_local uint3 blockIdx{};
inline constinit thread_local dim3 blockDim{};
inline constinit thread_local dim3 gridDim{};
inline constexpr int warpSize = static_cast<int>(kWarpSize);
}  // namespace cuda

enum class State : uint8_t { ready, at_barrier, in_warp_operation, exited };

// A copy from global to shared memory that its thread has not waited for yet.
struct AsyncCopy {
  void* target;
  const void* source;
  unsigned bytes;  // to copy; the rest of `width` becomes zero
  unsigned width;
  uint64_t group;
};

struct AsyncCopies {
  AsyncCopy* items;
  unsigned count, capacity;
  uint64_t group;  // the one that the next commit closes
};

struct Thread {
  Fiber fiber;
  cuda::uint3 index;
  unsigned rank;
  State state;
  bool started;
  Site site;              // where it waits
  const char* operation;  // what it waits in
  AsyncCopies copies;
};

// Sums over the threads of one barrier.
struct Tally {
  unsigned arrived, positive;
};

// A warp operation under way: the lanes of `mask` hand in pointers until all have arrived.
struct WarpOperation {
  uint32_t mask, arrived;
  const char* name;
  Site site;
  SyncTag* tag;
  const void* input[kWarpSize];
  void* output[kWarpSize];
};

struct Warp {
  uint32_t exited;     // lanes that returned or never existed
  uint32_t under_way;  // which of `operations` are; enough, as a lane waits in one at a time
  unsigned begun;      // operations so far
  WarpOperation operations[kWarpSize];
};

struct Block {
  const char* kernel;
  cuda::uint3 index;
  unsigned size, live, waiting, barriers;
  Thread* threads;
  Warp* warps;
  BlockMemory* memory;
  void* dynamic_shared;
  size_t dynamic_bytes, shared_limit;
  Tally tally[2];  // by parity of the barrier: the slow still read one while the fast fill the next
  Fiber host;
  void (*body)(void*);
  void* arguments;
  std::exception_ptr error;
  bool failed, cancelled;
  SyncTag *end_tag, *fence_tag;  // of the launch
};

inline constinit thread_local Block* current_block = nullptr;
inline constinit thread_local Thread* current_thread = nullptr;

// Unwinds the other threads of a block after an error.
struct Cancelled {};

inline std::string text(Site site) {
  return std::string(site.file_name()) + ":" + std::to_string(site.line());
}

inline std::string text(cuda::uint3 index) {
  char digits[48];
  std::snprintf(digits, sizeof(digits), "(%u, %u, %u)", index.x, index.y, index.z);
  return digits;
}

inline std::string hexadecimal(uint32_t mask) {
  char digits[16];
  std::snprintf(digits, sizeof(digits), "0x%08x", mask);
  return digits;
}

inline std::runtime_error block_error(const std::string& what) {
  return std::runtime_error("emulated kernel " + std::string(current_block->kernel) + ", block " +
                            text(current_block->index) + ": " + what);
}

[[noreturn]] inline void fail(const std::string& what, Site site) {
  throw block_error(std::string("thread ") + text(current_thread->index) + " at " + text(site) +
                    ": " + what);
}

MEDKERN_EMULATION_RUNTIME inline bool same_site(const Site& a, const Site& b) {
  if (a.line() != b.line() || a.column() != b.column()) return false;
  return a.file_name() == b.file_name() || std::strcmp(a.file_name(), b.file_name()) == 0;
}

// Returns to the host; comes back when the thread is ready again.
MEDKERN_EMULATION_RUNTIME inline void suspend(State state, const char* operation, Site site) {
  Thread& me = *current_thread;
  me.state = state;
  me.operation = operation;
  me.site = site;
  switch_fiber(me.fiber, current_block->host);
  if (current_block->cancelled) throw Cancelled{};
}

MEDKERN_EMULATION_RUNTIME inline const Thread* other_site(const Block& block, const Site& site) {
  for (unsigned i = 0; i < block.size; ++i) {
    const Thread& thread = block.threads[i];
    if (thread.state == State::at_barrier && !same_site(thread.site, site)) return &thread;
  }
  return nullptr;
}

MEDKERN_EMULATION_RUNTIME inline void release_barrier(Block& block) {
  for (unsigned i = 0; i < block.size; ++i) {
    if (block.threads[i].state == State::at_barrier) block.threads[i].state = State::ready;
  }
  block.waiting = 0;
  ++block.barriers;
}

// Waits for every thread of the block that has not returned.
MEDKERN_EMULATION_RUNTIME inline Tally barrier(bool predicate, const char* operation, Site site) {
  Block& block = *current_block;
  const unsigned parity = block.barriers & 1;
  Tally& tally = block.tally[parity];
  if (block.waiting == 0) tally = {0, 0};
  ++tally.arrived;
  tally.positive += predicate;
  // Two tags: with one, the fast would order their next phase before the slow leave this one.
  SyncTag* tag = block.memory->tags() + parity;
  tsan::release(tag);
  if (++block.waiting == block.live) {
    if (const Thread* other = other_site(block, site)) {
      fail("divergent barrier: thread " + text(other->index) + " waits at " + text(other->site) +
               ", this one",
           site);
    }
    release_barrier(block);
  } else {
    suspend(State::at_barrier, operation, site);
  }
  tsan::acquire(tag);
  return tally;
}

// The block's array of a MEDKERN_SHARED declaration, made when its first thread comes by.
MEDKERN_EMULATION_RUNTIME inline void* shared_array(const void* declaration, size_t bytes,
                                                    size_t alignment, Site site = Site::current()) {
  Block& block = *current_block;
  if (void* known = block.memory->find_shared(declaration)) return known;
  if (block.memory->shared_bytes() + bytes > block.shared_limit) {
    fail(std::to_string(block.memory->shared_bytes() + bytes) +
             " bytes of shared memory, allowed are " + std::to_string(block.shared_limit) +
             " (see allow_dynamic_shared)",
         site);
  }
  void* data = block.memory->add_shared(declaration, bytes, alignment);
  if (data == nullptr) fail("too many shared arrays", site);
  return data;
}

MEDKERN_EMULATION_RUNTIME inline void* dynamic_shared() { return current_block->dynamic_shared; }

MEDKERN_EMULATION_RUNTIME inline void check_aligned(const void* address, size_t bytes, Site site) {
  if (reinterpret_cast<uintptr_t>(address) % bytes == 0) return;
  fail("misaligned access to " + std::to_string(bytes) + " bytes", site);
}

namespace cuda {

inline void __syncthreads(Site site = Site::current()) { barrier(true, "__syncthreads", site); }

inline int __syncthreads_count(int predicate, Site site = Site::current()) {
  return static_cast<int>(barrier(predicate != 0, "__syncthreads_count", site).positive);
}

inline int __syncthreads_or(int predicate, Site site = Site::current()) {
  return barrier(predicate != 0, "__syncthreads_or", site).positive != 0;
}

inline int __syncthreads_and(int predicate, Site site = Site::current()) {
  const Tally tally = barrier(predicate != 0, "__syncthreads_and", site);
  return tally.positive == tally.arrived;
}

}  // namespace cuda

}  // namespace medkern::emulation
