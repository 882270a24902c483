#include "binding/boundary.hpp"
#include "cuda/boundary.hpp"
#include "cuda/device_tensors.hpp"

namespace medkern {
namespace {

// The inputs in the layout and the dtypes that the kernels take. Labels that name no class, which
// the CPU refuses, make the loss NaN: an error would mean waiting for the device.
class DeviceInputs {
 public:
  DeviceInputs(const Tensor& logits, const Tensor& maps, const std::optional<Tensor>& labels)
      : logits_(torch::stable::contiguous(logits)), maps_(as_kernels_take(maps, logits)) {
    const BoundaryProblem p = BoundaryInputs(logits, maps, labels).problem;
    if (labels) labels_ = torch::stable::contiguous(*labels);
    arrays = {logits_.data_ptr(),
              maps_.data_ptr(),
              labels_ ? labels_->data_ptr() : nullptr,
              p.labels.bytes,
              p.batch,
              p.classes,
              p.voxels,
              p.classes - p.mapped,
              type_of(logits_, "logits"),
              type_of(maps_, "maps")};
  }

  BoundaryArrays arrays;

 private:
  static BoundaryArrays::Type type_of(const Tensor& t, const char* name) {
    return static_cast<BoundaryArrays::Type>(float_type_of(t, name));
  }
  static Tensor as_kernels_take(const Tensor& maps, const Tensor& logits) {
    const bool taken =
        maps.scalar_type() == logits.scalar_type() || maps.scalar_type() == ScalarType::Float;
    return taken ? torch::stable::contiguous(maps) : contiguous_as(maps, compute_type_of(logits));
  }

  Tensor logits_, maps_;
  std::optional<Tensor> labels_;
};

Tensor loss(const Tensor& logits, const Tensor& maps, const std::optional<Tensor>& labels) {
  const DeviceInputs inputs(logits, maps, labels);
  const BoundaryArrays& a = inputs.arrays;
  const DeviceScope scope(logits);
  const int64_t parts = boundary_parts(a.pixels);
  const Tensor partial =
      device_bytes(logits, a.batch * parts * kBoundarySums * static_cast<int64_t>(sizeof(double)));
  const Tensor sums =
      empty_strided(logits, {a.batch, kBoundarySums}, {kBoundarySums, 1}, ScalarType::Double);
  check_launch(launch_boundary_forward(a, static_cast<double*>(partial.data_ptr()),
                                       static_cast<double*>(sums.data_ptr()), scope.stream()));
  return contiguous_as(sums, compute_type_of(logits));
}

Tensor loss_backward(const Tensor& logits, const Tensor& grad, const Tensor& maps,
                     const std::optional<Tensor>& labels) {
  const DeviceInputs inputs(logits, maps, labels);
  STD_TORCH_CHECK(
      grad.dim() == 2 && grad.size(0) == logits.size(0) && grad.size(1) == kBoundarySums,
      "grad must be [B, 3]");
  const DeviceScope scope(logits);
  const Tensor weights = contiguous_as(grad, ScalarType::Double);
  const Tensor planar = empty_of(logits, logits.scalar_type());
  check_launch(launch_boundary_backward(inputs.arrays,
                                        static_cast<const double*>(weights.data_ptr()),
                                        planar.data_ptr(), nullptr, scope.stream()));
  Tensor out = allocate_logits_grad(logits);
  return out.stride(1) == planar.stride(1) ? planar : torch::stable::copy_(out, planar);
}

}  // namespace
}  // namespace medkern

MEDKERN_DEVICE_LIBRARY(m) {
  m.impl("boundary_loss", TORCH_BOX(&medkern::loss));
  m.impl("_boundary_loss_backward", TORCH_BOX(&medkern::loss_backward));
}
