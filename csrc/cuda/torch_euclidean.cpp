#include "cuda/device_tensors.hpp"
#include "cuda/euclidean.hpp"

namespace medkern {
namespace {

void run(const Tensor& given, const Tensor& spacing, bool both_sides, const Tensor& out,
         const Tensor* nearest) {
  const int64_t ndim = given.dim() - 2;
  STD_TORCH_CHECK(is_label_dtype(given.scalar_type()), "labels must be integers or bool");
  STD_TORCH_CHECK(ndim >= 1 && ndim <= 3, "labels must be [B, K, *space] of 1 to 3 axes, got ",
                  given.dim(), " axes");
  const DeviceScope scope(out);
  const Tensor labels = torch::stable::contiguous(given);
  const Tensor rows = device_spacing(spacing, labels, ndim);
  const Tensor scratch = empty_of(out, out.scalar_type());
  const Tensor indices = nearest ? empty_of(*nearest, ScalarType::Long) : scratch;
  check_launch(launch_euclidean(
      {labels.data_ptr(), static_cast<const double*>(rows.data_ptr()), out.data_ptr(),
       scratch.data_ptr(), nearest ? static_cast<int64_t*>(nearest->data_ptr()) : nullptr,
       nearest ? static_cast<int64_t*>(indices.data_ptr()) : nullptr,
       labels.size(0) * labels.size(1), labels.size(1), grid_of(labels),
       static_cast<int>(labels.element_size()), both_sides,
       out.scalar_type() == ScalarType::Double},
      scope.stream()));
}

Tensor distance(const Tensor& labels, const Tensor& spacing, bool is_signed, bool wide) {
  const Tensor out = empty_of(labels, wide ? ScalarType::Double : ScalarType::Float);
  run(labels, spacing, is_signed, out, nullptr);
  return out;
}

std::tuple<Tensor, Tensor> indices(const Tensor& labels, const Tensor& spacing, bool is_signed,
                                   bool wide) {
  const Tensor out = empty_of(labels, wide ? ScalarType::Double : ScalarType::Float);
  const Tensor nearest = empty_of(labels, ScalarType::Long);
  run(labels, spacing, is_signed, out, &nearest);
  return {out, nearest};
}

}  // namespace
}  // namespace medkern

MEDKERN_DEVICE_LIBRARY(m) {
  m.impl("euclidean_distance", TORCH_BOX(&medkern::distance));
  m.impl("_euclidean_indices", TORCH_BOX(&medkern::indices));
}
