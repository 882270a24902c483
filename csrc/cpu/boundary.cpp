#include "binding/boundary.hpp"

STABLE_TORCH_LIBRARY_IMPL(medkern, CPU, m) {
  m.impl("boundary_loss", TORCH_BOX(&medkern::boundary_loss_cpu));
  m.impl("_boundary_loss_backward", TORCH_BOX(&medkern::boundary_loss_backward_cpu));
}
