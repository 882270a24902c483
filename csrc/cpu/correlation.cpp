#include "binding/correlation.hpp"

#include <memory>

#include "core/common/cache.hpp"

namespace medkern {
namespace {

void run_correlation(const CorrelationProblem& p) {
  const CorrelationKernel kernel = correlation_kernel(p.type);
  parallel_units(
      correlation_blocks(p), std::min(p.elements, kCorrelationBlock),
      [&](int64_t begin, int64_t end) {
        const std::unique_ptr<std::byte[]> scratch(new std::byte[correlation_scratch(p)]);
        kernel(p, begin, end, scratch.get());
      });
}

// [images, rows of sums, 3] in the compute type: the sums of the blocks, in their order.
template <class C>
void store_correlation_sums(const CorrelationProblem& p, C* out) {
  const int64_t per_image = correlation_blocks_per_image(p);
  const int64_t count = correlation_sum_rows(p) * kCorrelationSums;
  const int64_t step = p.axes > 0 ? p.images : 1;  // from a block of an image to its next one
  for (int64_t image = 0; image < p.images; ++image) {
    const double* first = p.sums + image * (p.axes > 0 ? 1 : per_image) * count;
    for (int64_t i = 0; i < count; ++i) {
      double total = 0;
      for (int64_t block = 0; block < per_image; ++block) total += first[block * step * count + i];
      out[image * count + i] = static_cast<C>(total);
    }
  }
}

struct Cpu {
  static void sums(CorrelationProblem p, const Tensor& out) {
    const int64_t numbers = correlation_blocks(p) * correlation_sum_rows(p) * kCorrelationSums;
    std::vector<double> sums(static_cast<size_t>(std::max<int64_t>(1, numbers)));
    p.sums = sums.data();
    run_correlation(p);
    if (p.type == FloatType::float64) {
      store_correlation_sums(p, static_cast<double*>(out.data_ptr()));
    } else {
      store_correlation_sums(p, static_cast<float*>(out.data_ptr()));
    }
  }

  static void gradient(CorrelationProblem p, const Tensor& out) {
    p.streams = out.numel() * static_cast<int64_t>(out.element_size()) >= streaming_bytes();
    run_correlation(p);
  }
};

}  // namespace
}  // namespace medkern

STABLE_TORCH_LIBRARY_IMPL(medkern, CPU, m) { medkern::register_correlation<medkern::Cpu>(m); }
