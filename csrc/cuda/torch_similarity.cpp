#include "binding/similarity.hpp"
#include "cuda/device_tensors.hpp"
#include "cuda/joint_histogram.hpp"
#include "cuda/joint_moments.hpp"
#include "cuda/local_ncc.hpp"

namespace medkern {
namespace {

Tensor device_doubles(const Tensor& like, int64_t count) {
  return device_bytes(like, count * static_cast<int64_t>(sizeof(double)));
}

double* doubles(const Tensor& t) { return static_cast<double*>(t.data_ptr()); }

// Of two axes neither is slid over: y and x share a block.
constexpr int64_t kFirstOfTwo = 1;

Tensor local_ncc(const Tensor& a, const Tensor& b, int64_t window, double eps, bool clamp,
                 bool squared, bool per_voxel) {
  const DeviceScope scope(a);
  LocalNccInputs inputs(a, b, window, eps, clamp, squared, kFirstOfTwo);
  LocalNccProblem& p = inputs.problem;
  const Tensor out = inputs.allocate_result(per_voxel);
  const LocalNccFrames frames(p);
  const Tensor workspace = device_bytes(a, frames.workspace_bytes(p.volumes));
  const Tensor sums = device_doubles(a, per_voxel ? 0 : p.volumes * frames.per_volume());
  per_voxel ? void(p.map = out.data_ptr()) : void(p.sums = doubles(sums));
  check_launch(launch_local_ncc(p, out.data_ptr(), workspace.data_ptr(), scope.stream()));
  return out;
}

Tensor local_ncc_backward(const Tensor& a, const Tensor& b, const Tensor& grad, int64_t window,
                          double eps, bool clamp, bool squared, bool per_voxel, bool both) {
  const DeviceScope scope(a);
  LocalNccInputs inputs(a, b, window, eps, clamp, squared, kFirstOfTwo);
  const Tensor weights = torch::stable::contiguous(grad);
  const Tensor out = inputs.images.allocate_gradients(both);
  inputs.set_gradients(weights, per_voxel, both, out);
  inputs.each_group([&](int64_t volumes) {
    const LocalNccProblem& p = inputs.problem;
    const Tensor workspace = device_bytes(a, LocalNccFrames(p).workspace_bytes(volumes));
    check_launch(launch_local_ncc_backward(p, volumes, workspace.data_ptr(), scope.stream()));
  });
  return out;
}

Tensor device_moments(const Tensor& like, int64_t count) {
  return device_bytes(like, count * static_cast<int64_t>(sizeof(JointMoments)));
}

JointMoments* moments_in(const Tensor& t) { return static_cast<JointMoments*>(t.data_ptr()); }

Tensor joint_moments(const Tensor& a, const Tensor& b) {
  const DeviceScope scope(a);
  const ImagePair images(a, b);
  JointMomentsProblem p = joint_moments_problem(images);
  const Tensor out = empty_packed(a, {images.batch, images.channels, 3}, images.result_type());
  const Tensor blocks = device_moments(a, p.rows * joint_moments_blocks_per_row(p));
  p.blocks = moments_in(blocks);
  check_launch(launch_joint_moments(p, nullptr, out.data_ptr(), scope.stream()));
  return out;
}

Tensor joint_moments_backward(const Tensor& a, const Tensor& b, const Tensor& grad, bool both) {
  const DeviceScope scope(a);
  const ImagePair images(a, b);
  check_moments_gradient(images, grad);
  JointMomentsProblem p = joint_moments_problem(images);
  const Tensor weights = torch::stable::contiguous(grad), out = images.allocate_gradients(both);
  const Tensor blocks = device_moments(a, p.rows * joint_moments_blocks_per_row(p));
  const Tensor rows = device_moments(a, p.rows);
  p.blocks = moments_in(blocks);
  check_launch(launch_joint_moments(p, moments_in(rows), nullptr, scope.stream()));
  p.moments = moments_in(rows);
  p.weights = weights.data_ptr();
  p.both = both;
  p.grads = out.data_ptr();
  check_launch(launch_joint_moments_backward(p, scope.stream()));
  return out;
}

Tensor joint_histogram(const Tensor& a, const Tensor& b, int64_t bins, double sigma, bool spline) {
  const DeviceScope scope(a);
  const ImagePair images(a, b);
  JointHistogramProblem p = joint_histogram_problem(images, bins, sigma, spline);
  const Tensor out = empty_packed(a, {images.batch, bins, bins}, images.result_type());
  const JointHistogramLayout layout(p, false);
  const Tensor parts = device_doubles(a, p.batch * layout.parts * layout.histogram);
  const Tensor workspace = device_bytes(a, layout.workspace_bytes(p.batch));
  p.parts = doubles(parts);
  check_launch(launch_joint_histogram(p, out.data_ptr(), workspace.data_ptr(), scope.stream()));
  return out;
}

Tensor joint_histogram_backward(const Tensor& a, const Tensor& b, const Tensor& grad, int64_t bins,
                                double sigma, bool spline, bool both) {
  const DeviceScope scope(a);
  const ImagePair images(a, b);
  check_histogram_gradient(images, grad, bins);
  JointHistogramProblem p = joint_histogram_problem(images, bins, sigma, spline);
  const Tensor pulls = torch::stable::contiguous(grad), out = images.allocate_gradients(both);
  const Tensor workspace = device_bytes(a, JointHistogramLayout(p, true).workspace_bytes(p.batch));
  p.both = both;
  p.grads = out.data_ptr();
  check_launch(
      launch_joint_histogram_backward(p, pulls.data_ptr(), workspace.data_ptr(), scope.stream()));
  return out;
}

}  // namespace
}  // namespace medkern

MEDKERN_DEVICE_LIBRARY(m) {
  m.impl("local_ncc_loss", TORCH_BOX(&medkern::local_ncc));
  m.impl("_local_ncc_loss_backward", TORCH_BOX(&medkern::local_ncc_backward));
  m.impl("global_ncc", TORCH_BOX(&medkern::joint_moments));
  m.impl("_global_ncc_backward", TORCH_BOX(&medkern::joint_moments_backward));
  m.impl("mutual_information_loss", TORCH_BOX(&medkern::joint_histogram));
  m.impl("_mutual_information_loss_backward", TORCH_BOX(&medkern::joint_histogram_backward));
}
