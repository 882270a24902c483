// Truncated Fourier transforms of real images, and the mixing of their modes.
//
// x: [images, *size] contiguous, 1 to 3 axes; z: [images, *modes, 2] contiguous, interleaved
// complex numbers. Full axes (all but the last) keep the modes k = -(m/2) .. (m-1)/2 in this order,
// the last one l = 0 .. m-1:
//     forward  z_kl = s sum_x c_l x exp(-i (k, l).x)
//     inverse  x    = s sum_kl c_l Re(z_kl exp(i (k, l).x))
// Each is the adjoint of the other. Scale and weights are in the tables of the last axis.
//
// Along an axis of N samples, samples y, N - y, N/2 - y and N/2 + y share their cosines and sines
// up to signs that depend on the parity of k, so sums and differences of these four ("folding"; two
// for odd N) halve the work twice, and on a full axis +k shares it with -k. Everything stays real
// up to the last axis, which is the contiguous one: axes go slowest first, so that the largest
// products run along contiguous columns.
//
// Products per image: about N_1 N_2 N_3 (m_1 + 1) / 4 along the first axis, and m / N as much at
// each next one; along the last, rows N m / 2, twice that for odd N. float16, bfloat16 and float32
// compute in float32, float64 in float64, with fused multiply-add where the instruction set has it:
// the baseline alone rounds differently. A number depends on its own image only, so that threads
// change no bit. Source: Drozdov and Sorokin, "FNOReg", sections 3 and 6.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/float_type.hpp"

namespace medkern {

constexpr int64_t kDftColumns = 64;  // of an image that go through a full axis together
constexpr int64_t kDftRows = 32;     // of one axis that go through it together
constexpr int64_t kDftSums = 32768;  // about: folded samples of the last axis, in the L2 cache

// `count` elements of C rounded up to whole cache lines.
template <class C>
MEDKERN_INLINE int64_t line_padded(int64_t count) {
  constexpr int64_t per_line = 64 / static_cast<int64_t>(sizeof(C));
  return (count + per_line - 1) / per_line * per_line;
}

// A full axis. Its transform has `rows` real rows: cosines of k = 0 .. half, sines of k = 1 ..
// half, in groups of the same sums: even and odd k apart where the size is even.
struct FullAxis {
  int64_t size = 1, modes = 1;

  MEDKERN_INLINE int64_t half() const { return modes / 2; }
  MEDKERN_INLINE int64_t rows() const { return 2 * half() + 1; }
  MEDKERN_INLINE bool quartered() const { return size % 2 == 0; }
  MEDKERN_INLINE int groups() const { return quartered() ? 4 : 2; }
  MEDKERN_INLINE int64_t samples() const { return quartered() ? size / 4 + 1 : size / 2 + 1; }
  MEDKERN_INLINE int64_t group_rows(int g) const {
    if (!quartered()) return half() + (g == 0);
    return g % 2 ? (half() + 1) / 2 : half() / 2 + (g == 0);
  }
  MEDKERN_INLINE int64_t cos_row(int64_t k) const {
    return !quartered() ? k : k / 2 + (k % 2 ? half() / 2 + 1 : 0);
  }
  MEDKERN_INLINE int64_t sin_row(int64_t k) const {
    if (!quartered()) return half() + k;
    return half() + (k % 2 ? 1 + half() / 2 + k / 2 : k / 2);
  }
};

// The last axis. A line holds the real parts of its modes, then the imaginary ones, each in groups
// of the same sums: where the size is even, even modes before odd ones.
template <class C>
struct LastAxis {
  int64_t size, modes;
  bool quartered;
  int64_t odd = 0;   // where the odd modes start
  int64_t line = 0;  // extent of the modes

  // Forward, groups are columns of a product, in whole cache lines: quartering a few modes would
  // then only add lines.
  MEDKERN_INLINE LastAxis(int64_t size_, int64_t modes_, bool inverse)
      : size(size_), modes(modes_), quartered(size_ % 2 == 0), line(line_padded<C>(modes_)) {
    const int64_t evens = (modes + 1) / 2, columns = line_padded<C>(evens);
    const int64_t apart = columns + line_padded<C>(modes - evens);
    if (!inverse) quartered = quartered && apart < 2 * line;
    if (!quartered) return;
    odd = inverse ? evens : columns;
    line = inverse ? line : apart;
  }

  MEDKERN_INLINE int parities() const { return quartered ? 2 : 1; }
  MEDKERN_INLINE int64_t samples() const { return (quartered ? size / 4 : size / 2) + 1; }
  MEDKERN_INLINE int64_t width() const { return line_padded<C>(samples()); }
  MEDKERN_INLINE int64_t start(int parity) const { return parity ? odd : 0; }
  MEDKERN_INLINE int64_t group(int parity) const {  // how many modes
    return !quartered ? modes : parity ? modes / 2 : (modes + 1) / 2;
  }
  MEDKERN_INLINE int64_t columns(int parity) const { return line_padded<C>(group(parity)); }
  // Rows that are folded together.
  MEDKERN_INLINE int64_t batch() const {
    const int64_t rows = kDftSums / (2 * parities() * width());
    return rows < 8 ? 8 : rows < kDftRows ? rows : kDftRows;
  }
  MEDKERN_INLINE int64_t at(int64_t l) const { return quartered ? start(l % 2) + l / 2 : l; }
};

// A transform of whole tensors, on any device: x [images, *size], z [images, *modes, 2].
struct DftCall {
  int axes = 0;
  int64_t images = 0;
  int64_t size[3] = {}, modes[3] = {};
  int64_t grid[3] = {};  // the extents on which modes are, or are not, the Nyquist one
  bool weighted = false;
  double scale = 1;
  FloatType type = FloatType::float32;  // of x
  void *x = nullptr, *z = nullptr;

