// What the emulation refuses, and that it recovers. The mistakes of kernels are in planted_bugs.
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/portable.cuh"

using namespace medkern;

namespace {

int failures = 0;

void check(bool holds, const std::string& what) {
  if (holds) return;
  std::fprintf(stderr, "FAILED: %s\n", what.c_str());
  ++failures;
}

// `part` must occur in the message; empty where nothing may be thrown.
void expect_error(const char* what, const std::string& part, const std::function<void()>& run) {
  std::string message;
  try {
    run();
  } catch (const std::runtime_error& error) {
    message = error.what();
  }
  const bool as_wanted = part.empty() ? message.empty() : message.find(part) != std::string::npos;
  check(as_wanted, std::string(what) + ": " + message);
}

MEDKERN_GLOBAL void nothing_kernel() {}

MEDKERN_GLOBAL void nested_kernel() { MEDKERN_LAUNCH(nothing_kernel, 1, 1, 0, nullptr); }

MEDKERN_GLOBAL void use_shared_kernel(int* out) {
  MEDKERN_DYNAMIC_SHARED(int, cell);
  if (threadIdx.x == 0) *out = cell[12 * 1024 + 1];
}

MEDKERN_GLOBAL void odd_width_kernel() { __shfl_sync(0xffffffffu, 1, 0, 3); }

MEDKERN_GLOBAL void misaligned_atomic_kernel(char* out) {
  atomicAdd(reinterpret_cast<int*>(out + 1), 1);
}

MEDKERN_GLOBAL void partial_warp_kernel() { __shfl_sync(0xffffffffu, 1, 0); }

struct Counted {
  int* alive;
  explicit Counted(int* count) : alive(count) { atomicAdd(alive, 1); }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;
  ~Counted() { atomicAdd(alive, -1); }
};

// One thread throws while the others wait: their stacks must be unwound.
MEDKERN_GLOBAL void throwing_kernel(int* alive) {
  const Counted counted(alive);
  if (threadIdx.x == 20) throw std::runtime_error("from the kernel");
  __syncthreads();
}

MEDKERN_GLOBAL void order_kernel(int* next, int* order) {
  order[atomicAdd(next, 1)] = static_cast<int>(threadIdx.x);
}

void test_limits() {
  const auto launch = [](dim3 grid, dim3 block, size_t bytes = 0) {
    return [=] { MEDKERN_LAUNCH(nothing_kernel, grid, block, bytes, nullptr); };
  };
  expect_error("largest block", "", launch(1, 1024));
  expect_error("deepest block", "", launch(1, dim3(1, 16, 64)));
  expect_error("empty block", "block (0, 1, 1)", launch(1, 0));
  expect_error("large block", "block (33, 32, 1)", launch(1, dim3(33, 32)));
  expect_error("deep block", "block (1, 1, 65)", launch(1, dim3(1, 1, 65)));
  expect_error("empty grid", "grid (1, 0, 1)", launch(dim3(1, 0), 1));
  expect_error("high grid", "grid (1, 65536, 1)", launch(dim3(1, 65536), 1));
  expect_error("deep grid", "grid (1, 1, 65536)", launch(dim3(1, 1, 65536), 1));
  if (!emulation::tsan::enabled) expect_error("wide grid", "", launch(70000, 1));  // else 20 s
  expect_error("much shared memory", "49153 bytes", launch(1, 1, 48 * 1024 + 1));
  expect_error("nested launch", "cannot launch kernels",
               [] { MEDKERN_LAUNCH(nested_kernel, 1, 1, 0, nullptr); });
}

void test_opt_in() {
  int out = 0;
  const auto launch = [&] { MEDKERN_LAUNCH(use_shared_kernel, 1, 32, 60 * 1024, nullptr, &out); };
  expect_error("without opting in", "allowed are 49152", launch);
  check(!allow_dynamic_shared(use_shared_kernel, 228 * 1024).ok(), "more than any device has");
  check(allow_dynamic_shared(use_shared_kernel, 60 * 1024).ok(), "opting in");
  expect_error("after opting in", "", launch);
  check(out == -1, "shared memory starts as ones in all bits");
}

void test_kernel_errors() {
  alignas(4) char cells[8] = {};
  expect_error("odd width", "shuffle of width 3",
               [] { MEDKERN_LAUNCH(odd_width_kernel, 1, 32, 0, nullptr); });
  expect_error("misaligned atomic", "misaligned access to 4 bytes",
               [&] { MEDKERN_LAUNCH(misaligned_atomic_kernel, 1, 1, 0, nullptr, cells); });
  expect_error("partial warp", "lanes 0xfff00000 returned or do not exist",
               [] { MEDKERN_LAUNCH(partial_warp_kernel, 1, 20, 0, nullptr); });
  int alive = 0;
  expect_error("thrown by the kernel", "from the kernel",
               [&] { MEDKERN_LAUNCH(throwing_kernel, 3, 64, 0, nullptr, &alive); });
  check(alive == 0, "the stacks of an abandoned launch are unwound");
  check(launch_error().ok(), "errors are thrown, not kept");
}

std::vector<int> order_of_threads() {
  int next = 0;
  std::vector<int> order(64);
  MEDKERN_LAUNCH(order_kernel, 1, 64, 0, nullptr, &next, order.data());
  return order;
}

void test_order() {
  emulation::set_thread_order(0);
  check(order_of_threads().front() == 0, "forward");
  emulation::set_thread_order(1);
  check(order_of_threads().front() == 63, "backward");
  emulation::set_thread_order(7);
  const auto shuffled = order_of_threads();
  check(shuffled == order_of_threads(), "the same seed gives the same order");
  emulation::set_thread_order(8);
  check(shuffled != order_of_threads(), "another seed another");
  emulation::set_thread_order(-1);
  setenv("MEDKERN_EMULATION_ORDER", "7", 1);
  check(shuffled == order_of_threads(), "the environment is asked");
  for (const unsigned order : {0u, 1u, 2u, 7u}) {
    for (const uint64_t blocks : {1, 2, 30, 97}) {
      std::vector<bool> seen(blocks);
      for (uint64_t turn = 0; turn < blocks; ++turn) {
        seen[emulation::block_at(turn, blocks, order)] = true;
      }
      check(seen == std::vector<bool>(blocks, true), "each block has its turn");
    }
  }
}

}  // namespace

int main() {
  test_limits();
  test_opt_in();
  test_kernel_errors();
  test_order();
  return failures;
}
