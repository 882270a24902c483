// planted_bugs NAME: runs one kernel of planted.cuh in three orders of threads and prints what came
// out of each, "right" included. CMakeLists.txt says which build must notice what.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "planted.cuh"

using namespace medkern;

namespace {

constexpr int kBlocks = 4;
constexpr int kCount = kBlocks * kBlock;
constexpr int kTail = kCount - 7;  // leaves the last block incomplete

using Kernel = void (*)(const float*, int, float*);
using Expected = std::function<float(int)>;

struct Planted {
  Kernel kernel;
  Expected expected;  // of y[i]
  int blocks = 1;
  size_t shared_bytes = 0;
  int checked = kBlock;  // leading values of y
  int length = kCount;   // of x and y
};

float rotated(int i) { return static_cast<float>(i / kBlock * kBlock + (i + 1) % kBlock); }
float itself(int i) { return static_cast<float>(i); }
float one(int) { return 1; }
float zero(int) { return 0; }

const std::map<std::string, Planted> kPlanted = {
    {"none", {rotate_kernel<Mistake::none>, rotated, kBlocks, 0, kCount}},
    {"no_barrier_before_read",
     {rotate_kernel<Mistake::no_barrier_before_read>, rotated, kBlocks, 0, kCount}},
    {"no_barrier_before_overwrite",
     {rotate_kernel<Mistake::no_barrier_before_overwrite>, rotated, kBlocks, 0, kCount}},
    {"exit_before_barrier",
     {rotate_kernel<Mistake::exit_before_barrier>, rotated, kBlocks, 0, kCount}},
    {"divergent_barrier", {divergent_barrier_kernel, zero}},
    {"missing_lanes", {missing_lanes_kernel, zero}},
    {"mask_of_others", {mask_of_others_kernel, zero}},
    {"masks_disagree", {masks_disagree_kernel, zero}},
    {"lane_outside_mask", {lane_outside_mask_kernel, zero}},
    {"exited_lanes", {exited_lanes_kernel, zero}},
    {"two_places", {two_places_kernel, zero}},
    {"tail_read",
     {tail_read_kernel, [](int i) { return itself(i + 1); }, kBlocks, 0, kTail - 1, kTail}},
    {"tail_write", {tail_write_kernel, zero, kBlocks, 0, kTail, kTail}},
    {"static_shared_overrun",
     {static_shared_overrun_kernel, [](int i) { return itself(i - 1); }, 1, 0, 1}},
    {"dynamic_shared_overrun",
     {dynamic_shared_overrun_kernel, [](int i) { return itself(i - 1); }, 1, kBlock * sizeof(float),
      1}},
    {"warp_synchronous",
     {warp_synchronous_kernel, [](int i) { return 2 * itself(i) + 32 + 2 * itself(i ^ 1) + 32; }, 1,
      0, 32}},
    {"race_between_blocks",
     {race_between_blocks_kernel, [](int) { return float{kBlocks}; }, kBlocks, 0, 1}},
    {"race_before_barrier",
     {race_before_barrier_kernel, [](int) { return float{kBlocks}; }, kBlocks, 0, 1}},
    {"race_within_block",
     {race_within_block_kernel, [](int) { return float{kBlock}; }, kBlocks, 0, kBlocks}},
    {"plain_read_of_atomic",
     {plain_read_of_atomic_kernel, [](int) { return float{kBlock}; }, kBlocks, 0, kBlocks}},
    {"missing_fence", {missing_fence_kernel, [](int) { return 6.0f; }, kBlocks, 0, 1}},
    {"unset_shared", {unset_shared_kernel, one}},
    {"left_by_other_block",
     {left_by_other_block_kernel, one, kBlocks, kBlock * sizeof(float), kCount}},
    {"missing_wait", {missing_wait_kernel, itself}},
    {"wait_without_barrier", {wait_without_barrier_kernel, [](int i) { return itself(i ^ 1); }}},
    {"misaligned_vector", {misaligned_vector_kernel, zero}},
    {"much_shared", {much_shared_kernel, zero, 1, 20 * 1024}},
};

std::string verdict(const float* y, const Planted& planted) {
  std::string result = "right";
  for (int i = 0; i < planted.checked; ++i) {
    if (std::isnan(y[i])) return "NaN";
    if (y[i] != planted.expected(i)) result = "wrong";
  }
  return result;
}

std::string run(const Planted& planted) {
  // Of exact size on the heap, so that AddressSanitizer sees both ends.
  const int length = planted.length;
  const auto x = std::make_unique<float[]>(length), y = std::make_unique<float[]>(length);
  for (int i = 0; i < length; ++i) x[i] = static_cast<float>(i);
  try {
    MEDKERN_LAUNCH(planted.kernel, static_cast<unsigned>(planted.blocks), kBlock,
                   planted.shared_bytes, nullptr, x.get(), length, y.get());
  } catch (const std::runtime_error& error) {
    return std::string("exception: ") + error.what();
  }
  return verdict(y.get(), planted);
}

}  // namespace

int main(int count, char** arguments) {
  const auto found = kPlanted.find(count == 2 ? arguments[1] : "");
  if (found == kPlanted.end()) {
    std::fprintf(stderr, "usage: planted_bugs NAME\n");
    return 2;
  }
  for (const int order : {0, 1, 7}) {
    emulation::set_thread_order(order);
    std::printf("order %d: %s\n", order, run(found->second).c_str());
    std::fflush(stdout);
  }
  return 0;
}
