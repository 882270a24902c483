// What the tests of kernels on images and spectra share: blocks of exactly the memory that a kernel
// may touch, so that a sanitizer sees one element too many, and numbers of all storage types.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>

#include "every_isa.hpp"

namespace medkern::test {

// `count` values of T; a scratch block starts on a cache line.
template <class T>
class Block {
 public:
  explicit Block(int64_t count, size_t alignment = alignof(T))
      : alignment_(alignment),
        data_(static_cast<T*>(
            ::operator new(static_cast<size_t>(count) * sizeof(T), std::align_val_t{alignment}))) {}
  ~Block() { ::operator delete(data_, std::align_val_t{alignment_}); }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  T* get() const { return data_; }
  T& operator[](int64_t i) const { return data_[i]; }

 private:
  size_t alignment_;
  T* data_;
};

// Relative to the largest value.
template <class S>
constexpr double kRounding = std::is_same_v<S, Half>       ? 1e-3
                             : std::is_same_v<S, BFloat16> ? 8e-3
                             : std::is_same_v<S, double>   ? 1e-13
                                                           : 1e-5;

struct Random {
  uint64_t state;

  double uniform() {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<double>(state >> 11) * 0x1p-52 - 1;
  }
  template <class S>
  void fill(const Block<S>& block, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      medkern::MEDKERN_ISA::store_one(block.get() + i, static_cast<Compute<S>>(uniform()));
    }
  }
};

template <class S>
double value_of(const S& s) {
  return static_cast<double>(medkern::MEDKERN_ISA::load_one<Compute<S>>(&s));
}

inline void expect_near(double actual, double expected, double error, const std::string& what) {
  if (std::fabs(actual - expected) <= error) return;
  std::fprintf(stderr, "FAILED: %s: got %.17g, want %.17g, on %s\n", what.c_str(), actual, expected,
               medkern_active_isa());
  std::exit(1);
}

}  // namespace medkern::test
