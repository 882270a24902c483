// What the tests of kernels on raw pointers share: arrays of exactly the size that a kernel may
// touch, so that a sanitizer sees an access one element outside; two threads, so that it sees a
// write to what is another's.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "every_isa.hpp"

namespace medkern::test {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// splitmix64: the same numbers on every platform.
struct Random {
  uint64_t state = 42;
  uint64_t next() {
    uint64_t z = (state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }
};

inline void check(bool holds, const std::string& what) {
  if (holds) return;
  std::fprintf(stderr, "FAILED on %s: %s\n", medkern_active_isa(), what.c_str());
  std::abort();
}

// NaN equals NaN.
inline void check_near(double got, double want, double error, const std::string& what) {
  const bool near = std::fabs(got - want) <= error || (std::isnan(got) && std::isnan(want));
  check(near, what + ": got " + std::to_string(got) + ", want " + std::to_string(want));
}

// A heap block that ends with its last element; 64-byte aligned where a kernel wants scratch so.
template <class T>
class Exact {
 public:
  explicit Exact(size_t count, bool aligned = false)
      : count_(count), aligned_(aligned), data_(allocate()) {
    for (size_t i = 0; i < count; ++i) data_[i] = T{};
  }
  Exact(const Exact&) = delete;
  Exact& operator=(const Exact&) = delete;
  ~Exact() { aligned_ ? ::operator delete[](data_, kAlignment) : ::operator delete[](data_); }

  T* get() { return data_; }
  const T* get() const { return data_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  size_t size() const { return count_; }
  double value(size_t i) const { return static_cast<double>(load_one<Compute<T>>(data_ + i)); }
  void set(size_t i, double value) { store_one(data_ + i, static_cast<Compute<T>>(value)); }

 private:
  static constexpr std::align_val_t kAlignment{64};
  T* allocate() const {
    const size_t bytes = count_ * sizeof(T);
    return static_cast<T*>(aligned_ ? ::operator new[](bytes, kAlignment)
                                    : ::operator new[](bytes));
  }

  size_t count_;
  bool aligned_;
  T* data_;
};

// body(begin, end) on the halves of [0, units), by two threads at once.
template <class Body>
void in_two_threads(int64_t units, const Body& body) {
  std::thread other([&] { body(units / 2, units); });
  body(0, units / 2);
  other.join();
}

}  // namespace medkern::test
