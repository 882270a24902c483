// Image similarities on tensors: checks, allocation and threads.
#pragma once

#include <cmath>
#include <memory>
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

// The result tensor's values, whatever its type: set(i, value).
template <class Fill>
void fill_result(const Tensor& out, const Fill& fill) {
  if (out.scalar_type() == ScalarType::Double) {
    double* to = static_cast<double*>(out.data_ptr());
    fill([to](int64_t i, double value) { to[i] = value; });
  } else {
    float* to = static_cast<float*>(out.data_ptr());
    fill([to](int64_t i, double value) { to[i] = static_cast<float>(value); });
  }
}

inline double value_at(const Tensor& t, int64_t i) {
  switch (t.scalar_type()) {
    case ScalarType::Double:
      return static_cast<const double*>(t.data_ptr())[i];
    case ScalarType::Float:
      return static_cast<double>(static_cast<const float*>(t.data_ptr())[i]);
    case ScalarType::Half:
      return static_cast<double>(
          static_cast<float>(static_cast<const c10::Half*>(t.data_ptr())[i]));
    default:
      return static_cast<double>(
          static_cast<float>(static_cast<const c10::BFloat16*>(t.data_ptr())[i]));
  }
}

class LocalNccInputs {
 public:
  LocalNccInputs(const Tensor& a, const Tensor& b, int64_t window, double eps, bool clamp,
                 bool squared)
      : images(a, b) {
    const int64_t axes = a.dim() - 2;
    STD_TORCH_CHECK(axes <= 3, "a must have 1 to 3 spatial axes, got ", axes);
    STD_TORCH_CHECK(window >= 1 && window % 2 == 1, "window must be odd, got ", window);
    STD_TORCH_CHECK(window < (int64_t{1} << 20), "window must be below 2^20, got ", window);
    for (int64_t i = 0; i < axes; ++i) {
      // One slow axis serves as z, so that its sums slide; a single axis is x.
      const int64_t to = axes == 2 && i == 0 ? 0 : 3 - axes + i;
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
    set_centres();
    problem.centre = centres_.data();
  }

  ImagePair images;
  LocalNccProblem problem;

 private:
  // A value of the image itself keeps differences of integers integers.
  void set_centres() {
    for (int64_t i = 0; i < problem.volumes; ++i) {
      for (const Tensor* t : {&images.a, &images.b}) {
        const double value = value_at(*t, i * images.voxels + images.voxels / 2);
        centres_.push_back(std::isfinite(value) ? value : 0.0);
      }
    }
  }

  std::vector<double> centres_;
};

inline void run_local_ncc(const LocalNccProblem& p, LocalNccStage stage, int64_t first,
                          int64_t volumes) {
  const int64_t per_volume = local_ncc_tiles_per_volume(p);
  const LocalNccKernel kernel = local_ncc_kernel(stage, p.type);
  parallel_units(volumes * per_volume, 8 * p.voxels() / per_volume,
                 [&](int64_t begin, int64_t end) {
                   const std::unique_ptr<std::byte[]> scratch(new std::byte[local_ncc_scratch(p)]);
                   kernel(p, first * per_volume + begin, first * per_volume + end, scratch.get());
                 });
}

inline Tensor local_ncc_cpu(const Tensor& a, const Tensor& b, int64_t window, double eps,
                            bool clamp, bool squared, bool per_voxel) {
  LocalNccInputs inputs(a, b, window, eps, clamp, squared);
  LocalNccProblem& p = inputs.problem;
  const ImagePair& images = inputs.images;
  std::vector<int64_t> size{images.batch, images.channels};
  for (int64_t axis = 2; per_voxel && axis < a.dim(); ++axis) size.push_back(a.size(axis));
  const Tensor out = empty_packed(a, size, images.result_type());
  if (p.volumes == 0) return out;
  const int64_t per_volume = local_ncc_tiles_per_volume(p);
  std::vector<double> sums(static_cast<size_t>(p.volumes * per_volume));
  per_voxel ? void(p.map = out.data_ptr()) : void(p.sums = sums.data());
  run_local_ncc(p, LocalNccStage::forward, 0, p.volumes);
  if (per_voxel) return out;
  fill_result(out, [&](auto set) {
    for (int64_t i = 0; i < p.volumes; ++i) {
      double sum = 0;
      for (int64_t k = 0; k < per_volume; ++k) sum += sums[i * per_volume + k];
      set(i, sum / static_cast<double>(p.voxels()));
    }
  });
  return out;
}

inline Tensor local_ncc_backward_cpu(const Tensor& a, const Tensor& b, const Tensor& grad,
                                     int64_t window, double eps, bool clamp, bool squared,
                                     bool per_voxel, bool both) {
  constexpr int64_t kVoxelsAtOnce = int64_t{4} << 20;
  LocalNccInputs inputs(a, b, window, eps, clamp, squared);
  LocalNccProblem& p = inputs.problem;
  const ImagePair& images = inputs.images;
  images.check_gradient(grad);
  STD_TORCH_CHECK(grad.dim() == (per_voxel ? a.dim() : 2),
                  "grad must have the shape of the result");
  for (int64_t axis = 0; axis < grad.dim(); ++axis) {
    STD_TORCH_CHECK(grad.size(axis) == a.size(axis), "grad must have the shape of the result");
  }
  const Tensor weights = torch::stable::contiguous(grad);
  const Tensor out = images.allocate_gradients(both);
  if (p.volumes == 0) return out;
  p.weights = weights.data_ptr();
  p.weight_per_voxel = per_voxel;
  p.weight_scale = 1 / static_cast<double>(p.voxels());
  p.both = both;
  p.grads = out.data_ptr();
  const int64_t at_once = std::clamp<int64_t>(kVoxelsAtOnce / p.voxels(), 1, p.volumes);
  const Tensor coefficients =
      empty_packed(a, {at_once, p.planes(), p.voxels()}, images.result_type());
  p.coefficients = coefficients.data_ptr();
  for (p.first_volume = 0; p.first_volume < p.volumes; p.first_volume += at_once) {
    const int64_t count = std::min(at_once, p.volumes - p.first_volume);
    run_local_ncc(p, LocalNccStage::coefficients, p.first_volume, count);
    run_local_ncc(p, LocalNccStage::gradient, p.first_volume, count);
  }
  return out;
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

// The moments of every row, in float64.
inline std::vector<JointMoments> joint_moments_of(JointMomentsProblem p) {
  const int64_t per_row = joint_moments_blocks_per_row(p);
  std::vector<JointMoments> blocks(static_cast<size_t>(p.rows * per_row));
  p.blocks = blocks.data();
  const JointMomentsKernel kernel = joint_moments_kernel(false, p.type);
  parallel_units(p.rows * per_row, std::min(p.voxels, kMomentBlock),
                 [&](int64_t begin, int64_t end) { kernel(p, begin, end); });
  std::vector<JointMoments> rows(static_cast<size_t>(p.rows));
  for (int64_t i = 0; i < p.rows * per_row; ++i) rows[i / per_row].merge(blocks[i]);
  return rows;
}

inline Tensor joint_moments_cpu(const Tensor& a, const Tensor& b) {
  const ImagePair images(a, b);
  const JointMomentsProblem p = joint_moments_problem(images);
  const Tensor out = empty_packed(a, {images.batch, images.channels, 3}, images.result_type());
  const std::vector<JointMoments> rows = joint_moments_of(p);
  fill_result(out, [&](auto set) {
    for (int64_t i = 0; i < p.rows; ++i) {
      set(3 * i, rows[i].var_a / rows[i].count);
      set(3 * i + 1, rows[i].var_b / rows[i].count);
      set(3 * i + 2, rows[i].cross / rows[i].count);
    }
  });
  return out;
}

inline Tensor joint_moments_backward_cpu(const Tensor& a, const Tensor& b, const Tensor& grad,
                                         bool both) {
  const ImagePair images(a, b);
  images.check_gradient(grad);
  STD_TORCH_CHECK(grad.dim() == 3 && grad.size(0) == images.batch &&
                      grad.size(1) == images.channels && grad.size(2) == 3,
                  "grad must be [B, C, 3]");
  JointMomentsProblem p = joint_moments_problem(images);
  const std::vector<JointMoments> rows = joint_moments_of(p);
  const Tensor weights = torch::stable::contiguous(grad), out = images.allocate_gradients(both);
  p.moments = rows.data();
  p.weights = weights.data_ptr();
  p.both = both;
  p.grads = out.data_ptr();
  const JointMomentsKernel kernel = joint_moments_kernel(true, p.type);
  parallel_units(p.rows * joint_moments_blocks_per_row(p), std::min(p.voxels, kMomentBlock),
                 [&](int64_t begin, int64_t end) { kernel(p, begin, end); });
  return out;
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

inline void run_joint_histogram(const JointHistogramProblem& p, bool backward) {
  const int64_t parts = joint_histogram_parts(p);
  const JointHistogramKernel kernel = joint_histogram_kernel(backward, p.type);
  parallel_units(p.batch * parts, 8 * (p.voxels / parts), [&](int64_t begin, int64_t end) {
    const std::unique_ptr<double[]> scratch(new double[joint_histogram_scratch(p)]);
    kernel(p, begin, end, scratch.get());
  });
}

inline Tensor joint_histogram_cpu(const Tensor& a, const Tensor& b, int64_t bins, double sigma,
                                  bool spline) {
  const ImagePair images(a, b);
  JointHistogramProblem p = joint_histogram_problem(images, bins, sigma, spline);
  const Tensor out = empty_packed(a, {images.batch, bins, bins}, images.result_type());
  const ParzenWindow& w = p.window;
  const int64_t parts = joint_histogram_parts(p), size = w.padded_size();
  std::vector<double> memory(static_cast<size_t>(p.batch * parts * size));
  p.parts = memory.data();
  run_joint_histogram(p, false);
  const double scale = 1 / static_cast<double>(std::max<int64_t>(p.voxels, 1));
  fill_result(out, [&](auto set) {
    for (int64_t i = 0; i < p.batch * bins * bins; ++i) {
      const int64_t sample = i / (bins * bins), k = i / bins % bins, l = i % bins;
      double sum = 0;
      for (int64_t part = 0; part < parts; ++part) {
        sum += memory[(sample * parts + part) * size + w.at(k, l)];
      }
      set(i, sum * scale);
    }
  });
  return out;
}

inline Tensor joint_histogram_backward_cpu(const Tensor& a, const Tensor& b, const Tensor& grad,
                                           int64_t bins, double sigma, bool spline, bool both) {
  const ImagePair images(a, b);
  images.check_gradient(grad);
  STD_TORCH_CHECK(grad.dim() == 3 && grad.size(0) == images.batch && grad.size(1) == bins &&
                      grad.size(2) == bins,
                  "grad must be [B, bins, bins]");
  JointHistogramProblem p = joint_histogram_problem(images, bins, sigma, spline);
  const ParzenWindow& w = p.window;
  const Tensor pulls = torch::stable::contiguous(grad), out = images.allocate_gradients(both);
  std::vector<double> weights(static_cast<size_t>(p.batch * w.padded_size()));
  const double scale = 1 / static_cast<double>(std::max<int64_t>(p.voxels, 1));
  for (int64_t i = 0; i < p.batch * bins * bins; ++i) {
    const int64_t sample = i / (bins * bins), k = i / bins % bins, l = i % bins;
    weights[sample * w.padded_size() + w.at(k, l)] = value_at(pulls, i) * scale;
  }
  p.weights = weights.data();
  p.both = both;
  p.grads = out.data_ptr();
  run_joint_histogram(p, true);
  return out;
}

}  // namespace medkern
