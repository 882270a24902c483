#include "core/warp_kernels.hpp"
