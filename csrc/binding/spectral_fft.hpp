// The same transforms by torch's FFT, for shares of modes where that is cheaper: along the last
// axis, then, on its kept modes only, along the others.
#pragma once

#include <complex>
#include <vector>

#include "core/spectral.hpp"
#include "tensor.hpp"

namespace medkern {

// Calls the op that returns one tensor.
template <class... Args>
Tensor call_aten(const char* name, const Args&... args) {
  std::array<StableIValue, sizeof...(Args)> stack{torch::stable::detail::from(args)...};
  STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher(name, "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

// Whether a kept mode is the Nyquist one of `grid`, but not of the size: an FFT has no such cosine.
inline bool needs_cosine(const std::vector<int64_t>& size, const std::vector<int64_t>& modes,
                         const std::vector<int64_t>& grid) {
  for (size_t a = 0; a < size.size(); ++a) {
    const int64_t highest = a + 1 == size.size() ? modes[a] - 1 : modes[a] / 2;
    if (2 * highest == grid[a] && grid[a] != size[a]) return true;
  }
  return false;
}

struct KeptSpectrum {
  std::vector<int64_t> size, modes;
  int64_t images;

  // The row of full-axis frequencies that kept row r is, where negative ones come last.
  int64_t row_of(int64_t r) const {
    int64_t row = 0, step = 1;
    for (size_t a = size.size() - 1; a-- > 0;) {
      const int64_t k = r % modes[a] - modes[a] / 2;
      row += (k < 0 ? k + size[a] : k) * step;
      r /= modes[a];
      step *= size[a];
    }
    return row;
  }

  std::vector<int64_t> full_axes() const {
    std::vector<int64_t> axes;
    for (size_t a = 0; a + 1 < size.size(); ++a) axes.push_back(static_cast<int64_t>(a) + 2);
    return axes;
  }

  // body(image and kept row, image and row of the spectrum)
  template <class Body>
  void each_row(const Body& body) const {
    int64_t kept = 1, rows = 1;
    for (size_t a = 0; a + 1 < size.size(); ++a) {
      kept *= modes[a];
      rows *= size[a];
    }
    parallel_units(images * kept, modes.back(), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) body(i, i / kept * rows + row_of(i % kept));
    });
  }
};

// Multiples of `scale`: how often l counts on `grid` if weighted, over how often an inverse FFT of
// `size` counts it, if that is not 0.
template <class C>
std::vector<C> mode_weights(int64_t modes, int64_t grid, int64_t size, bool weighted,
                            double scale) {
  std::vector<C> weights;
  for (int64_t l = 0; l < modes; ++l) {
    const double counted = weighted && l != 0 && 2 * l != grid ? 2 : 1;
    const double again = size > 0 && l != 0 && 2 * l != size ? 2 : 1;
    weights.push_back(static_cast<C>(scale * counted / again));
  }
  return weights;
}

template <class C>
void fft_kept(const Tensor& x, const KeptSpectrum& kept, const std::vector<C>& weights,
              const Tensor& out) {
  const int64_t last = x.dim() - 1, modes = kept.modes.back(), forward = 0;
  Tensor spectrum = call_aten("aten::_fft_r2c", x, std::vector<int64_t>{last}, forward, true);
  spectrum = torch::stable::narrow(spectrum, last, 0, modes);
  if (last > 2) {
    spectrum = call_aten("aten::_fft_c2c", spectrum, kept.full_axes(), forward, true);
  }
  spectrum = torch::stable::contiguous(spectrum);
  const auto* from = static_cast<const std::complex<C>*>(spectrum.data_ptr());
  auto* to = static_cast<std::complex<C>*>(out.data_ptr());
  kept.each_row([&](int64_t r, int64_t row) {
    for (int64_t l = 0; l < modes; ++l) to[r * modes + l] = weights[l] * from[row * modes + l];
  });
}

template <class C>
void ifft_kept(const Tensor& z, const KeptSpectrum& kept, const std::vector<C>& weights,
               const Tensor& out) {
  const int64_t last = out.dim() - 1, modes = kept.modes.back(), inverse = 0;
  const auto type = sizeof(C) == 8 ? ScalarType::ComplexDouble : ScalarType::ComplexFloat;
  std::vector<int64_t> shape;
  for (int64_t a = 0; a < last; ++a) shape.push_back(out.size(a));
  shape.push_back(modes);
  Tensor narrow = torch::stable::new_zeros(z, shape, type);
  const auto* from = static_cast<const std::complex<C>*>(z.data_ptr());
  auto* to = static_cast<std::complex<C>*>(narrow.data_ptr());
  kept.each_row([&](int64_t r, int64_t row) {
    for (int64_t l = 0; l < modes; ++l) to[row * modes + l] = weights[l] * from[r * modes + l];
  });
  if (last > 2) narrow = call_aten("aten::_fft_c2c", narrow, kept.full_axes(), inverse, false);
  shape.back() = kept.size.back() / 2 + 1;
  Tensor spectrum = torch::stable::new_zeros(z, shape, type);
  Tensor head = torch::stable::narrow(spectrum, last, 0, modes);
  torch::stable::copy_(head, narrow);
  const Tensor result =
      call_aten("aten::_fft_c2r", spectrum, std::vector<int64_t>{last}, inverse, kept.size.back());
  Tensor target = out;
  torch::stable::copy_(target, result);
}

}  // namespace medkern
