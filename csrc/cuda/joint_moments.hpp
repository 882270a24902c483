// Launching variances and covariance of two images: no torch, no device code.
#pragma once

#include "core/joint_moments.hpp"
#include "launch.hpp"

namespace medkern {

// Every pointer of the problem is the device's; p.blocks: joint_moments_blocks_per_row a row.

// moments [rows]: of each row; out [rows, 3]: variances and covariance, in the compute type. Either
// may be null.
LaunchError launch_joint_moments(const JointMomentsProblem& p, JointMoments* moments, void* out,
                                 Stream stream);

LaunchError launch_joint_moments_backward(const JointMomentsProblem& p, Stream stream);

}  // namespace medkern
