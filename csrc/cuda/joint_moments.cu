// Launching variances and covariance, and the choice by dtype.
#include "for_float_type.cuh"
#include "joint_moments.cuh"

namespace medkern {

LaunchError launch_joint_moments(const JointMomentsProblem& p, JointMoments* moments, void* out,
                                 Stream stream) {
  using namespace MEDKERN_ISA;
  if (p.rows == 0) return {};
  const int64_t per_row = joint_moments_blocks_per_row(p);
  if (p.rows * per_row > INT32_MAX) return LaunchError("the images exceed 2^31 blocks");
  return for_float_type(p.type, [&](auto zero) {
    using S = decltype(zero);
    MEDKERN_LAUNCH(joint_moments_fwd_kernel<S>, static_cast<unsigned>(p.rows * per_row), kThreads,
                   0, stream, p, per_row);
    MEDKERN_LAUNCH(joint_moments_fwd_merge_kernel<Compute<S>>, static_cast<unsigned>(p.rows),
                   kThreads, 0, stream, p.blocks, per_row, moments, static_cast<Compute<S>*>(out));
    return launch_error();
  });
}

LaunchError launch_joint_moments_backward(const JointMomentsProblem& p, Stream stream) {
  using namespace MEDKERN_ISA;
  if (p.rows == 0) return {};
  return for_float_type(p.type, [&](auto zero) {
    using S = decltype(zero);
    MEDKERN_LAUNCH(joint_moments_bwd_kernel<S>, blocks_for(p.rows * p.voxels), kThreads, 0, stream,
                   p);
    return launch_error();
  });
}

}  // namespace medkern
