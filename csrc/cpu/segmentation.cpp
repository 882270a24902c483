#include "binding/segmentation.hpp"

STABLE_TORCH_LIBRARY_IMPL(medkern, CPU, m) {
  m.impl("_segmentation_sums", TORCH_BOX(&medkern::segmentation_sums_cpu));
  m.impl("_segmentation_sums_backward", TORCH_BOX(&medkern::segmentation_sums_backward_cpu));
}
