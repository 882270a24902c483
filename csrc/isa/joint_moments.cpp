#include "core/joint_moments_kernels.hpp"
#include "isa/selector.hpp"

MEDKERN_SELECTOR(JointMomentsKernel, joint_moments_kernel, (bool backward, FloatType type),
                 (backward, type))
