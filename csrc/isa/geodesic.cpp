#include "core/geodesic_kernels.hpp"
