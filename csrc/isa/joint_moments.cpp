#include "core/joint_moments_kernels.hpp"
