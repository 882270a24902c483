// How a kernel that owns its parallelism gets threads, and learns that the user wants to stop.
//
// torch's bindings give it torch's threads, medkern.numpy its own, the C++ tests one. A result must
// never depend on how a loop is cut.
#pragma once

#include <cstdint>
#include <functional>
#include <stdexcept>

namespace medkern {

// Thrown by a kernel whose caller asked it to stop (Ctrl-C).
struct Interrupted : std::runtime_error {
  Interrupted() : std::runtime_error("interrupted") {}
};

class Parallel {
 public:
  using Body = std::function<void(int64_t begin, int64_t end)>;

  virtual ~Parallel() = default;
  virtual int threads() const = 0;
  // body(begin, end) over disjoint ranges that cover [0, units), none shorter than `grain` but the
  // last. The body must not throw.
  virtual void run(int64_t units, int64_t grain, const Body& body) const = 0;
  // Polled from the thread that called the kernel, every few milliseconds.
  virtual bool interrupted() const { return false; }

  void check() const {
    if (interrupted()) throw Interrupted();
  }
};

class Serial final : public Parallel {
 public:
  int threads() const override { return 1; }
  void run(int64_t units, int64_t, const Body& body) const override {
    if (units > 0) body(0, units);
  }
};

}  // namespace medkern
