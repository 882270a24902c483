// Half spectra on the CPU, for the ops around them.
#pragma once

#include "binding/half_spectrum.hpp"

namespace medkern {

struct HalfSpectrumCpu {
  static void halve_columns(const Tensor& spectrum, int64_t width);

  // The CPU's transform back to real numbers copies what it takes, with its axes exchanged, at
  // about the cost of the transform; one complex transform of half the width copies nothing.
  static Tensor inverse(const Tensor& spectrum, int64_t width, FftNorm norm, bool once);
};

}  // namespace medkern
