// Launching the kernels on finite differences of fields, and the choice by dtype.
#include "field.cuh"
#include "for_float_type.cuh"

namespace medkern {

namespace MEDKERN_ISA {

template <class S, int N>
LaunchError launch_jacobian(const FieldProblem& p, bool backward, Stream stream) {
  const int64_t parts = field_parts(p.voxels());
  const auto blocks = static_cast<unsigned>(p.batch * parts);
  if (backward) {
    MEDKERN_LAUNCH((field_jacobian_bwd_kernel<S, N>), blocks, kThreads, 0, stream, p, parts);
    return launch_error();
  }
  if (p.folds != nullptr) {
    const auto bytes = static_cast<size_t>(p.batch) * sizeof(int64_t);
    const LaunchError error = clear_device(p.folds, bytes, stream);
    if (!error.ok()) return error;
  }
  MEDKERN_LAUNCH((field_jacobian_fwd_kernel<S, N>), blocks, kThreads, 0, stream, p, parts);
  return launch_error();
}

template <class S>
LaunchError launch_smoothness(const FieldProblem& p, bool backward, Stream stream) {
  const int64_t parts = field_parts(p.channels * p.voxels());
  const auto blocks = static_cast<unsigned>(p.batch * parts);
  if (backward && p.squares) {
    MEDKERN_LAUNCH((field_smoothness_bwd_kernel<S, true>), blocks, kThreads, 0, stream, p, parts);
  } else if (backward) {
    MEDKERN_LAUNCH((field_smoothness_bwd_kernel<S, false>), blocks, kThreads, 0, stream, p, parts);
  } else {
    MEDKERN_LAUNCH(field_smoothness_fwd_kernel<S>, blocks, kThreads, 0, stream, p, parts);
    MEDKERN_LAUNCH(field_total_fwd_kernel<Compute<S>>, static_cast<unsigned>(p.batch), kThreads, 0,
                   stream, p, parts);
  }
  return launch_error();
}

template <class S>
LaunchError launch_field_of(FieldTask task, const FieldProblem& p, Stream stream) {
  if (task == FieldTask::smoothness || task == FieldTask::smoothness_backward) {
    return launch_smoothness<S>(p, task == FieldTask::smoothness_backward, stream);
  }
  const bool backward = task == FieldTask::jacobian_backward;
  return p.axes == 3 ? launch_jacobian<S, 3>(p, backward, stream)
                     : launch_jacobian<S, 2>(p, backward, stream);
}

}  // namespace MEDKERN_ISA

LaunchError launch_field(FieldTask task, const FieldProblem& p, FloatType type, Stream stream) {
  using namespace MEDKERN_ISA;
  if (p.batch == 0) return {};
  if (p.batch * field_parts(p.channels * p.voxels()) > INT32_MAX) {
    return LaunchError("the batch exceeds 2^31 blocks");
  }
  return for_float_type(
      type, [&](auto zero) { return launch_field_of<decltype(zero)>(task, p, stream); });
}

}  // namespace medkern
