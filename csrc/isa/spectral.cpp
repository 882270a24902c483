#include "core/spectral_kernels.hpp"
