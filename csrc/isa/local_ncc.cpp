#include "core/local_ncc_kernels.hpp"
