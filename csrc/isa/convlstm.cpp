#include "core/convlstm_gates.hpp"
#include "isa/selector.hpp"

MEDKERN_SELECTOR(ConvLSTMKernel, convlstm_gates_kernel, (bool backward, FloatType type),
                 (backward, type))
