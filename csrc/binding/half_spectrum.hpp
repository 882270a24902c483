// Half spectra of real tensors, by torch's transforms, reached through its dispatcher.
//
// What runs between the transforms is the backend's, of the CPU or of a device:
//   static void halve_columns(const Tensor& spectrum, int64_t width)
//   static Tensor inverse(const Tensor& spectrum, int64_t width, FftNorm norm, bool once)
#pragma once

#include <numeric>
#include <vector>

#include "core/fourier.hpp"
#include "tensor.hpp"

namespace medkern {

enum class FftNorm : int64_t { none, by_root_n, by_n };

inline bool is_float64(const Tensor& t) { return t.scalar_type() == ScalarType::Double; }

inline void check_spectral_type(const Tensor& t, const char* name) {
  STD_TORCH_CHECK(t.scalar_type() == ScalarType::Float || is_float64(t), name,
                  " must be float32 or float64");
}

// The first `count` axes of space of [B, C, *space].
inline std::vector<int64_t> space_axes(int64_t count) {
  std::vector<int64_t> axes(static_cast<size_t>(count));
  std::iota(axes.begin(), axes.end(), 2);
  return axes;
}

// [B, C, *half, 2] of x [B, C, *space], contiguous and not empty.
inline Tensor half_spectrum_of(const Tensor& x, FftNorm norm) {
  const Tensor complex =
      call_aten("aten::_fft_r2c", x, space_axes(x.dim() - 2), static_cast<int64_t>(norm), true);
  return torch::stable::contiguous(call_aten("aten::view_as_real", complex));
}

// x [B, C, *space] of a half spectrum, contiguous and not empty, by torch's transforms. An inverse
// counts the bins between the outer columns twice; the adjoint counts them `once`, and then takes
// the last axis by itself, as an inverse over several may take for granted that the spectrum is one
// of a real array.
template <class Backend>
Tensor inverse_by_axes(const Tensor& spectrum, int64_t width, FftNorm norm, bool once) {
  const auto factor = static_cast<int64_t>(norm);
  const auto axes = space_axes(spectrum.dim() - 3);
  const auto complex = [](const Tensor& t) { return call_aten("aten::view_as_complex", t); };
  if (!once) {
    return torch::stable::contiguous(
        call_aten("aten::_fft_c2r", complex(spectrum), axes, factor, width));
  }
  Tensor rows = spectrum;
  if (axes.size() == 1) {
    rows = torch::stable::clone(spectrum);
  } else {
    const auto others = space_axes(spectrum.dim() - 4);
    rows = call_aten("aten::_fft_c2c", complex(spectrum), others, factor, false);
    rows = torch::stable::contiguous(call_aten("aten::view_as_real", rows));
  }
  Backend::halve_columns(rows, width);
  return torch::stable::contiguous(
      call_aten("aten::_fft_c2r", complex(rows), std::vector<int64_t>{axes.back()}, factor, width));
}

// torch's transforms refuse what is empty.
inline Tensor half_spectrum(const Tensor& x) {
  check_spectral_type(x, "x");
  STD_TORCH_CHECK(x.dim() >= 3 && x.size(x.dim() - 1) > 0, "x must be [B, C, *space, width > 0]");
  if (x.numel() > 0) return half_spectrum_of(torch::stable::contiguous(x), FftNorm::by_root_n);
  std::vector<int64_t> size = sizes_of(x);
  size.back() = spectrum_columns(size.back());
  size.push_back(2);
  return empty_packed(x, size, x.scalar_type());
}

// Contiguous, and where torch takes pairs for complex numbers.
inline Tensor in_pairs(const Tensor& spectrum) {
  const Tensor given = torch::stable::contiguous(spectrum);
  const auto at = reinterpret_cast<uintptr_t>(given.data_ptr());
  return at % (2 * given.element_size()) == 0 ? given : torch::stable::clone(given);
}

template <class Backend>
Tensor half_spectrum_adjoint(const Tensor& spectrum, int64_t width) {
  check_spectral_type(spectrum, "spectrum");
  std::vector<int64_t> size = sizes_of(spectrum);
  const size_t dim = size.size();
  STD_TORCH_CHECK(
      dim >= 4 && size[dim - 1] == 2 && width > 0 && size[dim - 2] == spectrum_columns(width),
      "spectrum must be [B, C, *half, 2] of the width given");
  if (spectrum.numel() > 0) {
    return Backend::inverse(in_pairs(spectrum), width, FftNorm::by_root_n, true);
  }
  size.pop_back();
  size.back() = width;
  return empty_packed(spectrum, size, spectrum.scalar_type());
}

template <class Backend, class Library>
void register_half_spectrum(Library& m) {
  m.impl("_half_spectrum", TORCH_BOX(&half_spectrum));
  m.impl("_half_spectrum_adjoint", TORCH_BOX(&half_spectrum_adjoint<Backend>));
}

}  // namespace medkern
