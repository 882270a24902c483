// The kernels declared in spectral.hpp, compiled once per instruction set by csrc/isa/spectral.cpp.
#pragma once

#include "spectral.hpp"
#include "spectral_gemm.hpp"
#include "spectral_mix.hpp"

namespace medkern::MEDKERN_ISA {

// Up to a vector of values; zeros beyond `count`.
template <class C, class S>
MEDKERN_INLINE Vec<C> load_up_to(const S* from, int64_t count) {
  if (count >= kLanes<C>) return load<C>(from);
  Vec<C> v = {};
  for (int64_t i = 0; i < count; ++i) v[i] = load_one<C>(from + i);
  return v;
}

template <class S, class V>
MEDKERN_INLINE void store_up_to(S* to, V v, int64_t count) {
  if (count >= lanes_of<V>) return store(to, v);
  for (int64_t i = 0; i < count; ++i) store_one(to + i, v[i]);
}

// C: compute type of the transforms; P: storage type of x.
template <class S>
struct DftRun {
  using C = Compute<S>;
  using V = Vec<C>;
  static constexpr int lanes = kLanes<C>;

  const DftProblem& p;
  const DftLayout<C> at;
  C* const scratch;

  DftRun(const DftProblem& problem, void* buffer)
      : p(problem), at(problem), scratch(static_cast<C*>(buffer)) {}

  // --- one full axis, for `count` columns: samples `step` apart <-> rows `row_step` apart ---

  template <class T>
  void fold(const FullAxis& axis, const T* x, int64_t step, int64_t count) const {
    const int64_t n = axis.size, samples = axis.samples(), width = line_padded<C>(count);
    C* sums = scratch + at.folded;
    for (int64_t y = 0; y < samples; ++y, sums += width) {
      const T *near = x + y * step, *far = x + (n - y) % n * step;
      if (!axis.quartered()) {
        for (int64_t i = 0; i < width; i += lanes) {
          const V a = load_up_to<C>(near + i, count - i), b = load_up_to<C>(far + i, count - i);
          store(sums + i, a + b);
          store(sums + samples * width + i, a - b);
        }
        continue;
      }
      const T *below = x + (n / 2 - y) * step, *above = x + (n / 2 + y) % n * step;
      for (int64_t i = 0; i < width; i += lanes) {
        const V a = load_up_to<C>(near + i, count - i), b = load_up_to<C>(far + i, count - i);
        const V c = load_up_to<C>(below + i, count - i), d = load_up_to<C>(above + i, count - i);
        store(sums + i, (a + b) + (c + d));
        store(sums + samples * width + i, (a + b) - (c + d));
        store(sums + 2 * samples * width + i, (a - b) - (c - d));
        store(sums + 3 * samples * width + i, (a - b) + (c - d));
      }
    }
  }

  template <class T>
  void unfold(const FullAxis& axis, T* x, int64_t step, int64_t count) const {
    const int64_t n = axis.size, samples = axis.samples(), width = line_padded<C>(count);
    const C* sums = scratch + at.folded;
    for (int64_t y = 0; y < samples; ++y, sums += width) {
      T *near = x + y * step, *far = x + (n - y) % n * step;
      if (!axis.quartered()) {
        for (int64_t i = 0; i < width; i += lanes) {
          const V even = load<C>(sums + i), odd = load<C>(sums + samples * width + i);
          store_up_to(near + i, even + odd, count - i);
          store_up_to(far + i, even - odd, count - i);
        }
        continue;
      }
      T *below = x + (n / 2 - y) * step, *above = x + (n / 2 + y) % n * step;
      for (int64_t i = 0; i < width; i += lanes) {
        const V cos_even = load<C>(sums + i), cos_odd = load<C>(sums + samples * width + i);
        const V sin_even = load<C>(sums + 2 * samples * width + i);
        const V sin_odd = load<C>(sums + 3 * samples * width + i);
        const V a = cos_even + cos_odd, b = sin_odd + sin_even;
        const V c = cos_even - cos_odd, d = sin_odd - sin_even;
        store_up_to(near + i, a + b, count - i);
        store_up_to(far + i, a - b, count - i);
        store_up_to(below + i, c + d, count - i);
        store_up_to(above + i, c - d, count - i);
      }
    }
  }

