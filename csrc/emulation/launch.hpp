// Launching an emulated kernel: limits, blocks in sequence, the order of threads, deadlocks.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <tuple>
#include <type_traits>
#include <vector>

#include "block.hpp"

namespace medkern::emulation {

constexpr size_t kSharedBytes = 48 * 1024;          // per block, without opting in
constexpr size_t kLargestSharedBytes = 227 * 1024;  // of sm_90; sm_80 has 163
// ThreadSanitizer knows about 8000 threads at a time. The fibers of past blocks stay among them as
// long as there is room, so that races between blocks show.
constexpr size_t kKeptFibers = 6000;

inline std::atomic<int> chosen_thread_order{-1};

// 0: threads and blocks run forward; 1: backward; more: shuffled with that seed; -1: what
// MEDKERN_EMULATION_ORDER in the environment says, else forward.
inline void set_thread_order(int order) { chosen_thread_order = order; }

inline unsigned thread_order() {
  if (const int chosen = chosen_thread_order; chosen >= 0) return static_cast<unsigned>(chosen);
  const char* wanted = std::getenv("MEDKERN_EMULATION_ORDER");
  return wanted == nullptr ? 0 : static_cast<unsigned>(std::atoi(wanted));
}

// Which kernels may have more than 48 KB, and how much.
class SharedOptIns {
 public:
  void set(const void* kernel, size_t bytes) {
    const std::lock_guard lock(mutex_);
    bytes_[kernel] = bytes;
  }

  size_t limit(const void* kernel) {
    const std::lock_guard lock(mutex_);
    const auto found = bytes_.find(kernel);
    return found == bytes_.end() ? kSharedBytes : std::max(kSharedBytes, found->second);
  }

 private:
  std::mutex mutex_;
  std::map<const void*, size_t> bytes_;
};

inline SharedOptIns& shared_opt_ins() {
  static SharedOptIns opt_ins;
  return opt_ins;
}

struct Configuration {
  const char* name;
  const void* kernel;
  cuda::dim3 grid, block;
  size_t dynamic_bytes;
};

inline std::string text(cuda::dim3 extents) {
  return text(cuda::uint3{extents.x, extents.y, extents.z});
}

inline void check(const Configuration& c, size_t shared_limit) {
  const auto refuse = [&](const std::string& what) {
    throw std::runtime_error("launch of emulated kernel " + std::string(c.name) + ": " + what);
  };
  const uint64_t threads = uint64_t{c.block.x} * c.block.y * c.block.z;
  if (current_block != nullptr) refuse("kernels cannot launch kernels");
  if (threads == 0 || threads > kMaxThreads || c.block.x > kMaxThreads || c.block.y > kMaxThreads ||
      c.block.z > 64) {
    refuse("block " + text(c.block) + " is empty or above 1024 threads or (1024, 1024, 64)");
  }
  if (c.grid.x == 0 || c.grid.y == 0 || c.grid.z == 0 || c.grid.x > 0x7fffffffu ||
      c.grid.y > 65535 || c.grid.z > 65535) {
    refuse("grid " + text(c.grid) + " is empty or above (2^31 - 1, 65535, 65535)");
  }
  if (c.dynamic_bytes > shared_limit) {
    refuse(std::to_string(c.dynamic_bytes) + " bytes of dynamic shared memory, allowed are " +
           std::to_string(shared_limit) + " (see allow_dynamic_shared)");
  }
}

// The order in which the blocks of a grid, and the ready threads of a block, take their turns.
class Order {
 public:
  Order(unsigned mode, unsigned count) : mode_(mode), ranks_(count), random_(mode) {
    std::iota(ranks_.begin(), ranks_.end(), 0u);
    if (mode == 1) std::reverse(ranks_.begin(), ranks_.end());
  }

  const std::vector<unsigned>& next_round() {
    if (mode_ >= 2) std::shuffle(ranks_.begin(), ranks_.end(), random_);
    return ranks_;
  }

