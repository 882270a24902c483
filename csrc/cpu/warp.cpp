#include "binding/warp.hpp"

STABLE_TORCH_LIBRARY_IMPL(medkern, CPU, m) {
  m.impl("warp", TORCH_BOX(&medkern::warp_cpu));
  m.impl("_warp_transpose", TORCH_BOX(&medkern::warp_transpose_cpu));
  m.impl("_warp_slope", TORCH_BOX(&medkern::warp_slope_cpu));
  m.impl("compose", TORCH_BOX(&medkern::compose_cpu));
}
