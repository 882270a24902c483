#include "core/euclidean_kernels.hpp"