 private:
  unsigned mode_;
  std::vector<unsigned> ranks_;
  std::minstd_rand random_;
};

// Blocks of a grid in turn, without a list: grids can be huge.
inline uint64_t block_at(uint64_t turn, uint64_t blocks, unsigned mode) {
  if (mode == 0) return turn;
  if (mode == 1) return blocks - 1 - turn;
  // A multiplication modulo `blocks` visits each once where the factor shares no divisor with it.
  uint64_t factor = (uint64_t{mode} * 2654435761u) % blocks;
  while (std::gcd(factor, blocks) != 1) ++factor;
  return static_cast<uint64_t>(static_cast<unsigned __int128>(factor) * turn % blocks);
}

MEDKERN_EMULATION_RUNTIME inline void leave_block() {
  Block& block = *current_block;
  Thread& me = *current_thread;
  me.state = State::exited;
  std::free(me.copies.items);
  me.copies = {};
  block.warps[me.rank / kWarpSize].exited |= 1u << me.rank % kWarpSize;
  --block.live;
  if (block.live > 0 && block.waiting == block.live) release_barrier(block);
  tsan::release(block.end_tag);
  switch_fiber(me.fiber, block.host, true);
}

// First function on every fiber.
MEDKERN_EMULATION_RUNTIME inline void run_thread() {
  Block& block = *current_block;
  asan::finish_switch(nullptr, &block.host.stack, &block.host.stack_bytes);
  try {
    block.body(block.arguments);
  } catch (const Cancelled&) {
  } catch (...) {
    if (!block.failed) block.error = std::current_exception();
    block.failed = true;
  }
  leave_block();
}

MEDKERN_EMULATION_RUNTIME inline void resume(Block& block, Thread& thread) {
  current_thread = &thread;
  cuda::threadIdx = thread.index;
  if (!thread.started) {
    thread.started = true;
    prepare(thread.fiber, block.memory->stack(thread.rank), kStackBytes, run_thread);
  }
  switch_fiber(block.host, thread.fiber);
  current_thread = nullptr;
}

// Gives each ready thread a turn; false where there was none.
MEDKERN_EMULATION_RUNTIME inline bool run_round(Block& block, const std::vector<unsigned>& ranks) {
  bool progress = false;
  for (const unsigned rank : ranks) {
    Thread& thread = block.threads[rank];
    if (thread.state != State::ready) continue;
    progress = true;
    resume(block, thread);
    if (block.failed) return true;
  }
  return progress;
}

// Which lanes the warp operation of a waiting thread still needs.
inline uint32_t missing_lanes(const Block& block, const Thread& thread) {
  const Warp& warp = block.warps[thread.rank / kWarpSize];
  for (uint32_t rest = warp.under_way; rest != 0; rest &= rest - 1) {
    const WarpOperation& operation = warp.operations[std::countr_zero(rest)];
    const bool waits = (operation.arrived >> thread.rank % kWarpSize & 1) != 0;
    if (waits) return operation.mask & ~operation.arrived;
  }
  return 0;
}

inline std::string describe_wait(const Block& block, const Thread& thread) {
  std::string wait = std::string("thread ") + text(thread.index) + " in " + thread.operation +
                     " at " + text(thread.site);
  if (thread.state == State::in_warp_operation) {
    wait += " for lanes " + hexadecimal(missing_lanes(block, thread));
  }
  return wait;
}

inline std::exception_ptr deadlock(const Block& block) {
  std::string who;
  unsigned stuck = 0;
  for (unsigned i = 0; i < block.size; ++i) {
    const Thread& thread = block.threads[i];
    if (thread.state == State::exited) continue;
    if (++stuck <= 2) who.append("; ").append(describe_wait(block, thread));
  }
  return std::make_exception_ptr(block_error(std::string("deadlock, ") + std::to_string(stuck) +
                                             " threads wait for ever" + who));
}

// Unwinds the threads that still wait, and forgets those that never began.
MEDKERN_EMULATION_RUNTIME inline void cancel(Block& block) {
  block.cancelled = true;
  for (unsigned i = 0; i < block.size; ++i) {
    Thread& thread = block.threads[i];
    if (thread.started && thread.state != State::exited) resume(block, thread);
  }
}

class Launch {
 public:
  Launch(const Configuration& configuration, void (*body)(void*), void* arguments)
      : configuration_(configuration), limit_(shared_opt_ins().limit(configuration.kernel)) {
    check(configuration_, limit_);
    const cuda::dim3 extents = configuration_.block;
    block_.kernel = configuration_.name;
    block_.size = extents.x * extents.y * extents.z;
    threads_ = std::make_unique<Thread[]>(block_.size);
    warps_ = std::make_unique<Warp[]>((block_.size + kWarpSize - 1) / kWarpSize);
    block_.threads = threads_.get();
    block_.warps = warps_.get();
    block_.memory = &memory();
    block_.dynamic_bytes = configuration_.dynamic_bytes;
    block_.shared_limit = limit_;
    block_.body = body;
    block_.arguments = arguments;
    block_.host.tsan_fiber = tsan::current_fiber();
    block_.end_tag = &end_tag_;
    block_.fence_tag = &fence_tag_;
    cuda::blockDim = extents;
    cuda::gridDim = configuration_.grid;
    current_block = &block_;
  }
  Launch(const Launch&) = delete;
  Launch& operator=(const Launch&) = delete;
  ~Launch() {
    forget_fibers();
    memory().release_shared();
    current_block = nullptr;
  }

