#include "binding/field.hpp"

STABLE_TORCH_LIBRARY_IMPL(medkern, CPU, m) {
  m.impl("jacobian_determinant", TORCH_BOX(&medkern::jacobian_determinant_cpu));
  m.impl("_jacobian_folding", TORCH_BOX(&medkern::jacobian_folding_cpu));
  m.impl("_jacobian_backward", TORCH_BOX(&medkern::jacobian_backward_cpu));
  m.impl("diffusion_smoothness_loss", TORCH_BOX(&medkern::smoothness_cpu));
  m.impl("_diffusion_smoothness_loss_backward", TORCH_BOX(&medkern::smoothness_backward_cpu));
}
