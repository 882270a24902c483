// Launching the Haar kernels: no torch, no device code.
#pragma once

#include "core/haar.hpp"
#include "launch.hpp"

namespace medkern {

// Enqueues one map on `stream`; pointers of `p` are device pointers. Never synchronises.
LaunchError launch_haar(const HaarProblem& p, HaarMode mode, bool adjoint, HaarDType dtype,
                        int ndim, Stream stream);

}  // namespace medkern
