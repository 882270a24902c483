// The Fourier ops on tensors: torch's transforms, reached through its dispatcher, around our
// sweeps.
//
// What runs between the transforms is the backend's, of the CPU or of a device; the tensor tells it
// the dtype and the device:
//   static void loss(const SpectrumProblem&, const Tensor& sums)
//   static void loss_gradient(const SpectrumProblem&, const Tensor& out)
//   static Tensor inverse(const Tensor& spectrum, int64_t width, FftNorm, bool once)
//   static void multiply_by_noise(const NoiseProblem&, const Tensor& spectrum)
//   static void analyse(const ModesProblem&, const Tensor& modes)
//   static void synthesise(const ModesProblem&, const Tensor& out)
#pragma once

#include <string>
#include <vector>

#include "half_spectrum.hpp"
#include "threads.hpp"

namespace medkern {

inline Tensor dense(const Tensor& like, const std::vector<int64_t>& size) {
  return empty_packed(like, size, like.scalar_type());
}

// Images [B, C, H, W], contiguous, with a spectrum.
inline Tensor checked_images(const Tensor& x) {
  check_spectral_type(x, "images");
  STD_TORCH_CHECK(x.dim() == 4, "images must be [B, C, H, W], got ", x.dim(), " axes");
  STD_TORCH_CHECK(x.size(2) > 0 && x.size(3) > 0, "images must have no empty spatial axis");
  return torch::stable::contiguous(x);
}

inline Tensor checked_spectrum(const Tensor& s, int64_t width) {
  check_spectral_type(s, "spectra");
  STD_TORCH_CHECK(s.dim() == 5 && s.size(4) == 2, "spectra must be [B, C, H, K, 2]");
  STD_TORCH_CHECK(width > 0 && s.size(3) == spectrum_columns(width) && s.size(2) > 0,
                  "spectra of width ", width, " must have ", spectrum_columns(width), " columns");
  return torch::stable::contiguous(s);
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
  const Tensor spectrum = half_spectrum_of(images, FftNorm::none);
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
  m.impl("_spectrum_loss", TORCH_BOX(&medkern::spectrum_loss<Backend>));                   \
  m.impl("_spectrum_loss_backward", TORCH_BOX(&medkern::spectrum_loss_backward<Backend>)); \
  m.impl("_amplitude_jitter", TORCH_BOX(&medkern::amplitude_jitter<Backend>));             \
  m.impl("_low_modes", TORCH_BOX(&medkern::low_modes<Backend>));                           \
  m.impl("_add_low_modes", TORCH_BOX(&medkern::add_low_modes<Backend>))
