// Launching truncated Fourier transforms and mode mixing: no torch, no device code.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/spectral.hpp"
#include "launch.hpp"

namespace medkern {

// Bytes of workspace that a transform needs: tables, and the partial transforms between two axes.
size_t device_dft_workspace(const DftCall& call);

// Workspace on a boundary of 16 bytes.
LaunchError launch_dft(const DftCall& call, bool inverse, void* workspace, Stream stream);

// z: the weighted kept rows of a spectrum [images, rows, modes]; and back, into zeros.
LaunchError launch_gather_kept(const DftCall& call, const void* spectrum, void* z, Stream stream);
LaunchError launch_scatter_kept(const DftCall& call, const void* z, void* spectrum, Stream stream);

// Modes must be aligned complex numbers, all other strides even.
LaunchError launch_mix(const MixProblem& problem, bool float64, Stream stream);

}  // namespace medkern
