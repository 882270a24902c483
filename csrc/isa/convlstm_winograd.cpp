#include "core/convlstm_winograd_kernels.hpp"
#include "isa/selector.hpp"

MEDKERN_SELECTOR(WinogradKernels, winograd_kernels, (), ())
