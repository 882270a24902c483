#include "core/convlstm_winograd_kernels.hpp"
