// Launching the kernel of half spectra: no torch, no device code.
#pragma once

#include <cstdint>

#include "core/fourier.hpp"
#include "launch.hpp"

namespace medkern {

// Halves, in place, the columns of rows [rows, K, 2] that have mirror images.
LaunchError launch_halve_columns(void* spectrum, int64_t rows, int64_t width, bool float64,
                                 Stream stream);

}  // namespace medkern
