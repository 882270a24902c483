#include "core/segmentation_kernels.hpp"
