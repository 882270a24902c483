// Launching the Fourier augmentations: no torch, no device code.
#pragma once

#include <cstdint>

#include "core/fourier.hpp"
#include "launch.hpp"

namespace medkern {

// p.stream is on the device.
LaunchError launch_noise(const NoiseProblem& p, bool float64, Stream stream);

// Cosines, then sines, of 2 pi k n / size for k in [0, rows) and n in [0, columns): two tables
// [rows, stride], or [columns, stride] where `turned`; zeros up to `stride`.
struct WaveProblem {
  int64_t size = 0, rows = 0, columns = 0, stride = 0;
  bool turned = false;
  void* table = nullptr;
};
LaunchError launch_waves(const WaveProblem& p, bool float64, Stream stream);

// The analysis fills p.rows, then p.modes; the synthesis p.rows (from p.modes), then p.out.
LaunchError launch_analysis(const ModesProblem& p, bool float64, Stream stream);
LaunchError launch_synthesis(const ModesProblem& p, bool float64, Stream stream);

}  // namespace medkern
