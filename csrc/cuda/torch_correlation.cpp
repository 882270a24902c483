#include "binding/correlation.hpp"
#include "cuda/correlation.hpp"
#include "cuda/device_tensors.hpp"

namespace medkern {
namespace {

struct CorrelationDevice {
  static void sums(const CorrelationProblem& p, const Tensor& out) {
    const DeviceScope scope(out);
    const Tensor work = device_bytes(out, static_cast<int64_t>(correlation_workspace(p, true)));
    check_launch(launch_correlation_sums(p, work.data_ptr(), out.data_ptr(), scope.stream()));
  }

  static void gradient(const CorrelationProblem& p, const Tensor& out) {
    const DeviceScope scope(out);
    const Tensor work = device_bytes(out, static_cast<int64_t>(correlation_workspace(p, false)));
    check_launch(launch_correlation_gradient(p, work.data_ptr(), scope.stream()));
  }
};

}  // namespace
}  // namespace medkern

MEDKERN_DEVICE_LIBRARY(m) { medkern::register_correlation<medkern::CorrelationDevice>(m); }
