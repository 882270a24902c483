// Launching the losses on spectra: no torch, no device code.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/fourier.hpp"
#include "launch.hpp"

namespace medkern {

// Blocks that share an image: a function of its size alone, so that the order of the sums, hence
// the bits, are the same on every device and in every batch.
inline int64_t spectrum_parts(int64_t height, int64_t width) {
  return std::clamp<int64_t>(height * spectrum_columns(width) / 2048, 1, 256);
}

// The largest |y|^2 of each image, in the type of the spectrum, into tops [images]; workspace of
// spectrum_parts times as much.
LaunchError launch_spectrum_tops(const SpectrumProblem& p, bool float64, void* workspace,
                                 void* tops, Stream stream);

// sums: [images]; partial: workspace of images * spectrum_parts. p.peak must be set for the focal
// loss.
LaunchError launch_spectrum_sums(const SpectrumProblem& p, bool float64, double* partial,
                                 void* sums, Stream stream);

LaunchError launch_spectrum_gradient(const SpectrumProblem& p, bool float64, Stream stream);

}  // namespace medkern
