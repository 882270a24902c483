#include "binding/spectral.hpp"
#include "cuda/device_tensors.hpp"
#include "cuda/spectral.hpp"

namespace medkern {
namespace {

struct SpectralDevice {
  static void transform(const DftCall& p, bool inverse, const Tensor& on) {
    const DeviceScope scope(on);
    const Tensor work = device_bytes(on, static_cast<int64_t>(device_dft_workspace(p)));
    check_launch(launch_dft(p, inverse, work.data_ptr(), scope.stream()));
  }

  static void gather(const DftCall& p, const Tensor& spectrum, const Tensor& z) {
    const DeviceScope scope(z);
    check_launch(launch_gather_kept(p, spectrum.data_ptr(), z.data_ptr(), scope.stream()));
  }

  static void scatter(const DftCall& p, const Tensor& z, const Tensor& spectrum) {
    const DeviceScope scope(z);
    check_launch(launch_scatter_kept(p, z.data_ptr(), spectrum.data_ptr(), scope.stream()));
  }

  static void mix(const MixProblem& p, bool float64, const Tensor& on) {
    const DeviceScope scope(on);
    check_launch(launch_mix(p, float64, scope.stream()));
  }
};

}  // namespace
}  // namespace medkern

MEDKERN_DEVICE_LIBRARY(m) { medkern::register_spectral<medkern::SpectralDevice>(m); }
