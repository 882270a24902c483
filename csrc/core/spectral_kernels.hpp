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

// Sums of the samples y, N - y, N/2 - y and N/2 + y: for the cosines of even and of odd modes, then
// for their sines. N: a number or a vector.
template <class N>
MEDKERN_INLINE void fold_four(N a, N b, N c, N d, N (&sums)[4]) {
  sums[0] = (a + b) + (c + d);
  sums[1] = (a + b) - (c + d);
  sums[2] = (a - b) - (c - d);
  sums[3] = (a - b) + (c - d);
}

template <class N>
MEDKERN_INLINE void unfold_four(const N (&sums)[4], N& a, N& b, N& c, N& d) {
  const N cos = sums[0] + sums[1], sin = sums[3] + sums[2];
  const N turned_cos = sums[0] - sums[1], turned_sin = sums[3] - sums[2];
  a = cos + sin;
  b = cos - sin;
  c = turned_cos + turned_sin;
  d = turned_cos - turned_sin;
}

// S: storage type of x; C: compute type.
template <class S>
struct DftRun {
  using C = Compute<S>;
  using V = Vec<C>;
  static constexpr int lanes = kLanes<C>;

  const DftProblem& p;
  const DftLayout<C> at;
  const LastAxis<C> last;
  C* const scratch;

  DftRun(const DftProblem& problem, void* buffer)
      : p(problem),
        at(problem),
        last(problem.size, problem.modes, problem.inverse),
        scratch(static_cast<C*>(buffer)) {}

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
        V four[4];
        fold_four(a, b, c, d, four);
        for (int g = 0; g < 4; ++g) store(sums + g * samples * width + i, four[g]);
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
        V four[4], a, b, c, d;
        for (int g = 0; g < 4; ++g) four[g] = load<C>(sums + g * samples * width + i);
        unfold_four(four, a, b, c, d);
        store_up_to(near + i, a, count - i);
        store_up_to(far + i, b, count - i);
        store_up_to(below + i, c, count - i);
        store_up_to(above + i, d, count - i);
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

  // --- the last axis: `count` rows of samples, `step` apart <-> lines of modes [2, at.line] ---

  // Sums of a batch: for the cosines of even and of odd modes, then for their sines.
  MEDKERN_INLINE C* row_sums(int group, int64_t r) const {
    return scratch + at.row_sums + (group * last.batch() + r) * last.width();
  }
  MEDKERN_INLINE int sines() const { return last.parities(); }

  template <class T>
  void fold_row(const T* x, int64_t r) const {
    const int64_t n = p.size, samples = last.samples();
    C* to[4];
    for (int g = 0; g < 2 * sines(); ++g) to[g] = row_sums(g, r);
    const C first = load_one<C>(x);
    if (!last.quartered) {
      to[0][0] = first + first;
      to[1][0] = C{};
      for (int64_t w = 1; w < samples; ++w) {
        const C a = load_one<C>(x + w), b = load_one<C>(x + n - w);
        to[0][w] = a + b;
        to[1][w] = a - b;
      }
      return;
    }
    const T* middle = x + n / 2;
    C one[4];
    fold_four(first, first, load_one<C>(middle), load_one<C>(middle), one);
    for (int g = 0; g < 4; ++g) to[g][0] = one[g];
    int64_t w = 1;
    for (; w + lanes <= samples; w += lanes) {
      V four[4];
      fold_four(load<C>(x + w), reversed(load<C>(x + n - w - (lanes - 1))),
                reversed(load<C>(middle - w - (lanes - 1))), load<C>(middle + w), four);
      for (int g = 0; g < 4; ++g) store(to[g] + w, four[g]);
    }
    for (; w < samples; ++w) {
      fold_four(load_one<C>(x + w), load_one<C>(x + n - w), load_one<C>(middle - w),
                load_one<C>(middle + w), one);
      for (int g = 0; g < 4; ++g) to[g][w] = one[g];
    }
  }

  template <class T>
  void unfold_row(T* x, int64_t r) const {
    const int64_t n = p.size, samples = last.samples();
    const C* from[4];
    for (int g = 0; g < 2 * sines(); ++g) from[g] = row_sums(g, r);
    if (!last.quartered) {
      store_one(x, from[0][0] + from[1][0]);
      for (int64_t w = 1; w < samples; ++w) {
        store_one(x + w, from[0][w] + from[1][w]);
        store_one(x + n - w, from[0][w] - from[1][w]);
      }
      return;
    }
    T* middle = x + n / 2;
    store_one(x, from[0][0] + from[1][0]);
    store_one(middle, from[0][0] - from[1][0]);
    int64_t w = 1;
    for (; w + lanes <= samples; w += lanes) {
      V four[4], a, b, c, d;
      for (int g = 0; g < 4; ++g) four[g] = load<C>(from[g] + w);
      unfold_four(four, a, b, c, d);
      store(x + w, a);
      store(x + n - w - (lanes - 1), reversed(b));
      store(middle - w - (lanes - 1), reversed(c));
      store(middle + w, d);
    }
    for (; w < samples; ++w) {
      const C one[4] = {from[0][w], from[1][w], from[2][w], from[3][w]};
      C a, b, c, d;
      unfold_four(one, a, b, c, d);
      store_one(x + w, a);
      store_one(x + n - w, b);
      store_one(middle - w, c);
      store_one(middle + w, d);
    }
  }

