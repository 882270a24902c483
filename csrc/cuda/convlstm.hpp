// Launching the fused gates of the ConvLSTM: no torch, no device code.
#pragma once

#include "core/convlstm.hpp"
#include "launch.hpp"

namespace medkern {

// As the kernels of core/convlstm.hpp; every array is on the device.
LaunchError launch_convlstm_gates(const ConvLSTMGates& problem, bool backward, FloatType type,
                                  Stream stream);

}  // namespace medkern
