#include "core/convlstm_gates.hpp"
