// What lies between the Fourier transforms of losses and augmentations; see the kernel headers:
//   fourier_loss_kernels.hpp    losses on half spectra, and their gradients
//   fourier_noise_kernels.hpp   amplitude jitter: a half spectrum times noise made in registers
//   fourier_modes_kernels.hpp   truncated transforms: the lowest modes alone
//   fourier_pack_kernels.hpp    the inverse of a half spectrum, as a transform of half the width
//
// A half spectrum is [images, height, columns = width / 2 + 1] pairs (real, imaginary), contiguous,
// of real images [height, width]. float32 and float64.
#pragma once

#include <cstdint>

#include "common/inline.hpp"

namespace medkern {

enum class SpectrumLoss { focal, amplitude_l1, amplitude_l2, phase };

// The bins between the first and the last column (width even) count twice, as the full spectrum
// has each of them twice. With sums over the full spectrum of an image,
//     focal          sum w(|y|) |x|^2, w = f(|y|) / f(top), f(a) = a^parameter or log(1 + it)
//     amplitude_l1   sum ||x| - |y||
//     amplitude_l2   sum (|x| - |y|)^2
//     phase          sum 1 - cos(arg x - arg y), 0 where an amplitude is at most `parameter`
// and the gradient in x of `grad` times that sum; 0 where an amplitude is 0.
struct SpectrumProblem {
  int64_t images = 0, height = 0, width = 0;
  const void *x = nullptr, *y = nullptr;
  const void* peak = nullptr;  // focal: the largest |y|^2 [images]; null: that of each image
  const void* grad = nullptr;  // gradient: [images]
  void* out = nullptr;         // gradient: a half spectrum
  SpectrumLoss loss = SpectrumLoss::focal;
  double parameter = 1;
  bool log = false;
};

// Rows [begin, end) of an image. `top` is the largest |y|^2 of the image, as a double.
struct SpectrumKernels {
  double (*largest)(const SpectrumProblem&, int64_t image, int64_t begin, int64_t end);
  double (*sum)(const SpectrumProblem&, int64_t image, int64_t begin, int64_t end, double top);
  void (*gradient)(const SpectrumProblem&, int64_t image, int64_t begin, int64_t end, double top);
};
SpectrumKernels spectrum_kernels(bool float64, SpectrumLoss loss);

MEDKERN_INLINE int64_t spectrum_columns(int64_t width) { return width / 2 + 1; }

// Multiplies, in place, by 1 + deviation * z with z from philox.hpp: key (seed), counter (g, row,
// channel, sample), column g + i G from output i, G = ceil(columns / 4). Bins of the first and last
// columns have their conjugate in the same column, whose upper row's number both take.
// deviation^2 = (alpha D + beta) / 2, or (alpha D + beta) for a bin that is its own conjugate, and
// D = |k|^2 / its largest value.
struct NoiseProblem {
  int64_t images = 0, channels = 0, height = 0, width = 0;
  void* spectrum = nullptr;
  const int64_t* stream = nullptr;  // [images / channels, 2]: seed and index of a sample
  double alpha = 6, beta = 0.5;
  bool per_channel = true;  // else the noise of channel 0 serves all
  bool dc_clamp = false;    // keeps the multiplier of the mean at kNoiseFloor or above
};
constexpr double kNoiseFloor = 0.1;

// Pairs [begin, end) of rows k and height - k: an image has height / 2 + 1 of them. scratch:
// noise_scratch(width) numbers.
using NoiseKernel = void (*)(const NoiseProblem&, int64_t begin, int64_t end, void* scratch);
NoiseKernel noise_kernel(bool float64);

MEDKERN_INLINE int64_t noise_pairs(int64_t height) { return height / 2 + 1; }
MEDKERN_INLINE int64_t noise_groups(int64_t width) { return (spectrum_columns(width) + 3) / 4; }
MEDKERN_INLINE int64_t noise_scratch(int64_t width) { return 4 * noise_groups(width) + 64; }

// For an even width W, the spectrum [images, rows, W / 2] pairs of complex arrays whose pairs are
// neighbours along the last axis: one complex transform, without a factor, makes of it
//     out_hw = Re sum_kl m_l S_kl e^(2 pi i (k h + l w / W)),
// where k h is the sum over the other axes of k h / size, and m_l = edge in the first and the last
// column, else inside. With a = m S_kl, b = m S_(-k)(W / 2 - l), e = a + conj b, d = a - conj b, a
// packed bin is (e + i d e^(2 pi i l / W)) / 2; in its column 0 the two outer columns of S meet.
struct PackProblem {
  int64_t images = 0, rows = 0, width = 0;
  const void* spectrum = nullptr;
  const int64_t* mirror = nullptr;                  // [rows]: of frequencies k the row of -k
  const void *cosines = nullptr, *sines = nullptr;  // of 2 pi l / W, l < W / 2
  void* packed = nullptr;
  double edge = 1, inside = 1;
};

// Rows [begin, end) of all images.
using PackKernel = void (*)(const PackProblem&, int64_t begin, int64_t end);
PackKernel pack_kernel(bool float64);

// Modes [images, 2 r + 1, r + 1] pairs, rows k = -r .. r, columns l = 0 .. r:
//     analysis   M_kl = sum_hw x_hw e^(-2 pi i (k h / H + l w / W))
//     synthesis  out_hw = x_hw + Re sum_kl M_kl e^(2 pi i (k h / H + l w / W))
// Tables are cosines and sines, with l padded to `padded` by zeros: across [W / 2 + 1, padded]
// for the analysis, [padded, across_stride] for the synthesis; down [r + 1, H], for the analysis in
// double, like its rows.
struct ModesProblem {
  int64_t images = 0, height = 0, width = 0, radius = 0, padded = 0, across_stride = 0;
  const void *across_cos = nullptr, *across_sin = nullptr;
  const void *down_cos = nullptr, *down_sin = nullptr;
  const void* x = nullptr;  // [images, H, W]
  void* rows = nullptr;     // analysis: workspace [images, H, 2, padded]
  void* modes = nullptr;    // analysis: the result
  // Synthesis: sums and differences of the modes k and -k, [images, 4, r + 1, padded]: real sum,
  // imaginary sum, real difference, imaginary difference.
  const void* folded = nullptr;
  void* out = nullptr;  // [images, H, W]
};

struct ModesKernels {
  // Blocks [begin, end) of kModesRows rows; an image has modes_blocks(height).
  void (*analyse_rows)(const ModesProblem&, int64_t begin, int64_t end, void* scratch);
  void (*analyse_columns)(const ModesProblem&, int64_t begin, int64_t end);  // of images
  void (*synthesise)(const ModesProblem&, int64_t begin, int64_t end, void* scratch);
};
ModesKernels modes_kernels(bool float64);

constexpr int64_t kModesRows = 4, kModesPad = 16, kModesRun = 16;

MEDKERN_INLINE int64_t modes_blocks(int64_t height) {
  return (height + kModesRows - 1) / kModesRows;
}
MEDKERN_INLINE int64_t modes_across_stride(int64_t width) {
  return (spectrum_columns(width) + kModesPad - 1) / kModesPad * kModesPad;
}
// Numbers: two rows of halves, or of sums over columns and of halves.
MEDKERN_INLINE int64_t modes_scratch(const ModesProblem& p) {
  return 2 * kModesRows * (modes_across_stride(p.width) + p.padded);
}

}  // namespace medkern
