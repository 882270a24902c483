// Image similarities on torch's threads.
#include "binding/similarity.hpp"

#include <cmath>
#include <memory>

namespace medkern {
namespace {

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

double value_at(const Tensor& t, int64_t i) {
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

// A value of each image itself, which keeps differences of integers integers.
std::vector<double> centres_of(const ImagePair& images) {
  std::vector<double> centres;
  for (int64_t i = 0; i < images.batch * images.channels; ++i) {
    for (const Tensor* t : {&images.a, &images.b}) {
      const double value = value_at(*t, i * images.voxels + images.voxels / 2);
      centres.push_back(std::isfinite(value) ? value : 0.0);
    }
  }
  return centres;
}

void run_local_ncc(const LocalNccProblem& p, LocalNccStage stage, int64_t first, int64_t volumes) {
  const int64_t per_volume = local_ncc_tiles_per_volume(p);
  const LocalNccKernel kernel = local_ncc_kernel(stage, p.type);
  parallel_units(volumes * per_volume, 8 * p.voxels() / per_volume,
                 [&](int64_t begin, int64_t end) {
                   const std::unique_ptr<std::byte[]> scratch(new std::byte[local_ncc_scratch(p)]);
                   kernel(p, first * per_volume + begin, first * per_volume + end, scratch.get());
                 });
}

Tensor local_ncc(const Tensor& a, const Tensor& b, int64_t window, double eps, bool clamp,
                 bool squared, bool per_voxel) {
  // The slower of two axes serves as z, so that its sums slide.
  LocalNccInputs inputs(a, b, window, eps, clamp, squared, 0);
  LocalNccProblem& p = inputs.problem;
  const Tensor out = inputs.allocate_result(per_voxel);
  if (p.volumes == 0) return out;
  const std::vector<double> centres = centres_of(inputs.images);
  p.centre = centres.data();
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

Tensor local_ncc_backward(const Tensor& a, const Tensor& b, const Tensor& grad, int64_t window,
                          double eps, bool clamp, bool squared, bool per_voxel, bool both) {
  LocalNccInputs inputs(a, b, window, eps, clamp, squared, 0);
  LocalNccProblem& p = inputs.problem;
  const Tensor weights = torch::stable::contiguous(grad);
  const Tensor out = inputs.images.allocate_gradients(both);
  inputs.set_gradients(weights, per_voxel, both, out);
  const std::vector<double> centres = centres_of(inputs.images);
  p.centre = centres.data();
  inputs.each_group([&](int64_t volumes) {
    run_local_ncc(p, LocalNccStage::coefficients, p.first_volume, volumes);
    run_local_ncc(p, LocalNccStage::gradient, p.first_volume, volumes);
  });
  return out;
}

// The moments of every row, in float64.
std::vector<JointMoments> joint_moments_of(JointMomentsProblem p) {
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

Tensor joint_moments(const Tensor& a, const Tensor& b) {
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

Tensor joint_moments_backward(const Tensor& a, const Tensor& b, const Tensor& grad, bool both) {
  const ImagePair images(a, b);
  check_moments_gradient(images, grad);
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

void run_joint_histogram(const JointHistogramProblem& p, bool backward) {
  const int64_t parts = joint_histogram_parts(p);
  const JointHistogramKernel kernel = joint_histogram_kernel(backward, p.type);
  parallel_units(p.batch * parts, 8 * (p.voxels / parts), [&](int64_t begin, int64_t end) {
    const std::unique_ptr<double[]> scratch(new double[joint_histogram_scratch(p)]);
    kernel(p, begin, end, scratch.get());
  });
}

Tensor joint_histogram(const Tensor& a, const Tensor& b, int64_t bins, double sigma, bool spline) {
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

Tensor joint_histogram_backward(const Tensor& a, const Tensor& b, const Tensor& grad, int64_t bins,
                                double sigma, bool spline, bool both) {
  const ImagePair images(a, b);
  check_histogram_gradient(images, grad, bins);
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

}  // namespace
}  // namespace medkern

STABLE_TORCH_LIBRARY_IMPL(medkern, CPU, m) {
  m.impl("local_ncc_loss", TORCH_BOX(&medkern::local_ncc));
  m.impl("_local_ncc_loss_backward", TORCH_BOX(&medkern::local_ncc_backward));
  m.impl("global_ncc", TORCH_BOX(&medkern::joint_moments));
  m.impl("_global_ncc_backward", TORCH_BOX(&medkern::joint_moments_backward));
  m.impl("mutual_information_loss", TORCH_BOX(&medkern::joint_histogram));
  m.impl("_mutual_information_loss_backward", TORCH_BOX(&medkern::joint_histogram_backward));
}
