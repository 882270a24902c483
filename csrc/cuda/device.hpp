// Where device code runs: on the current stream of a CUDA device, or, in the emulated build, on the
// CPU under another namespace of ops. The bindings are written once against this file.
#pragma once

#include "binding/tensor.hpp"
#include "launch.hpp"

#if defined(MEDKERN_EMULATED)

#define MEDKERN_DEVICE_LIBRARY(m) STABLE_TORCH_LIBRARY_IMPL(medkern_emulated, CPU, m)

namespace medkern {

struct DeviceScope {
  explicit DeviceScope(const Tensor&) {}
  Stream stream() const { return nullptr; }
};

}  // namespace medkern

#else

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

#define MEDKERN_DEVICE_LIBRARY(m) STABLE_TORCH_LIBRARY_IMPL(medkern, CUDA, m)

// Defined by a CUDA torch; weak, so that the library also loads, unused, on a CPU torch.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t, void**);

namespace medkern {

// Makes the tensor's device current for as long as it lives.
class DeviceScope {
 public:
  explicit DeviceScope(const Tensor& t)
      : device_(t.get_device_index()), guard_(t.get_device_index()) {}

  Stream stream() const {
    STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream != nullptr, "this torch has no CUDA");
    void* stream = nullptr;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device_, &stream));
    return static_cast<Stream>(stream);
  }

 private:
  int32_t device_;
  torch::stable::accelerator::DeviceGuard guard_;
};

}  // namespace medkern

#endif

namespace medkern {

inline void check_launch(LaunchError error) {
  STD_TORCH_CHECK(error.ok(), "kernel launch failed: ", error.text());
}

}  // namespace medkern
