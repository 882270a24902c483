// Half spectra on a device, for the ops around them.
#pragma once

#include "binding/half_spectrum.hpp"
#include "device_tensors.hpp"
#include "half_spectrum.hpp"

namespace medkern {

struct HalfSpectrumDevice {
  static void halve_columns(const Tensor& spectrum, int64_t width) {
    const DeviceScope scope(spectrum);
    const int64_t rows = spectrum.numel() / (2 * spectrum_columns(width));
    check_launch(launch_halve_columns(spectrum.data_ptr(), rows, width, is_float64(spectrum),
                                      scope.stream()));
  }

  static Tensor inverse(const Tensor& spectrum, int64_t width, FftNorm norm, bool once) {
    return inverse_by_axes<HalfSpectrumDevice>(spectrum, width, norm, once);
  }
};

}  // namespace medkern
