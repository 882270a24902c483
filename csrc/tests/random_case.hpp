// What C++ tests of several families draw and run with.
#pragma once

#include <cstdint>
#include <thread>
#include <vector>

#include "core/common/parallel.hpp"

namespace medkern::test {

struct Random {
  uint64_t state;

  int64_t below(int64_t n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<int64_t>((state >> 33) % static_cast<uint64_t>(n));
  }
  // In [-1, 1).
  double number() { return static_cast<double>(below(1 << 20)) / (1 << 19) - 1; }
};

class Threads final : public Parallel {
 public:
  explicit Threads(int count) : count_(count) {}
  int threads() const override { return count_; }
  void run(int64_t units, int64_t, const Body& body) const override {
    std::vector<std::thread> pool;
    for (int64_t i = 0; i < count_; ++i) {
      pool.emplace_back([&, i] { body(units * i / count_, units * (i + 1) / count_); });
    }
    for (std::thread& thread : pool) thread.join();
  }

 private:
  int count_;
};

}  // namespace medkern::test