  template <class T>
  void forward_axis(int which, const T* x, int64_t step, int64_t count, C* rows,
                    int64_t row_step) const {
    const FullAxis& axis = p.full[which];
    const int64_t samples = axis.samples(), width = line_padded<C>(count);
    fold(axis, x, step, count);
    const C *table = static_cast<const C*>(p.tables[which]), *sums = scratch + at.folded;
    for (int g = 0; g < axis.groups(); ++g, sums += samples * width) {
      const int64_t height = axis.group_rows(g);
      Gemm<C>::run(height, width, samples, table, samples, sums, width, rows, row_step);
      table += height * samples;
      rows += height * row_step;
    }
  }

  template <class T>
  void inverse_axis(int which, const C* rows, int64_t row_step, T* x, int64_t step,
                    int64_t count) const {
    const FullAxis& axis = p.full[which];
    const int64_t samples = axis.samples(), width = line_padded<C>(count);
    const C* table = static_cast<const C*>(p.tables[which]);
    C* sums = scratch + at.folded;
    for (int g = 0; g < axis.groups(); ++g, sums += samples * width) {
      const int64_t depth = axis.group_rows(g);
      Gemm<C>::run(samples, width, depth, table, axis.rows(), rows, row_step, sums, width);
      table += depth;
      rows += depth * row_step;
    }
    unfold(axis, x, step, count);
  }

  // --- the last axis: rows of samples [count, at.row] <-> lines of modes [count, 2, at.line] ---

  void forward_last(int64_t count) const {
    const int64_t half = p.size / 2, width = line_padded<C>(half + 1), line = 2 * at.line;
    for (int64_t first = 0; first < count; first += kDftRows) {
      const int64_t some = count - first < kDftRows ? count - first : kDftRows;
      for (int64_t r = 0; r < some; ++r) {
        const C* x = scratch + at.rows + (first + r) * at.row;
        C *even = scratch + at.even + r * width, *odd = scratch + at.odd + r * width;
        even[0] = x[0] + x[0];
        odd[0] = x[0] - x[0];
        for (int64_t w = 1; w <= half; ++w) {
          even[w] = x[w] + x[p.size - w];
          odd[w] = x[w] - x[p.size - w];
        }
      }
      C* to = scratch + at.lines + first * line;
      Gemm<C>::run(some, at.line, half + 1, scratch + at.even, width,
                   static_cast<const C*>(p.cosines), at.line, to, line);
      Gemm<C>::run(some, at.line, half + 1, scratch + at.odd, width, static_cast<const C*>(p.sines),
                   at.line, to + at.line, line);
    }
  }

  void inverse_last(int64_t count) const {
    const int64_t half = p.size / 2, width = line_padded<C>(half + 1), line = 2 * at.line;
    for (int64_t first = 0; first < count; first += kDftRows) {
      const int64_t some = count - first < kDftRows ? count - first : kDftRows;
      const C* from = scratch + at.lines + first * line;
      Gemm<C>::run(some, width, p.modes, from, line, static_cast<const C*>(p.cosines), width,
                   scratch + at.even, width);
      Gemm<C>::run(some, width, p.modes, from + at.line, line, static_cast<const C*>(p.sines),
                   width, scratch + at.odd, width);
      for (int64_t r = 0; r < some; ++r) {
        const C *even = scratch + at.even + r * width, *odd = scratch + at.odd + r * width;
        C* x = scratch + at.rows + (first + r) * at.row;
        x[0] = even[0] + odd[0];
        for (int64_t w = 1; w <= half; ++w) {
          x[w] = even[w] + odd[w];
          x[p.size - w] = even[w] - odd[w];
        }
      }
    }
  }

  // --- cosine and sine rows <-> signed modes; every row is `inner` lines ---

  // z_k = C_k - i S_k, z_-k = C_k + i S_k
  void rows_to_modes(const FullAxis& axis, const C* rows, C* modes, int64_t inner) const {
    const int64_t line = at.line, row = inner * 2 * line, half = axis.half();
    for (int64_t k = 0; k <= half; ++k) {
      const C *c = rows + axis.cos_row(k) * row, *s = rows + axis.sin_row(k) * row;
      C *plus = modes + (half + k) * row, *minus = modes + (half - k) * row;
      const bool has_plus = half + k < axis.modes;
      for (int64_t j = 0; j < inner; ++j) {
        const int64_t re = j * 2 * line, im = re + line;
        for (int64_t l = 0; l < line; ++l) {
          if (k == 0) {
            plus[re + l] = c[re + l];
            plus[im + l] = c[im + l];
            continue;
          }
          if (has_plus) {
            plus[re + l] = c[re + l] + s[im + l];
            plus[im + l] = c[im + l] - s[re + l];
          }
          minus[re + l] = c[re + l] - s[im + l];
          minus[im + l] = c[im + l] + s[re + l];
        }
      }
    }
  }

