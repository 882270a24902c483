#include "binding/field.hpp"

#include <cstddef>
#include <memory>

namespace medkern {
namespace {

class OnCpu {
 public:
  static void jacobian(FieldProblem p, const Tensor& u, const Tensor& spacing, const Tensor& out,
                       const Tensor* count) {
    std::vector<int64_t> folds(count ? static_cast<size_t>(p.sample_rows()) : 0);
    p.out = out.data_ptr();
    p.folds = count ? folds.data() : nullptr;
    run(FieldTask::jacobian, p, u, spacing, p.sample_rows());
    const int64_t rows = p.size[0] * p.size[1];
    for (int64_t sample = 0; count && sample < p.batch; ++sample) {
      int64_t sum = 0;
      for (int64_t row = 0; row < rows; ++row) {
        sum += folds[static_cast<size_t>(sample * rows + row)];
      }
      static_cast<int64_t*>(count->data_ptr())[sample] = sum;
    }
  }

  static void jacobian_backward(FieldProblem p, const Tensor& grad, const Tensor& u,
                                const Tensor& spacing, const Tensor& out) {
    p.grad = grad.data_ptr();
    p.out = out.data_ptr();
    run(FieldTask::jacobian_backward, p, u, spacing, p.sample_rows());
  }

  static void smoothness(FieldProblem p, const Tensor& u, const Tensor& spacing,
                         const Tensor& out) {
    std::vector<double> sums(static_cast<size_t>(3 * p.channel_rows()));
    p.sums = sums.data();
    const std::vector<double> lengths = run(FieldTask::smoothness, p, u, spacing, p.channel_rows());
    const int64_t rows = p.channels * p.size[0] * p.size[1];
    for (int64_t sample = 0; sample < p.batch; ++sample) {
      double axis_sum[3] = {0, 0, 0};
      for (int64_t i = 0; i < 3 * rows; ++i) {
        axis_sum[i % 3] += sums[static_cast<size_t>(3 * rows * sample + i)];
      }
      const double* of_sample = lengths.data() + 3 * sample;
      const double length[3] = {of_sample[0], of_sample[1], of_sample[2]};
      const double total = smoothness_total(p, axis_sum, length);
      if (out.scalar_type() == ScalarType::Double) {
        static_cast<double*>(out.data_ptr())[sample] = total;
      } else {
        static_cast<float*>(out.data_ptr())[sample] = static_cast<float>(total);
      }
    }
  }

  static void smoothness_backward(FieldProblem p, const Tensor& grad, const Tensor& u,
                                  const Tensor& spacing, const Tensor& out) {
    p.grad = grad.data_ptr();
    p.out = out.data_ptr();
    run(FieldTask::smoothness_backward, p, u, spacing, p.channel_rows());
  }

 private:
  // Returns the lengths of voxels, [batch, 3].
  static std::vector<double> run(FieldTask task, FieldProblem p, const Tensor& u,
                                 const Tensor& spacing, int64_t rows) {
    std::vector<double> lengths = spacing_rows(spacing, p.batch, p.axes);
    p.u = u.data_ptr();
    p.spacing = lengths.data();
    const FieldKernel kernel = field_kernel(task, float_type_of(u, "displacement"));
    parallel_units(rows, 3 * p.size[2], [&](int64_t begin, int64_t end) {
      const std::unique_ptr<std::byte[]> scratch(new std::byte[field_scratch(p)]);
      kernel(p, begin, end, scratch.get());
    });
    return lengths;
  }
};

}  // namespace
}  // namespace medkern

STABLE_TORCH_LIBRARY_IMPL(medkern, CPU, m) { medkern::FieldOps<medkern::OnCpu>::register_in(m); }
