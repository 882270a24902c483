#include "binding/similarity.hpp"

STABLE_TORCH_LIBRARY_IMPL(medkern, CPU, m) {
  m.impl("local_ncc_loss", TORCH_BOX(&medkern::local_ncc_cpu));
  m.impl("_local_ncc_loss_backward", TORCH_BOX(&medkern::local_ncc_backward_cpu));
  m.impl("global_ncc", TORCH_BOX(&medkern::joint_moments_cpu));
  m.impl("_global_ncc_backward", TORCH_BOX(&medkern::joint_moments_backward_cpu));
  m.impl("mutual_information_loss", TORCH_BOX(&medkern::joint_histogram_cpu));
  m.impl("_mutual_information_loss_backward", TORCH_BOX(&medkern::joint_histogram_backward_cpu));
}
