#include "core/field_kernels.hpp"
