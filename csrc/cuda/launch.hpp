// What the host side of a launch needs, also in files that nvcc does not compile.
#pragma once

#if !defined(MEDKERN_EMULATED)
#include <driver_types.h>
#endif

namespace medkern {

#if defined(MEDKERN_EMULATED)
using Stream = void*;
#else
using Stream = cudaStream_t;
#endif

// What became of a launch; null text: no error.
class LaunchError {
 public:
  LaunchError() = default;
  explicit LaunchError(const char* text) : text_(text) {}
  bool ok() const { return text_ == nullptr; }
  const char* text() const { return text_; }

 private:
  const char* text_ = nullptr;
};

}  // namespace medkern
