#include "core/boundary_kernels.hpp"
