// Truncated Fourier transforms and mode mixing on tensors: checks and allocation.
//
// What computes is the backend's, of the CPU or of a device; tensors tell it the device:
//   static void transform(const DftCall&, bool inverse, const Tensor& on)
//   static void gather(const DftCall&, const Tensor& spectrum, const Tensor& z)
//   static void scatter(const DftCall&, const Tensor& z, const Tensor& spectrum)
//   static void mix(const MixProblem&, bool float64, const Tensor& on)
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "core/spectral.hpp"
#include "spectral_fft.hpp"
#include "tensor.hpp"

namespace medkern {

// size and modes per axis, and the grid that says which mode is the Nyquist one.
inline void check_dft(const std::vector<int64_t>& size, const std::vector<int64_t>& modes,
                      const std::vector<int64_t>& grid, const std::string& method) {
  STD_TORCH_CHECK(!size.empty() && size.size() <= 3, "there must be 1 to 3 spatial axes, got ",
                  size.size());
  STD_TORCH_CHECK(modes.size() == size.size() && grid.size() == size.size(),
                  "modes and grid must have one number per spatial axis");
  STD_TORCH_CHECK(method == "dft" || method == "fft", "method must be dft or fft");
  for (size_t a = 0; a < size.size(); ++a) {
    const bool last = a + 1 == size.size();
    STD_TORCH_CHECK(size[a] >= 1 && grid[a] >= 1 && modes[a] >= 1,
                    "size, grid and modes must be at least 1");
    STD_TORCH_CHECK(modes[a] <= (last ? size[a] / 2 + 1 : size[a]), "modes must fit the size");
    STD_TORCH_CHECK(modes[a] <= (last ? grid[a] / 2 + 1 : grid[a]), "modes must fit the grid");
  }
}

inline double power_of_samples(const std::vector<int64_t>& grid, double power) {
  double samples = 1;
  for (const int64_t n : grid) samples *= static_cast<double>(n);
  return std::pow(samples, power);
}

inline DftCall dft_call(const std::vector<int64_t>& size, const std::vector<int64_t>& modes,
                        const std::vector<int64_t>& grid, bool weighted, double power) {
  DftCall p;
  p.axes = static_cast<int>(size.size());
  for (size_t a = 0; a < size.size(); ++a) {
    p.size[a] = size[a];
    p.modes[a] = modes[a];
    p.grid[a] = grid[a];
  }
  p.weighted = weighted;
  p.scale = power_of_samples(grid, power);
  return p;
}

template <class Backend>
Tensor dft_kept(const Tensor& x, std::vector<int64_t> modes, std::vector<int64_t> grid,
                bool weighted, double power, std::string method) {
  STD_TORCH_CHECK(x.dim() >= 3, "x must be [B, C, *space], got ", x.dim(), " axes");
  std::vector<int64_t> size, shape{x.size(0), x.size(1)};
  for (int64_t a = 2; a < x.dim(); ++a) size.push_back(x.size(a));
  check_dft(size, modes, grid, method);
  shape.insert(shape.end(), modes.begin(), modes.end());
  shape.push_back(2);
  DftCall p = dft_call(size, modes, grid, weighted, power);
  p.type = float_type_of(x, "x");
  p.images = shape[0] * shape[1];
  const Tensor out = empty_packed(x, shape, compute_type_of(x));
  if (p.images == 0) return out;
  const Tensor input = torch::stable::contiguous(x);
  p.x = input.data_ptr();
  p.z = out.data_ptr();
  if (method == "fft" && fft_can(p)) {
    fft_kept<Backend>(p, input, out);
  } else {
    Backend::transform(p, false, out);
  }
  return out;
}

template <class Backend>
Tensor idft_kept(const Tensor& z, std::vector<int64_t> size, std::vector<int64_t> grid,
                 bool weighted, double power, ScalarType dtype, std::string method) {
  const int64_t last = z.dim() - 1;
  STD_TORCH_CHECK(last >= 3 && z.size(last) == 2, "z must be [B, C, *modes, 2]");
  std::vector<int64_t> modes, shape{z.size(0), z.size(1)};
  for (int64_t a = 2; a < last; ++a) modes.push_back(z.size(a));
  check_dft(size, modes, grid, method);
  shape.insert(shape.end(), size.begin(), size.end());
  DftCall p = dft_call(size, modes, grid, weighted, power);
  p.type = float_type_of(dtype, "x");
  p.images = shape[0] * shape[1];
  const bool wide = p.type == FloatType::float64;
  STD_TORCH_CHECK(z.scalar_type() == (wide ? ScalarType::Double : ScalarType::Float),
                  "z must be float64 for a float64 result, else float32");
  const Tensor out = empty_packed(z, shape, dtype);
  if (p.images == 0) return out;
  const Tensor input = torch::stable::contiguous(z);
  p.z = input.data_ptr();
  p.x = out.data_ptr();
  if (method == "fft" && fft_can(p)) {
    ifft_kept<Backend>(p, input, out);
  } else {
    Backend::transform(p, true, out);
  }
  return out;
}

// t [X, S, K, 2] with its modes contiguous complex numbers, aligned like them.
inline Tensor with_contiguous_modes(const Tensor& t) {
  const bool packed = t.stride(3) == 1 && (t.size(2) == 1 || t.stride(2) == 2);
  const bool even = t.stride(0) % 2 == 0 && t.stride(1) % 2 == 0;
  const auto start = reinterpret_cast<uintptr_t>(t.data_ptr());
  const bool aligned = even && start % (2 * static_cast<uintptr_t>(t.element_size())) == 0;
  return packed && aligned ? t : torch::stable::contiguous(t);
}

template <class Backend>
Tensor mode_mix(const Tensor& a, const Tensor& b, bool conj_a, bool conj_b) {
  STD_TORCH_CHECK(a.dim() == 4 && b.dim() == 4 && a.size(3) == 2 && b.size(3) == 2,
                  "a and b must be [X, S, K, 2] and [Y, S, K, 2]");
  STD_TORCH_CHECK(a.size(1) == b.size(1) && a.size(2) == b.size(2),
                  "a and b must have the same channels to sum over, and the same modes");
  const bool wide = a.scalar_type() == ScalarType::Double;
  STD_TORCH_CHECK(
      (wide || a.scalar_type() == ScalarType::Float) && b.scalar_type() == a.scalar_type(),
      "a and b must both be float32 or float64");
  const Tensor left = with_contiguous_modes(a), right = with_contiguous_modes(b);
  const Tensor out = empty_packed(a, {a.size(0), b.size(0), a.size(2), 2}, a.scalar_type());
  MixProblem p;
  p.x = a.size(0);
  p.y = b.size(0);
  p.s = a.size(1);
  p.length = 2 * a.size(2);
  p.a = left.data_ptr();
  p.b = right.data_ptr();
  p.c = out.data_ptr();
  p.a_x = left.stride(0);
  p.a_s = left.stride(1);
  p.b_y = right.stride(0);
  p.b_s = right.stride(1);
  p.conj_a = conj_a;
  p.conj_b = conj_b;
  if (out.numel() == 0) return out;
  Backend::mix(p, wide, out);
  return out;
}

template <class Backend, class Library>
void register_spectral(Library& m) {
  m.impl("_dft_kept", TORCH_BOX(&dft_kept<Backend>));
  m.impl("_idft_kept", TORCH_BOX(&idft_kept<Backend>));
  m.impl("_mode_mix", TORCH_BOX(&mode_mix<Backend>));
}

}  // namespace medkern
