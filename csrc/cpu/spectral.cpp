#include "binding/spectral.hpp"

#include <complex>
#include <new>
#include <vector>

#include "core/spectral_tables.hpp"

namespace medkern {
namespace {

// Scratch memory that starts on a cache line.
struct LineAligned {
  explicit LineAligned(size_t bytes) : data(::operator new(bytes, std::align_val_t{64})) {}
  ~LineAligned() { ::operator delete(data, std::align_val_t{64}); }
  LineAligned(const LineAligned&) = delete;
  LineAligned& operator=(const LineAligned&) = delete;

  void* const data;
};

struct Cpu {
  static void transform(const DftCall& call, bool inverse, const Tensor&) {
    if (call.type == FloatType::float64) {
      run<double>(call, inverse);
    } else {
      run<float>(call, inverse);
    }
  }

  static void gather(const DftCall& p, const Tensor& spectrum, const Tensor& z) {
    if (p.type == FloatType::float64) {
      copy_kept<double>(p, true, spectrum.data_ptr(), z.data_ptr());
    } else {
      copy_kept<float>(p, true, spectrum.data_ptr(), z.data_ptr());
    }
  }

  static void scatter(const DftCall& p, const Tensor& z, const Tensor& spectrum) {
    if (p.type == FloatType::float64) {
      copy_kept<double>(p, false, z.data_ptr(), spectrum.data_ptr());
    } else {
      copy_kept<float>(p, false, z.data_ptr(), spectrum.data_ptr());
    }
  }

  static void mix(const MixProblem& p, bool float64, const Tensor&) {
    const MixKernel kernel = mix_kernel(float64);
    const auto bytes = static_cast<size_t>(mix_scratch(p) * (float64 ? 8 : 4));
    parallel_units(mix_units(p), p.x * p.s * std::min(p.length, kMixLength),
                   [&](int64_t begin, int64_t end) {
                     const LineAligned scratch(bytes);
                     kernel(p, begin, end, scratch.data);
                   });
  }

 private:
  template <class C>
  static void run(const DftCall& call, bool inverse) {
    DftProblem p;
    p.inverse = inverse;
    p.full_axes = call.last();
    std::vector<C> tables[2];
    for (int a = 0; a < p.full_axes; ++a) {
      p.full[a] = {call.size[a], call.modes[a]};
      tables[a] = full_axis_table<C>(p.full[a], call.grid[a], inverse);
      p.tables[a] = tables[a].data();
    }
    p.size = call.size[call.last()];
    p.modes = call.modes[call.last()];
    p.images = call.images;
    p.type = call.type;
    p.x = call.x;
    p.z = call.z;
    const LastAxisTables<C> last(call, inverse);
    p.cosines = last.cosines.data();
    p.sines = last.sines.data();
    const DftKernel kernel = dft_kernel(p.type);
    parallel_units(p.images, call.rows() * p.size, [&](int64_t begin, int64_t end) {
      const LineAligned scratch(dft_scratch(p));
      kernel(p, begin, end, scratch.data);
    });
  }

  // From a spectrum [images, rows, modes] to its kept rows, or back.
  template <class C>
  static void copy_kept(const DftCall& p, bool gather, const void* from, void* to) {
    const int64_t modes = p.modes[p.last()], kept = p.kept_rows(), rows = p.rows();
    std::vector<C> weights;
    for (int64_t l = 0; l < modes; ++l) {
      weights.push_back(static_cast<C>(gather ? p.weight(l) : p.inverse_fft_weight(l)));
    }
    const auto* source = static_cast<const std::complex<C>*>(from);
    auto* target = static_cast<std::complex<C>*>(to);
    parallel_units(p.images * kept, modes, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row = i / kept * rows + p.row_of(i % kept);
        const int64_t here = (gather ? row : i) * modes, there = (gather ? i : row) * modes;
        for (int64_t l = 0; l < modes; ++l) target[there + l] = weights[l] * source[here + l];
      }
    });
  }
};

}  // namespace
}  // namespace medkern

STABLE_TORCH_LIBRARY_IMPL(medkern, CPU, m) { medkern::register_spectral<medkern::Cpu>(m); }
