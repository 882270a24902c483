#include "binding/convlstm.hpp"
#include "cuda/convlstm.hpp"
#include "cuda/device.hpp"

namespace medkern {
namespace {

struct OnDevice {
  static void run(const ConvLSTMGates& p, bool backward, FloatType type, const Tensor& on) {
    const DeviceScope scope(on);
    check_launch(launch_convlstm_gates(p, backward, type, scope.stream()));
  }
};

}  // namespace
}  // namespace medkern

MEDKERN_DEVICE_LIBRARY(m) { medkern::ConvLSTMOps<medkern::OnDevice>::register_in(m); }
