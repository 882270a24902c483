// What the tests of device code share: numbers to draw, checks that say which case failed, and a
// run in three orders of threads and blocks.
#pragma once

#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "cuda/portable.cuh"

namespace medkern::test {

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}
  int64_t below(int64_t n) { return static_cast<int64_t>(engine_() % static_cast<uint64_t>(n)); }
  double uniform() { return static_cast<double>(engine_() >> 11) * 0x1p-53; }

 private:
  std::mt19937_64 engine_;
};

inline int failures = 0;

inline void check(bool holds, const std::string& what) {
  if (holds) return;
  std::fprintf(stderr, "FAILED (order %u): %s\n", emulation::thread_order(), what.c_str());
  ++failures;
}

inline void check(LaunchError error) { check(error.ok(), error.ok() ? "" : error.text()); }

#if defined(MEDKERN_EMULATION_ASAN) || defined(MEDKERN_EMULATION_TSAN)
constexpr bool kSanitized = true;  // some fifty times slower
#else
constexpr bool kSanitized = false;
#endif

template <class Test>
int in_all_orders(Test test) {
  for (const int order : {0, 1, 7}) {
    if (kSanitized && order != 7) continue;
    emulation::set_thread_order(order);
    test();
  }
  return failures != 0;
}

}  // namespace medkern::test