  template <class T>
  void forward_last(const T* x, int64_t step, int64_t count) const {
    const int64_t line = last.line, width = last.width(), batch = last.batch();
    const C* tables_of[] = {static_cast<const C*>(p.cosines), static_cast<const C*>(p.sines)};
    for (int64_t first = 0; first < count; first += batch) {
      const int64_t some = count - first < batch ? count - first : batch;
      for (int64_t r = 0; r < some; ++r) fold_row(x + (first + r) * step, r);
      for (int g = 0; g < 2 * sines(); ++g) {
        const int part = g / sines(), parity = g % sines();
        const int64_t start = last.start(parity);
        Gemm<C>::run(some, last.columns(parity), last.samples(), row_sums(g, 0), width,
                     tables_of[part] + start, line,
                     scratch + at.lines + (2 * first + part) * line + start, 2 * line);
      }
    }
  }

  template <class T>
  void inverse_last(T* x, int64_t step, int64_t count) const {
    const int64_t line = last.line, width = last.width(), batch = last.batch();
    const C* tables_of[] = {static_cast<const C*>(p.cosines), static_cast<const C*>(p.sines)};
    for (int64_t first = 0; first < count; first += batch) {
      const int64_t some = count - first < batch ? count - first : batch;
      for (int g = 0; g < 2 * sines(); ++g) {
        const int part = g / sines(), parity = g % sines();
        const int64_t start = last.start(parity);
        Gemm<C>::run(some, width, last.group(parity),
                     scratch + at.lines + (2 * first + part) * line + start, 2 * line,
                     tables_of[part] + start * width, width, row_sums(g, 0), width);
      }
      for (int64_t r = 0; r < some; ++r) unfold_row(x + (first + r) * step, r);
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
        z[2 * l] = lines[last.at(l)];
        z[2 * l + 1] = lines[at.line + last.at(l)];
      }
    }
  }

  void read_kept(const C* z, int64_t count, C* lines) const {
    for (int64_t r = 0; r < count; ++r, lines += 2 * at.line, z += 2 * p.modes) {
      for (int64_t l = 0; l < p.modes; ++l) {
        lines[last.at(l)] = z[2 * l];
        lines[at.line + last.at(l)] = z[2 * l + 1];
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
    forward_last(scratch + at.rows, at.row, at.real_rows);
    lines_to_kept();
    write_kept(scratch + at.kept, at.kept_rows,
               static_cast<C*>(p.z) + image * at.kept_rows * 2 * p.modes);
  }

  void inverse_image(int64_t image) const {
    read_kept(static_cast<const C*>(p.z) + image * at.kept_rows * 2 * p.modes, at.kept_rows,
              scratch + at.kept);
    kept_to_lines();
    inverse_last(scratch + at.rows, at.row, at.real_rows);
    inverse_full(static_cast<S*>(p.x) + image * voxels());
  }

  // Images of one axis go through it together, as rows.
  void forward_rows(int64_t begin, int64_t count) const {
    forward_last(static_cast<const S*>(p.x) + begin * p.size, p.size, count);
    write_kept(scratch + at.lines, count, static_cast<C*>(p.z) + begin * 2 * p.modes);
  }

  void inverse_rows(int64_t begin, int64_t count) const {
    read_kept(static_cast<const C*>(p.z) + begin * 2 * p.modes, count, scratch + at.lines);
    inverse_last(static_cast<S*>(p.x) + begin * p.size, p.size, count);
  }

  static void run(const DftProblem& problem, int64_t begin, int64_t end, void* buffer) {
    const DftRun self(problem, buffer);
    const bool inverse = problem.inverse;
    if (problem.full_axes == 0) {
      for (int64_t i = begin; i < end; i += kDftRows) {
        const int64_t count = end - i < kDftRows ? end - i : kDftRows;
        inverse ? self.inverse_rows(i, count) : self.forward_rows(i, count);
      }
      return;
    }
    for (int64_t i = begin; i < end; ++i) inverse ? self.inverse_image(i) : self.forward_image(i);
  }
};

DftKernel dft_kernel(FloatType x) {
  switch (x) {
    case FloatType::float16:
      return DftRun<Half>::run;
    case FloatType::bfloat16:
      return DftRun<BFloat16>::run;
    case FloatType::float64:
      return DftRun<double>::run;
    default:
      return DftRun<float>::run;
  }
}

MixKernel mix_kernel(bool float64) { return float64 ? MixRun<double>::run : MixRun<float>::run; }

}  // namespace medkern::MEDKERN_ISA
