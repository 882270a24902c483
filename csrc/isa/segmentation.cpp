#include "core/segmentation_kernels.hpp"
#include "isa/selector.hpp"

MEDKERN_SELECTOR(SegmentationKernel, segmentation_kernel, (FloatType logits), (logits))
