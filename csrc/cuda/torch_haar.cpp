#include "binding/haar.hpp"
#include "cuda/device.hpp"
#include "cuda/haar.hpp"

namespace medkern {
namespace {

struct Device {
  static void run(const HaarProblem& p, HaarMode mode, bool adjoint, HaarDType dtype, int ndim,
                  const Tensor& out) {
    const DeviceScope scope(out);
    check_launch(launch_haar(p, mode, adjoint, dtype, ndim, scope.stream()));
  }
};

}  // namespace
}  // namespace medkern

MEDKERN_DEVICE_LIBRARY(m) {
  using medkern::Device;
  using medkern::HaarOps;
  MEDKERN_REGISTER_HAAR(m, Device);
}
