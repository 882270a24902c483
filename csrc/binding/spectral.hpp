// Truncated Fourier transforms and mode mixing on tensors: checks, tables and allocation.
#pragma once

#include <cmath>
#include <new>
#include <string>
#include <vector>

#include "core/spectral.hpp"
#include "core/spectral_tables.hpp"
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

// Scratch memory that starts on a cache line.
struct LineAligned {
  explicit LineAligned(size_t bytes) : data(::operator new(bytes, std::align_val_t{64})) {}
  ~LineAligned() { ::operator delete(data, std::align_val_t{64}); }
  LineAligned(const LineAligned&) = delete;
  LineAligned& operator=(const LineAligned&) = delete;

  void* const data;
};

template <class C>
void run_dft(DftProblem& p, const std::vector<int64_t>& size, const std::vector<int64_t>& modes,
             const std::vector<int64_t>& grid, bool weighted, double scale, bool inverse) {
  std::vector<C> tables[2];
  p.full_axes = static_cast<int>(size.size()) - 1;
  int64_t voxels = 1;
  for (int a = 0; a < p.full_axes; ++a) {
    p.full[a] = {size[a], modes[a]};
    tables[a] = full_axis_table<C>(p.full[a], grid[a], inverse);
    p.tables[a] = tables[a].data();
    voxels *= size[a];
  }
  p.size = size.back();
  p.modes = modes.back();
  const LastAxisTables<C> last(p.size, p.modes, grid.back(), weighted, scale, inverse);
  p.cosines = last.cosines.data();
  p.sines = last.sines.data();
  const DftKernel kernel = dft_kernel(inverse, p.type);
  parallel_units(p.images, voxels * p.size, [&](int64_t begin, int64_t end) {
    const LineAligned scratch(dft_scratch(p));
    kernel(p, begin, end, scratch.data);
  });
}

inline void run_dft(DftProblem& p, const std::vector<int64_t>& size,
                    const std::vector<int64_t>& modes, const std::vector<int64_t>& grid,
                    bool weighted, double scale, bool inverse) {
  if (p.images == 0) return;
  if (p.type == FloatType::float64) {
    run_dft<double>(p, size, modes, grid, weighted, scale, inverse);
  } else {
    run_dft<float>(p, size, modes, grid, weighted, scale, inverse);
  }
}

inline double power_of_samples(const std::vector<int64_t>& grid, double power) {
  double samples = 1;
  for (const int64_t n : grid) samples *= static_cast<double>(n);
  return std::pow(samples, power);
}

// torch's FFT takes neither half precision nor the cosine of a Nyquist mode of another grid.
inline bool by_fft(const DftProblem& p, const std::vector<int64_t>& size,
                   const std::vector<int64_t>& modes, const std::vector<int64_t>& grid,
                   const std::string& method) {
  const bool whole = p.type == FloatType::float32 || p.type == FloatType::float64;
  return method == "fft" && whole && p.images > 0 && !needs_cosine(size, modes, grid);
}

inline Tensor dft_kept_cpu(const Tensor& x, std::vector<int64_t> modes, std::vector<int64_t> grid,
                           bool weighted, double power, std::string method) {
  STD_TORCH_CHECK(x.dim() >= 3, "x must be [B, C, *space], got ", x.dim(), " axes");
  std::vector<int64_t> size, shape{x.size(0), x.size(1)};
  for (int64_t a = 2; a < x.dim(); ++a) size.push_back(x.size(a));
  check_dft(size, modes, grid, method);
  const double scale = power_of_samples(grid, power);
  shape.insert(shape.end(), modes.begin(), modes.end());
  shape.push_back(2);
  DftProblem p;
  p.type = float_type_of(x, "x");
  p.images = shape[0] * shape[1];
  const bool wide = p.type == FloatType::float64;
  const Tensor out = empty_packed(x, shape, wide ? ScalarType::Double : ScalarType::Float);
  const Tensor input = torch::stable::contiguous(x);
  if (by_fft(p, size, modes, grid, method)) {
    const KeptSpectrum kept{size, modes, p.images};
    const int64_t last = modes.back(), period = grid.back();
    wide ? fft_kept(input, kept, mode_weights<double>(last, period, 0, weighted, scale), out)
         : fft_kept(input, kept, mode_weights<float>(last, period, 0, weighted, scale), out);
    return out;
  }
  p.x = input.data_ptr();
  p.z = out.data_ptr();
  run_dft(p, size, modes, grid, weighted, scale, false);
  return out;
}

inline Tensor idft_kept_cpu(const Tensor& z, std::vector<int64_t> size, std::vector<int64_t> grid,
                            bool weighted, double power, ScalarType dtype, std::string method) {
  const int64_t last = z.dim() - 1;
  STD_TORCH_CHECK(last >= 3 && z.size(last) == 2, "z must be [B, C, *modes, 2]");
  std::vector<int64_t> modes, shape{z.size(0), z.size(1)};
  for (int64_t a = 2; a < last; ++a) modes.push_back(z.size(a));
  check_dft(size, modes, grid, method);
  const double scale = power_of_samples(grid, power);
  shape.insert(shape.end(), size.begin(), size.end());
  DftProblem p;
  p.type = float_type_of(dtype, "x");
  p.images = shape[0] * shape[1];
  const bool wide = p.type == FloatType::float64;
  STD_TORCH_CHECK(z.scalar_type() == (wide ? ScalarType::Double : ScalarType::Float),
                  "z must be float64 for a float64 result, else float32");
  const Tensor out = empty_packed(z, shape, dtype);
  const Tensor input = torch::stable::contiguous(z);
  if (by_fft(p, size, modes, grid, method)) {
    const KeptSpectrum kept{size, modes, p.images};
    const int64_t last = modes.back(), period = grid.back(), n = size.back();
    wide ? ifft_kept(input, kept, mode_weights<double>(last, period, n, weighted, scale), out)
         : ifft_kept(input, kept, mode_weights<float>(last, period, n, weighted, scale), out);
    return out;
  }
  p.z = input.data_ptr();
  p.x = out.data_ptr();
  run_dft(p, size, modes, grid, weighted, scale, true);
  return out;
}

// t [X, S, K, 2] with its modes contiguous.
inline Tensor with_contiguous_modes(const Tensor& t) {
  const bool packed = t.stride(3) == 1 && (t.size(2) == 1 || t.stride(2) == 2);
  return packed ? t : torch::stable::contiguous(t);
}

inline Tensor mode_mix_cpu(const Tensor& a, const Tensor& b, bool conj_a, bool conj_b) {
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
  const MixKernel kernel = mix_kernel(wide);
  const auto bytes = static_cast<size_t>(mix_scratch(p) * (wide ? 8 : 4));
  parallel_units(mix_units(p), p.x * p.s * std::min(p.length, kMixLength),
                 [&](int64_t begin, int64_t end) {
                   const LineAligned scratch(bytes);
                   kernel(p, begin, end, scratch.data);
                 });
  return out;
}

}  // namespace medkern
