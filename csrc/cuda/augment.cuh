// CUDA kernels of the Fourier augmentations, with the CPU's arithmetic in the CPU's order: the same
// noise bit for bit, as the file is compiled without contraction.
//
// Noise: a thread makes the four numbers of a group in registers and multiplies four bins, G apart;
// its neighbours take the neighbouring columns. 16 bytes moved per float32 bin.
// Truncated transforms: a thread per mode or pixel of one stage, with the other stage's sums in
// memory; tables and neighbouring rows are served by the caches. Sums run over their index in
// order.
#pragma once

#include "augment.hpp"
#include "core/common/storage.hpp"
#include "core/fourier_noise.hpp"
#include "grid_stride.cuh"

namespace medkern::MEDKERN_ISA {

template <class C>
MEDKERN_GLOBAL void augment_noise_fwd_kernel(NoiseProblem p) {
  const int64_t columns = spectrum_columns(p.width), groups = noise_groups(p.width);
  MEDKERN_GRID_STRIDE(i, p.images * p.height * groups) {
    int64_t line, group, image, row;
    split(i, groups, line, group);
    split(line, p.height, image, row);
    const NoiseImage noise(p, image);
    const NoiseRow<C> level(p, row);
    C z[4];
    noise.draw<ScalarMath<C>>(static_cast<uint32_t>(group), row, z);
    MEDKERN_UNROLL
    for (int j = 0; j < 4; ++j) {
      const int64_t column = group + j * groups;
      if (column >= columns) continue;
      const bool edge = level.is_edge(column);
      C number = z[j];
      if (edge && row > p.height - row) {  // the number of the conjugate bin, in an upper row
        C upper[4];
        noise.draw<ScalarMath<C>>(static_cast<uint32_t>(group), p.height - row, upper);
        number = upper[j];
      }
      const C mu = edge && level.alone
                       ? level.multiplier_alone(column, number)
                       : C(1) + number * std::sqrt(C(0.5) * level.variance(static_cast<C>(column)));
      C* at = static_cast<C*>(p.spectrum) + 2 * (line * columns + column);
      auto bin = load_vector<C, 2>(at);
      bin[0] *= mu;
      bin[1] *= mu;
      store_vector(at, bin);
    }
  }
}

template <class C>
MEDKERN_GLOBAL void augment_waves_fwd_kernel(WaveProblem p) {
  const int64_t count = (p.turned ? p.columns : p.rows) * p.stride;
  C* cosines = static_cast<C*>(p.table);
  MEDKERN_GRID_STRIDE(i, count) {
    int64_t major, minor;
    split(i, p.stride, major, minor);
    const bool inside = minor < (p.turned ? p.rows : p.columns);
    const int64_t turn = major * minor % p.size;
    const double angle =
        2 * 3.14159265358979323846 / static_cast<double>(p.size) * static_cast<double>(turn);
    cosines[i] = inside ? static_cast<C>(std::cos(angle)) : C{};
    cosines[count + i] = inside ? static_cast<C>(std::sin(angle)) : C{};
  }
}

// The mean of an image is much larger than most of its modes: the analysis sums in float64.
// Across a row: [images * H, 2, padded] from [images * H, W].
template <class C>
MEDKERN_GLOBAL void augment_across_fwd_kernel(ModesProblem p) {
  const C *cosines = static_cast<const C*>(p.across_cos),
          *sines = static_cast<const C*>(p.across_sin);
  MEDKERN_GRID_STRIDE(i, p.images * p.height * p.padded) {
    int64_t line, l;
    split(i, p.padded, line, l);
    const C* x = static_cast<const C*>(p.x) + line * p.width;
    double even = x[0] * cosines[l], odd = 0;
    for (int64_t w = 1; w < spectrum_columns(p.width); ++w) {
      const bool alone = 2 * w == p.width;
      const C a = x[w], b = alone ? C{} : x[p.width - w];
      even += (a + b) * cosines[w * p.padded + l];
      odd += (alone ? C{} : a - b) * sines[w * p.padded + l];
    }
    double* out = static_cast<double*>(p.rows) + 2 * line * p.padded + l;
    out[0] = even;
    out[p.padded] = -odd;
  }
}

// Down the columns, for the frequencies k and -k.
template <class C>
MEDKERN_GLOBAL void augment_down_fwd_kernel(ModesProblem p) {
  const int64_t taken = p.radius + 1;
  MEDKERN_GRID_STRIDE(i, p.images * taken * taken) {
    int64_t plane, l, image, k;
    split(i, taken, plane, l);
    split(plane, taken, image, k);
    const double* rows = static_cast<const double*>(p.rows) + image * p.height * 2 * p.padded + l;
    const double *cosines = static_cast<const double*>(p.down_cos) + k * p.height,
                 *sines = static_cast<const double*>(p.down_sin) + k * p.height;
    double re_cos = 0, re_sin = 0, im_cos = 0, im_sin = 0;
    for (int64_t h = 0; h < p.height; ++h) {
      const double re = rows[2 * h * p.padded], im = rows[(2 * h + 1) * p.padded];
      re_cos += re * cosines[h];
      re_sin += re * sines[h];
      im_cos += im * cosines[h];
      im_sin += im * sines[h];
    }
    C* middle =
        static_cast<C*>(p.modes) + 2 * (image * (2 * p.radius + 1) + p.radius) * taken + 2 * l;
    C *plus = middle + 2 * k * taken, *minus = middle - 2 * k * taken;
    plus[0] = static_cast<C>(re_cos + im_sin);
    plus[1] = static_cast<C>(im_cos - re_sin);
    if (k == 0) continue;
    minus[0] = static_cast<C>(re_cos - im_sin);
    minus[1] = static_cast<C>(im_cos + re_sin);
  }
}

// The sums down the modes: [images * H, 2, padded].
template <class C>
MEDKERN_GLOBAL void augment_rise_fwd_kernel(ModesProblem p) {
  const int64_t taken = p.radius + 1;
  MEDKERN_GRID_STRIDE(i, p.images * p.height * taken) {
    int64_t line, l, image, row;
    split(i, taken, line, l);
    split(line, p.height, image, row);
    const C* middle = static_cast<const C*>(p.modes) +
                      2 * (image * (2 * p.radius + 1) + p.radius) * taken + 2 * l;
    C re{}, im{};
    for (int64_t k = 0; k < taken; ++k) {
      const C *plus = middle + 2 * k * taken, *minus = middle - 2 * k * taken;
      const C b_re = k == 0 ? C{} : minus[0], b_im = k == 0 ? C{} : minus[1];
      const C c = static_cast<const C*>(p.down_cos)[k * p.height + row];
      const C s = static_cast<const C*>(p.down_sin)[k * p.height + row];
      re += (plus[0] + b_re) * c - (plus[1] - b_im) * s;
      im += (plus[1] + b_im) * c + (plus[0] - b_re) * s;
    }
    C* out = static_cast<C*>(p.rows) + 2 * line * p.padded + l;
    out[0] = re;
    out[p.padded] = im;
  }
}

// Pixels w and W - w of a row.
template <class C>
MEDKERN_GLOBAL void augment_spread_fwd_kernel(ModesProblem p) {
  const int64_t half = spectrum_columns(p.width);
  const C *cosines = static_cast<const C*>(p.across_cos),
          *sines = static_cast<const C*>(p.across_sin);
  MEDKERN_GRID_STRIDE(i, p.images * p.height * half) {
    int64_t line, w;
    split(i, half, line, w);
    const C* rows = static_cast<const C*>(p.rows) + 2 * line * p.padded;
    C even{}, odd{};
    for (int64_t l = 0; l <= p.radius; ++l) {
      even += rows[l] * cosines[l * p.across_stride + w];
      odd += rows[p.padded + l] * sines[l * p.across_stride + w];
    }
    const C* x = static_cast<const C*>(p.x) + line * p.width;
    C* out = static_cast<C*>(p.out) + line * p.width;
    const bool alone = w == 0 || 2 * w == p.width;
    out[w] = x[w] + (alone ? even : even - odd);
    if (!alone) out[p.width - w] = x[p.width - w] + (even + odd);
  }
}

}  // namespace medkern::MEDKERN_ISA