  MEDKERN_INLINE int last() const { return axes - 1; }
  // Of images: full axes merged.
  MEDKERN_INLINE int64_t rows() const { return product(size, axes - 1); }
  MEDKERN_INLINE int64_t kept_rows() const { return product(modes, axes - 1); }

  // Where a spectrum has kept row r: negative frequencies come last.
  MEDKERN_INLINE int64_t row_of(int64_t r) const {
    int64_t row = 0, step = 1;
    for (int a = axes - 2; a >= 0; --a) {
      const int64_t k = r % modes[a] - modes[a] / 2;
      row += (k < 0 ? k + size[a] : k) * step;
      r /= modes[a];
      step *= size[a];
    }
    return row;
  }

  // How often mode l of the last axis counts, times the scale.
  MEDKERN_INLINE double weight(int64_t l) const {
    return weighted && l != 0 && 2 * l != grid[last()] ? 2 * scale : scale;
  }
  // The same for an inverse FFT, which counts by itself what its size has twice.
  MEDKERN_INLINE double inverse_fft_weight(int64_t l) const {
    return l != 0 && 2 * l != size[last()] ? weight(l) / 2 : weight(l);
  }

  static MEDKERN_INLINE int64_t product(const int64_t (&of)[3], int count) {
    int64_t value = 1;
    for (int a = 0; a < count; ++a) value *= of[a];
    return value;
  }
};

struct DftProblem {
  bool inverse = false;
  int full_axes = 0;  // 0, 1 or 2
  FullAxis full[2];
  int64_t size = 1, modes = 1;  // of the last axis
  int64_t images = 0;
  FloatType type = FloatType::float32;  // of x
  void *x = nullptr, *z = nullptr;
  // In the compute type. Full axes: forward [rows, samples], inverse [samples, rows]. Last axis:
  // forward [samples, line], inverse [modes, width].
  const void* tables[2] = {nullptr, nullptr};
  const void *cosines = nullptr, *sines = nullptr;
};

// Processes images [begin, end) with dft_scratch(problem) bytes on a cache line's boundary.
using DftKernel = void (*)(const DftProblem&, int64_t begin, int64_t end, void* scratch);

// The kernel for the instruction set in use; x: the type of the samples.
DftKernel dft_kernel(FloatType x);

// Where a thread's buffers start, in elements of C.
template <class C>
struct DftLayout {
  int64_t real_rows = 1, kept_rows = 1;  // of all full axes: cosines and sines; signed modes
  int64_t row = 0, line = 0;             // extents of a row of samples, and of a line of modes
  int64_t slab = 0;                      // first full axis of two: step between its rows
  int64_t folded = 0, planes = 0, rows = 0, row_sums = 0, lines = 0, half_kept = 0, kept = 0;
  int64_t total = 0;

  MEDKERN_INLINE explicit DftLayout(const DftProblem& p) {
    int64_t folded_size = 0;
    for (int a = 0; a < p.full_axes; ++a) {
      const FullAxis& axis = p.full[a];
      real_rows *= axis.rows();
      kept_rows *= axis.modes;
      const int64_t size = axis.groups() * axis.samples() * kDftColumns;
      folded_size = folded_size < size ? size : folded_size;
    }
    if (p.full_axes == 0) real_rows = kept_rows = kDftRows;
    row = line_padded<C>(p.size);
    const LastAxis<C> last(p.size, p.modes, p.inverse);
    line = last.line;
    // One line more, lest the rows of one column share a set of the cache.
    slab = p.full_axes == 2 ? (p.full[1].size + 1) * kDftColumns : 0;
    folded = take(folded_size);
    planes = take(p.full_axes == 2 ? p.full[0].rows() * slab : 0);
    rows = take(p.full_axes > 0 ? real_rows * row : 0);
    row_sums = take(2 * last.parities() * last.batch() * last.width());
    lines = take(real_rows * 2 * line);
    half_kept = take(p.full_axes == 2 ? p.full[0].rows() * p.full[1].modes * 2 * line : 0);
    kept = take(kept_rows * 2 * line);
  }

 private:
  MEDKERN_INLINE int64_t take(int64_t size) {
    const int64_t at = total;
    total += line_padded<C>(size);
    return at;
  }
};

MEDKERN_INLINE size_t dft_scratch(const DftProblem& p) {
  if (p.type == FloatType::float64) {
    return static_cast<size_t>(DftLayout<double>(p).total) * sizeof(double);
  }
  return static_cast<size_t>(DftLayout<float>(p).total) * sizeof(float);
}

// c_xyk = sum_s a_xsk b_ysk for every mode k, with a or b conjugated. The modes are contiguous
// interleaved complex numbers, `length` reals in all; the other axes have any strides, in elements.
struct MixProblem {
  int64_t x = 0, y = 0, s = 0, length = 0;
  const void *a = nullptr, *b = nullptr;
  void* c = nullptr;  // [x, y, length], contiguous
  int64_t a_x = 0, a_s = 0, b_y = 0, b_s = 0;
  bool conj_a = false, conj_b = false;
};

constexpr int64_t kMixLength = 128;  // reals of a work unit

// Units are (part of the modes, y), parts first.
MEDKERN_INLINE int64_t mix_units(const MixProblem& p) {
  return (p.length + kMixLength - 1) / kMixLength * p.y;
}

// In elements: the parts of a and b that a unit needs.
MEDKERN_INLINE int64_t mix_scratch(const MixProblem& p) { return (p.x + 1) * p.s * kMixLength; }

// Processes units [begin, end) with mix_scratch(problem) elements on a cache line's boundary.
using MixKernel = void (*)(const MixProblem&, int64_t begin, int64_t end, void* scratch);

MixKernel mix_kernel(bool float64);

}  // namespace medkern