  void run() {
    const cuda::dim3 grid = configuration_.grid;
    const unsigned mode = thread_order();
    const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
    Order threads(mode, block_.size);
    for (uint64_t turn = 0; turn < blocks; ++turn) {
      const uint64_t block = block_at(turn, blocks, mode);
      begin_block({static_cast<unsigned>(block % grid.x),
                   static_cast<unsigned>(block / grid.x % grid.y),
                   static_cast<unsigned>(block / grid.x / grid.y)});
      run_block(threads);
      keep_fibers();
    }
  }

 private:
  static BlockMemory& memory() {
    thread_local BlockMemory memory;
    return memory;
  }

  MEDKERN_EMULATION_RUNTIME void begin_block(cuda::uint3 index) {
    cuda::blockIdx = block_.index = index;
    block_.live = block_.size;
    block_.waiting = 0;
    block_.barriers = 0;
    block_.memory->begin_block(block_.size);
    block_.dynamic_shared = nullptr;
    if (block_.dynamic_bytes > 0) {
      block_.dynamic_shared = block_.memory->add_shared(&block_, block_.dynamic_bytes, 16);
    }
    for (unsigned i = 0; i < block_.size; ++i) begin_thread(block_.threads[i], i);
    for (unsigned first = 0; first < block_.size; first += kWarpSize) {
      begin_warp(block_.warps[first / kWarpSize], block_.size - first);
    }
  }

  MEDKERN_EMULATION_RUNTIME static void begin_thread(Thread& thread, unsigned rank) {
    const cuda::dim3 block = cuda::blockDim;
    thread.index = {rank % block.x, rank / block.x % block.y, rank / block.x / block.y};
    thread.rank = rank;
    thread.state = State::ready;
    thread.started = false;
    thread.copies = {};
  }

  MEDKERN_EMULATION_RUNTIME static void begin_warp(Warp& warp, unsigned lanes) {
    warp.exited = lanes >= kWarpSize ? 0 : ~0u << lanes;
    warp.under_way = 0;
    warp.begun = 0;
  }

  MEDKERN_EMULATION_RUNTIME void run_block(Order& order) {
    while (block_.live > 0 && !block_.failed) {
      if (run_round(block_, order.next_round())) continue;
      block_.error = deadlock(block_);
      block_.failed = true;
    }
    if (!block_.failed) return;
    cancel(block_);
    keep_fibers();
    tsan::acquire(&end_tag_);
    std::rethrow_exception(block_.error);
  }

  void keep_fibers() {
    if (!tsan::enabled) return;
    if (kept_fibers_.size() + block_.size > kKeptFibers) forget_fibers();
    for (unsigned i = 0; i < block_.size; ++i) {
      if (block_.threads[i].started) kept_fibers_.push_back(block_.threads[i].fiber.tsan_fiber);
    }
  }

  void forget_fibers() {
    tsan::acquire(&end_tag_);
    for (void* fiber : kept_fibers_) tsan::destroy_fiber(fiber);
    kept_fibers_.clear();
  }

  Configuration configuration_;
  size_t limit_;
  std::unique_ptr<Thread[]> threads_;
  std::unique_ptr<Warp[]> warps_;
  std::vector<void*> kept_fibers_;
  Block block_{};
  SyncTag end_tag_{};
  SyncTag fence_tag_{};
};

// Runs kernel(arguments...) once per thread, each with its own copy of the arguments.
template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), cuda::dim3 grid, cuda::dim3 block,
            size_t dynamic_bytes, Arguments&&... arguments) {
  static_assert((std::is_trivially_copyable_v<Parameters> && ...),
                "kernel parameters are copied to the device byte by byte");
  struct Call {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> arguments;
  } call{kernel, std::tuple<Parameters...>(arguments...)};
  const auto body = [](void* raw) {
    const Call& call = *static_cast<const Call*>(raw);
    std::apply(call.kernel, call.arguments);
  };
  Launch({name, reinterpret_cast<const void*>(kernel), grid, block, dynamic_bytes}, body, &call)
      .run();
}

}  // namespace medkern::emulation