  // C_k = z_k + z_-k, S_k = i (z_k - z_-k)
  void modes_to_rows(const FullAxis& axis, const C* modes, C* rows, int64_t inner) const {
    const int64_t line = at.line, row = inner * 2 * line, half = axis.half();
    for (int64_t k = 0; k <= half; ++k) {
      C *c = rows + axis.cos_row(k) * row, *s = rows + axis.sin_row(k) * row;
      const C *plus = modes + (half + k) * row, *minus = modes + (half - k) * row;
      const bool has_plus = half + k < axis.modes;
      for (int64_t j = 0; j < inner; ++j) {
        const int64_t re = j * 2 * line, im = re + line;
        for (int64_t l = 0; l < line; ++l) {
          if (k == 0) {
            c[re + l] = plus[re + l];
            c[im + l] = plus[im + l];
            continue;
          }
          const C plus_re = has_plus ? plus[re + l] : C{}, plus_im = has_plus ? plus[im + l] : C{};
          c[re + l] = plus_re + minus[re + l];
          c[im + l] = plus_im + minus[im + l];
          s[re + l] = minus[im + l] - plus_im;
          s[im + l] = plus_re - minus[re + l];
        }
      }
    }
  }

  void write_kept(const C* lines, int64_t count, C* z) const {
    for (int64_t r = 0; r < count; ++r, lines += 2 * at.line, z += 2 * p.modes) {
      for (int64_t l = 0; l < p.modes; ++l) {
        z[2 * l] = lines[l];
        z[2 * l + 1] = lines[at.line + l];
      }
    }
  }

  void read_kept(const C* z, int64_t count, C* lines) const {
    for (int64_t r = 0; r < count; ++r, lines += 2 * at.line, z += 2 * p.modes) {
      for (int64_t l = 0; l < p.modes; ++l) {
        lines[l] = z[2 * l];
        lines[at.line + l] = z[2 * l + 1];
      }
      for (int64_t l = p.modes; l < at.line; ++l) lines[l] = lines[at.line + l] = C{};
    }
  }

  // --- whole images ---

  template <class Body>
  MEDKERN_INLINE void each_panel(const Body& body) const {
    for (int64_t first = 0; first < p.size; first += kDftColumns) {
      body(first, p.size - first < kDftColumns ? p.size - first : kDftColumns);
    }
  }

  void forward_full(const S* x) const {
    C* rows = scratch + at.rows;
    if (p.full_axes == 1) {
      each_panel([&](int64_t first, int64_t count) {
        forward_axis(0, x + first, p.size, count, rows + first, at.row);
      });
      return;
    }
    const int64_t height = p.full[1].size, step = height * p.size;
    C* planes = scratch + at.planes;
    each_panel([&](int64_t first, int64_t count) {
      const int64_t width = line_padded<C>(count);
      for (int64_t h = 0; h < height; ++h) {
        forward_axis(0, x + h * p.size + first, step, count, planes + h * width, at.slab);
      }
      for (int64_t r = 0; r < p.full[0].rows(); ++r) {
        forward_axis(1, planes + r * at.slab, width, count,
                     rows + r * p.full[1].rows() * at.row + first, at.row);
      }
    });
  }

  void inverse_full(S* x) const {
    const C* rows = scratch + at.rows;
    if (p.full_axes == 1) {
      each_panel([&](int64_t first, int64_t count) {
        inverse_axis(0, rows + first, at.row, x + first, p.size, count);
      });
      return;
    }
    const int64_t height = p.full[1].size, step = height * p.size;
    C* planes = scratch + at.planes;
    each_panel([&](int64_t first, int64_t count) {
      const int64_t width = line_padded<C>(count);
      for (int64_t r = 0; r < p.full[0].rows(); ++r) {
        inverse_axis(1, rows + r * p.full[1].rows() * at.row + first, at.row, planes + r * at.slab,
                     width, count);
      }
      for (int64_t h = 0; h < height; ++h) {
        inverse_axis(0, planes + h * width, at.slab, x + h * p.size + first, step, count);
      }
    });
  }

