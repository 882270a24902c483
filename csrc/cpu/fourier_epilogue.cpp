#include "binding/fourier_epilogue.hpp"

#include <memory>
#include <new>
#include <vector>

namespace medkern {
namespace {

struct Free {
  void operator()(void* bytes) const { ::operator delete(bytes, std::align_val_t(64)); }
};

void run(const FourierEpilogue& p, bool backward, int64_t units, int64_t pixels_per_unit) {
  const FourierEpilogueKernel kernel = fourier_epilogue_kernel(backward, p.type);
  const size_t bytes = fourier_epilogue_scratch(p, backward);
  parallel_units(units, pixels_per_unit * p.outputs, [&](int64_t begin, int64_t end) {
    const std::unique_ptr<void, Free> scratch(::operator new(bytes, std::align_val_t(64)));
    kernel(p, begin, end, scratch.get());
  });
}

// The sums of all chunks in their order: d_weight [outputs, inputs] and d_bias [outputs].
template <class C>
void add_chunks(const FourierEpilogue& p, C* d_weight, C* d_bias) {
  const int64_t row = p.inputs + 1, chunks = p.chunks();
  parallel_units(p.outputs, row * chunks, [&](int64_t begin, int64_t end) {
    std::vector<double> sum(static_cast<size_t>(row));
    for (int64_t o = begin; o < end; ++o) {
      std::fill(sum.begin(), sum.end(), 0.0);
      for (int64_t c = 0; c < chunks; ++c) {
        const double* part = p.sums + c * p.sums_of_chunk() + o * row;
        for (int64_t i = 0; i < row; ++i) sum[i] += part[i];
      }
      for (int64_t i = 0; i < p.inputs; ++i) d_weight[o * p.inputs + i] = static_cast<C>(sum[i]);
      d_bias[o] = static_cast<C>(sum[p.inputs]);
    }
  });
}

struct Cpu {
  static void forward(const FourierEpilogue& p, const Tensor&) {
    run(p, false, p.tiles(), p.tile());
  }

  static void backward(FourierEpilogue& p, const Tensor& d_weight, const Tensor& d_bias) {
    const int64_t chunks = p.chunks();
    std::vector<double> sums(static_cast<size_t>(chunks * p.sums_of_chunk()));
    p.sums = sums.data();
    if (chunks > 0) run(p, true, chunks, p.batch * p.pixels / chunks);
    if (p.type == FloatType::float64) {
      add_chunks(p, static_cast<double*>(d_weight.data_ptr()),
                 static_cast<double*>(d_bias.data_ptr()));
    } else {
      add_chunks(p, static_cast<float*>(d_weight.data_ptr()),
                 static_cast<float*>(d_bias.data_ptr()));
    }
  }
};

}  // namespace
}  // namespace medkern

STABLE_TORCH_LIBRARY_IMPL(medkern, CPU, m) { medkern::register_fourier_epilogue<medkern::Cpu>(m); }
