#include "binding/fourier_epilogue.hpp"
#include "cuda/device_tensors.hpp"
#include "cuda/fourier_epilogue.hpp"

namespace medkern {
namespace {

struct EpilogueDevice {
  static void forward(const FourierEpilogue& p, const Tensor& on) {
    const DeviceScope scope(on);
    check_launch(launch_epilogue_forward(p, scope.stream()));
  }

  static void backward(FourierEpilogue& p, const Tensor& d_weight, const Tensor& d_bias) {
    const DeviceScope scope(d_weight);
    if (p.batch * p.pixels == 0) {
      Tensor weight = d_weight, bias = d_bias;
      torch::stable::zero_(weight);
      torch::stable::zero_(bias);
      return;
    }
    const Tensor work = device_bytes(d_weight, static_cast<int64_t>(epilogue_workspace(p)));
    check_launch(launch_epilogue_backward(p, work.data_ptr(), d_weight.data_ptr(),
                                          d_bias.data_ptr(), scope.stream()));
  }
};

}  // namespace
}  // namespace medkern

MEDKERN_DEVICE_LIBRARY(m) { medkern::register_fourier_epilogue<medkern::EpilogueDevice>(m); }
