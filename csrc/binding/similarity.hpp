// Image similarities on tensors: checks, problems and results, for the CPU and for devices.
#pragma once

#include <vector>

#include "core/joint_histogram.hpp"
#include "core/joint_moments.hpp"
#include "core/local_ncc.hpp"
#include "tensor.hpp"
#include "views.hpp"

namespace medkern {

// Two images [B, C, *space] of one shape and dtype, packed.
struct ImagePair {
  ImagePair(const Tensor& first, const Tensor& second)
      : a(torch::stable::contiguous(first)), b(torch::stable::contiguous(second)) {
    STD_TORCH_CHECK(first.dim() >= 3, "a must be [B, C, *space], got ", first.dim(), " axes");
    STD_TORCH_CHECK(second.dim() == first.dim(), "b must have the axes of a");
    for (int64_t axis = 0; axis < first.dim(); ++axis) {
      STD_TORCH_CHECK(first.size(axis) == second.size(axis), "b must have the shape of a");
      if (axis >= 2) voxels *= first.size(axis);
    }
    STD_TORCH_CHECK(voxels > 0, "a must have no empty spatial axis");
    STD_TORCH_CHECK(second.scalar_type() == first.scalar_type(), "b must have the dtype of a");
    type = float_type_of(a, "a");
    batch = a.size(0);
    channels = a.size(1);
  }

  ScalarType result_type() const { return compute_type_of(a); }

  // [B, 1 or 2, C, *space]
  Tensor allocate_gradients(bool both) const {
    std::vector<int64_t> size{batch, both ? 2 : 1};
    for (int64_t axis = 1; axis < a.dim(); ++axis) size.push_back(a.size(axis));
    return empty_packed(a, size, a.scalar_type());
  }

  void check_gradient(const Tensor& grad) const {
    STD_TORCH_CHECK(grad.scalar_type() == result_type(),
                    "grad must be float64 for float64 images, else float32");
  }

  Tensor a, b;
  FloatType type;
  int64_t batch, channels, voxels = 1;
};

class LocalNccInputs {
 public:
  // `first_of_two`: what the slower of two axes serves as, 0 (z) or 1 (y).
  LocalNccInputs(const Tensor& a, const Tensor& b, int64_t window, double eps, bool clamp,
                 bool squared, int64_t first_of_two)
      : images(a, b) {
    const int64_t axes = a.dim() - 2;
    STD_TORCH_CHECK(axes <= 3, "a must have 1 to 3 spatial axes, got ", axes);
    STD_TORCH_CHECK(window >= 1 && window % 2 == 1, "window must be odd, got ", window);
    STD_TORCH_CHECK(window < (int64_t{1} << 20), "window must be below 2^20, got ", window);
    for (int64_t i = 0; i < axes; ++i) {
      const int64_t to = axes == 2 && i == 0 ? first_of_two : 3 - axes + i;
      problem.size[to] = a.size(2 + i);
      problem.window[to] = window;
    }
    problem.volumes = images.batch * images.channels;
    problem.channels = images.channels;
    (clamp ? problem.least : problem.offset) = eps;
    problem.squared = squared;
    problem.type = images.type;
    problem.a = images.a.data_ptr();
    problem.b = images.b.data_ptr();
  }

  // [B, C], or the images' size.
  Tensor allocate_result(bool per_voxel) const {
    const Tensor& a = images.a;
    std::vector<int64_t> size{images.batch, images.channels};
    for (int64_t axis = 2; per_voxel && axis < a.dim(); ++axis) size.push_back(a.size(axis));
    return empty_packed(a, size, images.result_type());
  }

  // Points the problem to the gradient of the result, [B, C] or the images' size and contiguous,
  // and to where those of the images go.
  void set_gradients(const Tensor& weights, bool per_voxel, bool both, const Tensor& out) {
    images.check_gradient(weights);
    const Tensor& a = images.a;
    STD_TORCH_CHECK(weights.dim() == (per_voxel ? a.dim() : 2),
                    "grad must have the shape of the result");
    for (int64_t axis = 0; axis < weights.dim(); ++axis) {
      STD_TORCH_CHECK(weights.size(axis) == a.size(axis), "grad must have the shape of the result");
    }
    problem.weights = weights.data_ptr();
    problem.weight_per_voxel = per_voxel;
    problem.weight_scale = 1 / static_cast<double>(problem.voxels());
    problem.both = both;
    problem.grads = out.data_ptr();
  }

  // Runs stages(volumes) on the volumes from problem.first_volume on, as many at once as may have
  // coefficients in memory.
  template <class Stages>
  void each_group(const Stages& stages) {
    constexpr int64_t kVoxelsAtOnce = int64_t{4} << 20;
    LocalNccProblem& p = problem;
    if (p.volumes == 0) return;
    const int64_t at_once = std::clamp<int64_t>(kVoxelsAtOnce / p.voxels(), 1, p.volumes);
    const Tensor coefficients =
        empty_packed(images.a, {at_once, p.planes(), p.voxels()}, images.result_type());
    p.coefficients = coefficients.data_ptr();
    for (p.first_volume = 0; p.first_volume < p.volumes; p.first_volume += at_once) {
      stages(std::min(at_once, p.volumes - p.first_volume));
    }
  }

  ImagePair images;
  LocalNccProblem problem;
};

inline void check_moments_gradient(const ImagePair& images, const Tensor& grad) {
  images.check_gradient(grad);
  STD_TORCH_CHECK(grad.dim() == 3 && grad.size(0) == images.batch &&
                      grad.size(1) == images.channels && grad.size(2) == 3,
                  "grad must be [B, C, 3]");
}

inline JointMomentsProblem joint_moments_problem(const ImagePair& images) {
  JointMomentsProblem p;
  p.rows = images.batch * images.channels;
  p.voxels = images.voxels;
  p.channels = images.channels;
  p.type = images.type;
  p.a = images.a.data_ptr();
  p.b = images.b.data_ptr();
  return p;
}

inline void check_histogram_gradient(const ImagePair& images, const Tensor& grad, int64_t bins) {
  images.check_gradient(grad);
  STD_TORCH_CHECK(grad.dim() == 3 && grad.size(0) == images.batch && grad.size(1) == bins &&
                      grad.size(2) == bins,
                  "grad must be [B, bins, bins]");
}

inline JointHistogramProblem joint_histogram_problem(const ImagePair& images, int64_t bins,
                                                     double sigma, bool spline) {
  STD_TORCH_CHECK(bins >= (spline ? 6 : 2) && bins <= 256, "bins must be 2 (6) to 256, got ", bins);
  STD_TORCH_CHECK(sigma >= 0.05 && sigma <= 16, "sigma_ratio must be in 0.05..16, got ", sigma);
  JointHistogramProblem p;
  p.batch = images.batch;
  p.voxels = images.channels * images.voxels;
  // Weights of 2^-56 and 2^-30 of the largest.
  p.window = ParzenWindow::of(bins, sigma, spline, images.type == FloatType::float64 ? 38.8 : 20.8);
  p.type = images.type;
  p.a = images.a.data_ptr();
  p.b = images.b.data_ptr();
  return p;
}

}  // namespace medkern
