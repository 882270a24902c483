#include "core/correlation_kernels.hpp"
