// The Fourier ops on tensors: torch's transforms, reached through its dispatcher, around our
// sweeps.
//
// What runs between the transforms is the backend's, of the CPU or of a device; the tensor tells it
// the dtype and the device:
//   static void loss(const SpectrumProblem&, const Tensor& sums)
//   static void loss_gradient(const SpectrumProblem&, const Tensor& out)
//   static void halve_columns(const Tensor& spectrum, int64_t width)
//   static Tensor inverse(const Tensor& spectrum, int64_t width, FftNorm, bool once)
//   static void multiply_by_noise(const NoiseProblem&, const Tensor& spectrum)
//   static void analyse(const ModesProblem&, const Tensor& modes)
//   static void synthesise(const ModesProblem&, const Tensor& out)
#pragma once

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "core/fourier.hpp"
#include "tensor.hpp"
#include "threads.hpp"

namespace medkern {

enum class FftNorm : int64_t { none, by_root_n, by_n };

// aten::<name>(arguments...) -> Tensor
template <class... Arguments>
Tensor call_aten(const char* name, const Arguments&... arguments) {
  std::array<StableIValue, sizeof...(Arguments)> stack{torch::stable::detail::from(arguments)...};
  STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher(name, "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

inline Tensor dense(const Tensor& like, const std::vector<int64_t>& size) {
  return empty_packed(like, size, like.scalar_type());
}

// Images [B, C, H, W], contiguous, with a spectrum.
inline Tensor checked_images(const Tensor& x) {
  const bool known = x.scalar_type() == ScalarType::Float || x.scalar_type() == ScalarType::Double;
  STD_TORCH_CHECK(known, "images must be float32 or float64");
  STD_TORCH_CHECK(x.dim() == 4, "images must be [B, C, H, W], got ", x.dim(), " axes");
  STD_TORCH_CHECK(x.size(2) > 0 && x.size(3) > 0, "images must have no empty spatial axis");
  return torch::stable::contiguous(x);
}

inline Tensor checked_spectrum(const Tensor& s, int64_t width) {
  const bool known = s.scalar_type() == ScalarType::Float || s.scalar_type() == ScalarType::Double;
  STD_TORCH_CHECK(known, "spectra must be float32 or float64");
  STD_TORCH_CHECK(s.dim() == 5 && s.size(4) == 2, "spectra must be [B, C, H, K, 2]");
  STD_TORCH_CHECK(width > 0 && s.size(3) == spectrum_columns(width) && s.size(2) > 0,
                  "spectra of width ", width, " must have ", spectrum_columns(width), " columns");
  return torch::stable::contiguous(s);
}

inline bool is_float64(const Tensor& t) { return t.scalar_type() == ScalarType::Double; }

inline Tensor half_spectrum(const Tensor& images, FftNorm norm) {
  const Tensor complex = call_aten("aten::_fft_r2c", images, std::vector<int64_t>{2, 3},
                                   static_cast<int64_t>(norm), true);
  return torch::stable::contiguous(call_aten("aten::view_as_real", complex));
}

inline Tensor rfft2(const Tensor& x) {
  const Tensor images = checked_images(x);
  if (images.numel() == 0) {
    return dense(x, {x.size(0), x.size(1), x.size(2), spectrum_columns(x.size(3)), 2});
  }
  return half_spectrum(images, FftNorm::by_root_n);
}

// Images [B, C, H, width] from their half spectra, by torch's transforms. An inverse counts the
// bins between the outer columns twice; the adjoint of rfft2 counts them `once`, and then goes axis
// by axis, as a two-dimensional inverse may take for granted that the spectrum is one of a real
// image.
template <class Backend>
Tensor inverse_by_axes(const Tensor& spectrum, int64_t width, FftNorm norm, bool once) {
  const auto factor = static_cast<int64_t>(norm);
  const auto complex = [](const Tensor& t) { return call_aten("aten::view_as_complex", t); };
  if (!once) {
    return torch::stable::contiguous(
        call_aten("aten::_fft_c2r", complex(spectrum), std::vector<int64_t>{2, 3}, factor, width));
  }
  const Tensor columns =
      call_aten("aten::_fft_c2c", complex(spectrum), std::vector<int64_t>{2}, factor, false);
  const Tensor halved = torch::stable::contiguous(call_aten("aten::view_as_real", columns));
  Backend::halve_columns(halved, width);
  return torch::stable::contiguous(
      call_aten("aten::_fft_c2r", complex(halved), std::vector<int64_t>{3}, factor, width));
}

template <class Backend>
Tensor rfft2_adjoint(const Tensor& spectrum, int64_t width) {
  const Tensor given = checked_spectrum(spectrum, width);
  if (given.numel() == 0) {
    return dense(given, {given.size(0), given.size(1), given.size(2), width});
  }
  return Backend::inverse(given, width, FftNorm::by_root_n, true);
}

inline SpectrumLoss spectrum_loss_of(const std::string& kind) {
  const char* names[] = {"focal", "amplitude_l1", "amplitude_l2", "phase"};
  for (int i = 0; i < 4; ++i) {
    if (kind == names[i]) return static_cast<SpectrumLoss>(i);
  }
  STD_TORCH_CHECK(false, "kind must be focal, amplitude_l1, amplitude_l2 or phase, got ", kind);
}

// Contiguous inputs of a loss, and the problem on them.
class SpectrumInputs {
 public:
  SpectrumInputs(const Tensor& x, const Tensor& y, const std::optional<Tensor>& peak, int64_t width,
                 const std::string& kind, double parameter, bool log)
      : x_(checked_spectrum(x, width)), y_(checked_spectrum(y, width)) {
    STD_TORCH_CHECK(x.scalar_type() == y.scalar_type(), "spectra must have one dtype");
    for (int64_t i = 0; i < 5; ++i) {
      STD_TORCH_CHECK(x.size(i) == y.size(i), "spectra must have one shape");
    }
    problem = {x.size(0) * x.size(1), x.size(2), width, x_.data_ptr(), y_.data_ptr()};
    problem.loss = spectrum_loss_of(kind);
    problem.parameter = parameter;
    problem.log = log;
    if (!peak) return;
    STD_TORCH_CHECK(peak->dim() == 2 && peak->size(0) == x.size(0) && peak->size(1) == x.size(1) &&
                        peak->scalar_type() == x.scalar_type(),
                    "peak must be [B, C], in the dtype of the spectra");
    peak_ = torch::stable::contiguous(*peak);
    problem.peak = peak_->data_ptr();
  }

  SpectrumProblem problem;

 private:
  Tensor x_, y_;
  std::optional<Tensor> peak_;
};

template <class Backend>
Tensor spectrum_loss(const Tensor& x, const Tensor& y, const std::optional<Tensor>& peak,
                     int64_t width, std::string kind, double parameter, bool log) {
  const SpectrumInputs inputs(x, y, peak, width, kind, parameter, log);
  const Tensor sums = dense(x, {x.size(0), x.size(1)});
  Backend::loss(inputs.problem, sums);
  return sums;
}

template <class Backend>
Tensor spectrum_loss_backward(const Tensor& x, const Tensor& y, const Tensor& grad,
                              const std::optional<Tensor>& peak, int64_t width, std::string kind,
                              double parameter, bool log) {
  SpectrumInputs inputs(x, y, peak, width, kind, parameter, log);
  STD_TORCH_CHECK(grad.dim() == 2 && grad.size(0) == x.size(0) && grad.size(1) == x.size(1) &&
                      grad.scalar_type() == x.scalar_type(),
                  "grad must be [B, C], in the dtype of the spectra");
  const Tensor weights = torch::stable::contiguous(grad);
  const Tensor out = dense(x, {x.size(0), x.size(1), x.size(2), x.size(3), 2});
  inputs.problem.grad = weights.data_ptr();
  inputs.problem.out = out.data_ptr();
  if (out.numel() > 0) Backend::loss_gradient(inputs.problem, out);
  return out;
}

template <class Backend>
Tensor amplitude_jitter(const Tensor& x, const Tensor& stream, double alpha, double beta,
                        bool per_channel, bool dc_clamp) {
  const Tensor images = checked_images(x);
  STD_TORCH_CHECK(stream.scalar_type() == ScalarType::Long && stream.dim() == 2 &&
                      stream.size(0) == x.size(0) && stream.size(1) == 2,
                  "stream must be [B, 2] int64");
  STD_TORCH_CHECK(alpha >= 0 && beta >= 0, "alpha and beta must not be negative");
  if (images.numel() == 0) return dense(x, {x.size(0), x.size(1), x.size(2), x.size(3)});
  const Tensor keys = torch::stable::contiguous(stream);
  const Tensor spectrum = half_spectrum(images, FftNorm::none);
  const NoiseProblem problem{x.size(0) * x.size(1),
                             x.size(1),
                             x.size(2),
                             x.size(3),
                             spectrum.data_ptr(),
                             static_cast<const int64_t*>(keys.data_ptr()),
                             alpha,
                             beta,
                             per_channel,
                             dc_clamp};
  Backend::multiply_by_noise(problem, spectrum);
  return Backend::inverse(spectrum, x.size(3), FftNorm::by_n, false);
}

// Cosines and sines of 2 pi k n / size for k of the rows and n of the columns: [rows, stride], or
// [columns, stride] where `turned`.
template <class C>
struct WaveTable {
  std::vector<C> cosines, sines;

  WaveTable(int64_t size, int64_t rows, int64_t columns, int64_t stride, bool turned)
      : cosines(static_cast<size_t>((turned ? columns : rows) * stride)), sines(cosines.size()) {
    std::vector<double> c(static_cast<size_t>(size)), s(c.size());
    for (int64_t n = 0; n < size; ++n) {
      const double angle = 2 * M_PI / static_cast<double>(size) * static_cast<double>(n);
      c[n] = std::cos(angle);
      s[n] = std::sin(angle);
    }
    for (int64_t k = 0; k < rows; ++k) {
      for (int64_t n = 0, turn = 0; n < columns; ++n, turn = (turn + k) % size) {
        const int64_t at = turned ? n * stride + k : k * stride + n;
        cosines[at] = static_cast<C>(c[turn]);
        sines[at] = static_cast<C>(s[turn]);
      }
    }
  }
};

inline int64_t padded_modes(int64_t radius) { return (radius + kModesPad) / kModesPad * kModesPad; }

template <class Backend>
Tensor low_modes(const Tensor& x, int64_t radius) {
  const Tensor images = checked_images(x);
  STD_TORCH_CHECK(radius >= 0 && radius <= std::max(x.size(2), x.size(3)),
                  "radius must be from 0 to the size of the image");
  const Tensor modes = dense(x, {x.size(0), x.size(1), 2 * radius + 1, radius + 1, 2});
  ModesProblem p{x.size(0) * x.size(1),         x.size(2), x.size(3), radius, padded_modes(radius),
                 modes_across_stride(x.size(3))};
  p.x = images.data_ptr();
  p.modes = modes.data_ptr();
  if (p.images > 0) Backend::analyse(p, modes);
  return modes;
}

template <class Backend>
Tensor add_low_modes(const Tensor& x, const Tensor& modes) {
  const Tensor images = checked_images(x);
  STD_TORCH_CHECK(modes.dim() == 5 && modes.size(0) == x.size(0) && modes.size(1) == x.size(1) &&
                      modes.size(3) > 0 && modes.size(2) == 2 * modes.size(3) - 1 &&
                      modes.size(4) == 2 && modes.scalar_type() == x.scalar_type(),
                  "modes must be [B, C, 2 r + 1, r + 1, 2], in the dtype of the images");
  const int64_t radius = modes.size(3) - 1;
  const Tensor given = torch::stable::contiguous(modes);
  const Tensor out = dense(x, {x.size(0), x.size(1), x.size(2), x.size(3)});
  ModesProblem p{x.size(0) * x.size(1),         x.size(2), x.size(3), radius, padded_modes(radius),
                 modes_across_stride(x.size(3))};
  p.x = images.data_ptr();
  p.modes = given.data_ptr();
  p.out = out.data_ptr();
  if (p.images > 0) Backend::synthesise(p, out);
  return out;
}

}  // namespace medkern

#define MEDKERN_REGISTER_FOURIER(m, Backend)                                               \
  m.impl("_rfft2", TORCH_BOX(&medkern::rfft2));                                            \
  m.impl("_rfft2_adjoint", TORCH_BOX(&medkern::rfft2_adjoint<Backend>));                   \
  m.impl("_spectrum_loss", TORCH_BOX(&medkern::spectrum_loss<Backend>));                   \
  m.impl("_spectrum_loss_backward", TORCH_BOX(&medkern::spectrum_loss_backward<Backend>)); \
  m.impl("_amplitude_jitter", TORCH_BOX(&medkern::amplitude_jitter<Backend>));             \
  m.impl("_low_modes", TORCH_BOX(&medkern::low_modes<Backend>));                           \
  m.impl("_add_low_modes", TORCH_BOX(&medkern::add_low_modes<Backend>))
