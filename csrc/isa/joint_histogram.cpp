#include "core/joint_histogram_kernels.hpp"
