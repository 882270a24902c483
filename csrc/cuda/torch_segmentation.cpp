#include "binding/segmentation.hpp"
#include "cuda/device_tensors.hpp"
#include "cuda/segmentation.hpp"

namespace medkern {
namespace {

// The inputs in the layout that the kernels take. Labels that name no class, which the CPU refuses,
// are ignored: telling would mean waiting for the device.
class DeviceInputs {
 public:
  DeviceInputs(const Tensor& logits, const Tensor& target, bool softmax, int64_t ignore)
      : logits_(torch::stable::contiguous(logits)), target_(torch::stable::contiguous(target)) {
    const SegmentationProblem p = SegmentationInputs(logits_, target_, softmax, ignore).problem;
    arrays = {p.logits.data, p.target.data, p.batch,       p.classes,       p.voxels,
              ignore,        p.logits.type, p.target.type, p.target.labels, softmax};
  }

  SegmentationArrays arrays;

 private:
  Tensor logits_, target_;
};

Tensor sums(const Tensor& logits, const Tensor& target, bool softmax, int64_t ignore) {
  const DeviceInputs inputs(logits, target, softmax, ignore);
  const SegmentationArrays& a = inputs.arrays;
  const DeviceScope scope(logits);
  const int64_t row = a.classes * kSegmentationSums;
  const int64_t bytes = a.batch * segmentation_parts(a.pixels) * row * int64_t{sizeof(double)};
  const Tensor partial = device_bytes(logits, bytes);
  const Tensor total = empty_strided(logits, {a.batch, a.classes, kSegmentationSums},
                                     {row, kSegmentationSums, 1}, ScalarType::Double);
  check_launch(launch_segmentation_forward(a, static_cast<double*>(partial.data_ptr()),
                                           static_cast<double*>(total.data_ptr()), scope.stream()));
  return contiguous_as(total, compute_type_of(logits));
}

Tensor sums_backward(const Tensor& logits, const Tensor& grad, const Tensor& target, bool softmax,
                     int64_t ignore) {
  const DeviceInputs inputs(logits, target, softmax, ignore);
  const SegmentationArrays& a = inputs.arrays;
  STD_TORCH_CHECK(grad.dim() == 3 && grad.size(0) == a.batch && grad.size(1) == a.classes &&
                      grad.size(2) == kSegmentationSums,
                  "grad must be [B, K, 7]");
  const DeviceScope scope(logits);
  const Tensor weights = contiguous_as(grad, ScalarType::Double);
  const Tensor planar = empty_of(logits, logits.scalar_type());
  check_launch(launch_segmentation_backward(a, static_cast<const double*>(weights.data_ptr()),
                                            planar.data_ptr(), scope.stream()));
  Tensor out = allocate_logits_grad(logits);
  return out.stride(1) == planar.stride(1) ? planar : torch::stable::copy_(out, planar);
}

}  // namespace
}  // namespace medkern

MEDKERN_DEVICE_LIBRARY(m) {
  m.impl("_segmentation_sums", TORCH_BOX(&medkern::sums));
  m.impl("_segmentation_sums_backward", TORCH_BOX(&medkern::sums_backward));
}
