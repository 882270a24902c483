// torch's threads, and Ctrl-C, for kernels that own their parallelism.
#pragma once

#include <torch/csrc/stable/ops.h>

#include "core/common/parallel.hpp"

namespace medkern {

// Whether Python has a pending KeyboardInterrupt; false outside Python and off its main thread.
// Python is looked up at run time, as the library serves programs without it too.
bool python_interrupted();

class TorchThreads final : public Parallel {
 public:
  int threads() const override { return static_cast<int>(torch::stable::get_num_threads()); }
  void run(int64_t units, int64_t grain, const Body& body) const override {
    if (units > 0) torch::stable::parallel_for(0, units, grain < 1 ? 1 : grain, body);
  }
  bool interrupted() const override { return python_interrupted(); }
};

}  // namespace medkern
