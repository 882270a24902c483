#include "core/haar_kernels.hpp"
