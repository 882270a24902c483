// The same transforms by torch's FFT, for shares of modes where that is cheaper: along the last
// axis, then, on its kept modes only, along the others.
#pragma once

#include <vector>

#include "core/spectral.hpp"
#include "tensor.hpp"

namespace medkern {

// Whether a kept mode is the Nyquist one of the grid, but not of the size: an FFT has no such
// cosine.
inline bool needs_cosine(const DftCall& p) {
  for (int a = 0; a < p.axes; ++a) {
    const int64_t highest = a == p.last() ? p.modes[a] - 1 : p.modes[a] / 2;
    if (2 * highest == p.grid[a] && p.grid[a] != p.size[a]) return true;
  }
  return false;
}

// torch's FFT takes no half precision either.
inline bool fft_can(const DftCall& p) {
  const bool whole = p.type == FloatType::float32 || p.type == FloatType::float64;
  return whole && p.images > 0 && !needs_cosine(p);
}

inline std::vector<int64_t> full_axes(const DftCall& p) {
  std::vector<int64_t> axes;
  for (int a = 0; a < p.last(); ++a) axes.push_back(a + 2);
  return axes;
}

// Backend::gather(call, spectrum, z): z = weighted kept rows of the spectrum [images, rows, modes].
template <class Backend>
void fft_kept(const DftCall& p, const Tensor& x, const Tensor& z) {
  const int64_t last = x.dim() - 1, forward = 0;
  Tensor spectrum = call_aten("aten::_fft_r2c", x, std::vector<int64_t>{last}, forward, true);
  spectrum = torch::stable::narrow(spectrum, last, 0, p.modes[p.last()]);
  if (last > 2) spectrum = call_aten("aten::_fft_c2c", spectrum, full_axes(p), forward, true);
  Backend::gather(p, torch::stable::contiguous(spectrum), z);
}

// Backend::scatter(call, z, spectrum): the weighted rows of z into a spectrum of zeros.
template <class Backend>
void ifft_kept(const DftCall& p, const Tensor& z, const Tensor& x) {
  const int64_t last = x.dim() - 1, modes = p.modes[p.last()], inverse = 0;
  const bool wide = p.type == FloatType::float64;
  const auto type = wide ? ScalarType::ComplexDouble : ScalarType::ComplexFloat;
  std::vector<int64_t> shape;
  for (int64_t a = 0; a < last; ++a) shape.push_back(x.size(a));
  shape.push_back(modes);
  Tensor narrow = torch::stable::new_zeros(z, shape, type);
  Backend::scatter(p, z, narrow);
  if (last > 2) narrow = call_aten("aten::_fft_c2c", narrow, full_axes(p), inverse, false);
  shape.back() = p.size[p.last()] / 2 + 1;
  Tensor spectrum = torch::stable::new_zeros(z, shape, type);
  Tensor head = torch::stable::narrow(spectrum, last, 0, modes);
  torch::stable::copy_(head, narrow);
  const Tensor result =
      call_aten("aten::_fft_c2r", spectrum, std::vector<int64_t>{last}, inverse, p.size[p.last()]);
  Tensor target = x;
  torch::stable::copy_(target, result);
}

}  // namespace medkern