  void lines_to_kept() const {
    const C* lines = scratch + at.lines;
    if (p.full_axes == 1) return rows_to_modes(p.full[0], lines, scratch + at.kept, 1);
    C* half_kept = scratch + at.half_kept;
    const int64_t modes = p.full[1].modes, line = 2 * at.line;
    for (int64_t r = 0; r < p.full[0].rows(); ++r) {
      rows_to_modes(p.full[1], lines + r * p.full[1].rows() * line, half_kept + r * modes * line,
                    1);
    }
    rows_to_modes(p.full[0], half_kept, scratch + at.kept, modes);
  }

  void kept_to_lines() const {
    C* lines = scratch + at.lines;
    if (p.full_axes == 1) return modes_to_rows(p.full[0], scratch + at.kept, lines, 1);
    C* half_kept = scratch + at.half_kept;
    const int64_t modes = p.full[1].modes, line = 2 * at.line;
    modes_to_rows(p.full[0], scratch + at.kept, half_kept, modes);
    for (int64_t r = 0; r < p.full[0].rows(); ++r) {
      modes_to_rows(p.full[1], half_kept + r * modes * line, lines + r * p.full[1].rows() * line,
                    1);
    }
  }

  int64_t voxels() const {
    int64_t product = p.size;
    for (int a = 0; a < p.full_axes; ++a) product *= p.full[a].size;
    return product;
  }

  void forward_image(int64_t image) const {
    forward_full(static_cast<const S*>(p.x) + image * voxels());
    forward_last(at.real_rows);
    lines_to_kept();
    write_kept(scratch + at.kept, at.kept_rows,
               static_cast<C*>(p.z) + image * at.kept_rows * 2 * p.modes);
  }

  void inverse_image(int64_t image) const {
    read_kept(static_cast<const C*>(p.z) + image * at.kept_rows * 2 * p.modes, at.kept_rows,
              scratch + at.kept);
    kept_to_lines();
    inverse_last(at.real_rows);
    inverse_full(static_cast<S*>(p.x) + image * voxels());
  }

  // Images of one axis go through it together, as rows.
  void forward_rows(int64_t begin, int64_t count) const {
    const S* x = static_cast<const S*>(p.x) + begin * p.size;
    for (int64_t r = 0; r < count; ++r) {
      C* row = scratch + at.rows + r * at.row;
      for (int64_t i = 0; i < p.size; ++i) row[i] = load_one<C>(x + r * p.size + i);
    }
    forward_last(count);
    write_kept(scratch + at.lines, count, static_cast<C*>(p.z) + begin * 2 * p.modes);
  }

  void inverse_rows(int64_t begin, int64_t count) const {
    read_kept(static_cast<const C*>(p.z) + begin * 2 * p.modes, count, scratch + at.lines);
    inverse_last(count);
    S* x = static_cast<S*>(p.x) + begin * p.size;
    for (int64_t r = 0; r < count; ++r) {
      const C* row = scratch + at.rows + r * at.row;
      for (int64_t i = 0; i < p.size; ++i) store_one(x + r * p.size + i, row[i]);
    }
  }

  static void run(bool inverse, const DftProblem& problem, int64_t begin, int64_t end,
                  void* buffer) {
    const DftRun self(problem, buffer);
    if (problem.full_axes == 0) {
      for (int64_t i = begin; i < end; i += kDftRows) {
        const int64_t count = end - i < kDftRows ? end - i : kDftRows;
        inverse ? self.inverse_rows(i, count) : self.forward_rows(i, count);
      }
      return;
    }
    for (int64_t i = begin; i < end; ++i) inverse ? self.inverse_image(i) : self.forward_image(i);
  }

  static void forward(const DftProblem& problem, int64_t begin, int64_t end, void* buffer) {
    run(false, problem, begin, end, buffer);
  }

  static void inverse(const DftProblem& problem, int64_t begin, int64_t end, void* buffer) {
    run(true, problem, begin, end, buffer);
  }

  static DftKernel select(bool inverted) { return inverted ? inverse : forward; }
};

DftKernel dft_kernel(bool inverse, FloatType x) {
  switch (x) {
    case FloatType::float16:
      return DftRun<Half>::select(inverse);
    case FloatType::bfloat16:
      return DftRun<BFloat16>::select(inverse);
    case FloatType::float64:
      return DftRun<double>::select(inverse);
    default:
      return DftRun<float>::select(inverse);
  }
}

MixKernel mix_kernel(bool float64) { return float64 ? MixRun<double>::run : MixRun<float>::run; }

}  // namespace medkern::MEDKERN_ISA
