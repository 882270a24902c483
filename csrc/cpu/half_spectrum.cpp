#include "half_spectrum.hpp"

#include <cmath>

#include "waves.hpp"

namespace medkern {
namespace {

template <class C>
void halve(const Tensor& spectrum, int64_t width) {
  const int64_t columns = spectrum_columns(width), last = columns - (width % 2 == 0 ? 1 : 0);
  C* data = static_cast<C*>(spectrum.data_ptr());
  parallel_units(spectrum.numel() / (2 * columns), 2 * columns, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      C* at = data + row * 2 * columns;
      for (int64_t i = 2; i < 2 * last; ++i) at[i] *= C(0.5);
    }
  });
}

// Of every row of the axes given the row of its negative frequencies.
std::vector<int64_t> mirrored_rows(const std::vector<int64_t>& size) {
  std::vector<int64_t> mirror{0};
  for (const int64_t n : size) {
    std::vector<int64_t> finer;
    finer.reserve(mirror.size() * static_cast<size_t>(n));
    for (const int64_t row : mirror) {
      for (int64_t k = 0; k < n; ++k) finer.push_back(row * n + (k == 0 ? 0 : n - k));
    }
    mirror = std::move(finer);
  }
  return mirror;
}

double factor_of(FftNorm norm, double bins) {
  return norm == FftNorm::by_n ? 1 / bins : norm == FftNorm::by_root_n ? 1 / std::sqrt(bins) : 1;
}

// The pairs that PackProblem makes of a spectrum, [B, C, *space, width / 2, 2].
template <class C>
Tensor packed_spectrum(const Tensor& spectrum, int64_t width, FftNorm norm, bool once) {
  std::vector<int64_t> size = sizes_of(spectrum);
  const std::vector<int64_t> mirror = mirrored_rows({size.begin() + 2, size.end() - 2});
  size[size.size() - 2] = width / 2;
  const Tensor packed = empty_packed(spectrum, size, spectrum.scalar_type());
  const WaveTable<C> waves(width, 2, width / 2, width / 2, false);
  const auto rows = static_cast<int64_t>(mirror.size());
  PackProblem p{size[0] * size[1], rows, width, spectrum.data_ptr(), mirror.data()};
  p.cosines = waves.cosines.data() + width / 2;
  p.sines = waves.sines.data() + width / 2;
  p.packed = packed.data_ptr();
  p.edge = factor_of(norm, static_cast<double>(rows * width));
  p.inside = once ? p.edge : 2 * p.edge;
  const PackKernel kernel = pack_kernel(sizeof(C) == sizeof(double));
  parallel_units(p.images * rows, 2 * width,
                 [&](int64_t begin, int64_t end) { kernel(p, begin, end); });
  return packed;
}

}  // namespace

void HalfSpectrumCpu::halve_columns(const Tensor& spectrum, int64_t width) {
  is_float64(spectrum) ? halve<double>(spectrum, width) : halve<float>(spectrum, width);
}

Tensor HalfSpectrumCpu::inverse(const Tensor& spectrum, int64_t width, FftNorm norm, bool once) {
  if (width % 2 == 1) return inverse_by_axes<HalfSpectrumCpu>(spectrum, width, norm, once);
  const Tensor packed = is_float64(spectrum) ? packed_spectrum<double>(spectrum, width, norm, once)
                                             : packed_spectrum<float>(spectrum, width, norm, once);
  const Tensor numbers =
      call_aten("aten::_fft_c2c", call_aten("aten::view_as_complex", packed),
                space_axes(spectrum.dim() - 3), static_cast<int64_t>(FftNorm::none), false);
  const Tensor pairs = torch::stable::contiguous(call_aten("aten::view_as_real", numbers));
  std::vector<int64_t> size = sizes_of(pairs);
  size.pop_back();
  size.back() = width;
  return call_aten("aten::view", pairs, size);
}

}  // namespace medkern

STABLE_TORCH_LIBRARY_IMPL(medkern, CPU, m) {
  medkern::register_half_spectrum<medkern::HalfSpectrumCpu>(m);
}
