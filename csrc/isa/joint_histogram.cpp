#include "core/joint_histogram_kernels.hpp"
#include "isa/selector.hpp"

MEDKERN_SELECTOR(JointHistogramKernel, joint_histogram_kernel, (bool backward, FloatType type),
                 (backward, type))
