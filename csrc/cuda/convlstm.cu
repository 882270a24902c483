// Launching the gates of the ConvLSTM, and their choice by dtype.
#include "convlstm.cuh"
#include "convlstm.hpp"
#include "for_float_type.cuh"

namespace medkern {

namespace MEDKERN_ISA {

template <class S>
LaunchError run_convlstm_gates(const ConvLSTMGates& p, bool backward, Stream stream) {
  const int64_t count = p.batch * p.hidden * p.voxels;
  if (count == 0) return {};
  const bool along = p.along_channels();
  if (backward) {
    MEDKERN_LAUNCH(convlstm_gates_bwd_kernel<S>, blocks_for(count), kThreads, 0, stream, p, along);
  } else {
    MEDKERN_LAUNCH(convlstm_gates_fwd_kernel<S>, blocks_for(count), kThreads, 0, stream, p, along);
  }
  return launch_error();
}

}  // namespace MEDKERN_ISA

LaunchError launch_convlstm_gates(const ConvLSTMGates& p, bool backward, FloatType type,
                                  Stream stream) {
  using namespace MEDKERN_ISA;
  return for_float_type(
      type, [&](auto zero) { return run_convlstm_gates<decltype(zero)>(p, backward, stream); });
}

}  // namespace medkern
