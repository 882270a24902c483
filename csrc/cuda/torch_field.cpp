#include "binding/field.hpp"
#include "cuda/device_tensors.hpp"
#include "cuda/field.hpp"

namespace medkern {
namespace {

// Lengths of voxels are taken as they are: to check them would mean waiting for the device.
class OnDevice {
 public:
  static void jacobian(FieldProblem p, const Tensor& u, const Tensor& spacing, const Tensor& out,
                       const Tensor* count) {
    p.out = out.data_ptr();
    p.folds = count ? static_cast<int64_t*>(count->data_ptr()) : nullptr;
    run(FieldTask::jacobian, p, u, spacing);
  }

  static void jacobian_backward(FieldProblem p, const Tensor& grad, const Tensor& u,
                                const Tensor& spacing, const Tensor& out) {
    p.grad = grad.data_ptr();
    p.out = out.data_ptr();
    run(FieldTask::jacobian_backward, p, u, spacing);
  }

  static void smoothness(FieldProblem p, const Tensor& u, const Tensor& spacing,
                         const Tensor& out) {
    const int64_t blocks = p.batch * field_parts(p.channels * p.voxels());
    const Tensor sums = empty_strided(u, {3 * blocks}, {1}, ScalarType::Double);
    p.sums = static_cast<double*>(sums.data_ptr());
    p.out = out.data_ptr();
    run(FieldTask::smoothness, p, u, spacing);
  }

  static void smoothness_backward(FieldProblem p, const Tensor& grad, const Tensor& u,
                                  const Tensor& spacing, const Tensor& out) {
    p.grad = grad.data_ptr();
    p.out = out.data_ptr();
    run(FieldTask::smoothness_backward, p, u, spacing);
  }

 private:
  static void run(FieldTask task, FieldProblem p, const Tensor& u, const Tensor& spacing) {
    const DeviceScope scope(u);
    const Tensor lengths = contiguous_as(spacing, ScalarType::Double);
    p.u = u.data_ptr();
    p.spacing = static_cast<const double*>(lengths.data_ptr());
    check_launch(launch_field(task, p, float_type_of(u, "displacement"), scope.stream()));
  }
};

}  // namespace
}  // namespace medkern

MEDKERN_DEVICE_LIBRARY(m) { medkern::FieldOps<medkern::OnDevice>::register_in(m); }
