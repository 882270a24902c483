// CUDA kernels of truncated Fourier transforms and of mode mixing: core/spectral.hpp says what they
// compute.
//
// A transform is one pass per axis, the contiguous one first (last, on the way back), so that what
// lies between two passes is a share of about modes / size of the image. Every pass is a pair of
// products of real matrices: y and N - y share their cosines and sines, and so do k and -k, hence
//     E_uj = sum_d cos_du even_dj,    O_uj = sum_d sin_du odd_dj
// with sums and differences of mirrored samples (forward) or of opposite modes (inverse), one
// column j per line of samples. A block takes kAxisColumns lines and kAxisOutputs outputs, a slab
// of the image at a time in shared memory, folded as it is loaded; a thread has 4 x 2 of both sums.
// Products per image: half of size x modes of the last axis times its lines, and so on. Plain FMA:
// TF32, the widest format of tensor cores that is faster, keeps 10 bits.
// Bytes: one read of x, one write of z, and twice the partial transforms.
//
// Mixing: a thread has 4 x 4 sums of one mode, a block 32 modes of 8 x 16 sums, with what they
// share in shared memory. With B rows a weight of 8 bytes takes part in B complex products, B FLOP
// per byte: reading weights bounds it, not arithmetic, up to some 10 rows (A100) or 20 (H100).
//
// Half precision is computed in float32. Sums run over their index in order; no atomics.
#pragma once

#include "core/common/storage.hpp"
#include "core/spectral_tables.hpp"
#include "grid_stride.cuh"
#include "spectral.hpp"

namespace medkern::MEDKERN_ISA {

// cos and sin(k y) of an axis, [depth, outputs] each: y is the depth forward, k inverse.
struct AxisTable {
  int64_t size = 1, grid = 1, samples = 1, modes = 1;
  int64_t first = 0;  // where it starts, in elements
  bool inverse = false;

  MEDKERN_INLINE int64_t count() const { return samples * modes; }
};

struct AxisTables {
  DftCall call;
  AxisTable axis[3];
  int64_t count;
};

template <class C>
MEDKERN_GLOBAL void spectral_tables_fwd_kernel(AxisTables tables, C* out) {
  MEDKERN_GRID_STRIDE(index, tables.count) {
    int64_t i = index;
    int a = 0;
    while (i >= tables.axis[a].count()) i -= tables.axis[a++].count();
    const AxisTable& t = tables.axis[a];
    int64_t depth, u;
    split(i, t.inverse ? t.samples : t.modes, depth, u);
    const int64_t k = t.inverse ? depth : u, y = t.inverse ? u : depth, turn = k * y % t.size;
    const bool last = a == tables.call.last(), nyquist = 2 * k == t.grid;
    // exp(-i l w) of the last axis has a negative sine.
    const double weight = last ? tables.call.weight(k) : 1.0, sign = last ? -weight : weight;
    C* cosines = out + t.first;
    cosines[i] = static_cast<C>(weight * cosine_of_turn(turn, t.size));
    cosines[t.count() + i] = nyquist ? C{} : static_cast<C>(sign * sine_of_turn(turn, t.size));
  }
}

// How a pass reads its columns and writes its outputs. `start(j)` is where column j begins; pairs
// of columns are the real and the imaginary part of one line of complex numbers.

// Last axis, forward: x [lines, size] -> [lines, modes, 2].
template <class S>
struct SamplesToModes {
  using C = Compute<S>;
  static constexpr bool along_depth = true;

  const S* x;
  C* out;
  int64_t columns, size, modes;

  MEDKERN_DEVICE_INLINE int64_t depth() const { return size / 2 + 1; }
  MEDKERN_DEVICE_INLINE int64_t outputs() const { return modes; }
  MEDKERN_DEVICE_INLINE int64_t start(int64_t j) const { return j * size; }

  MEDKERN_DEVICE_INLINE void load(int64_t start, int64_t w, C& even, C& odd) const {
    const S* line = x + start;
    const C near = load_one<C>(line + w);
    const bool alone = w == 0 || 2 * w == size;
    const C far = alone ? C{} : load_one<C>(line + size - w);
    even = near + far;
    odd = alone ? C{} : near - far;
  }
  template <int Columns>
  MEDKERN_DEVICE_INLINE void store(int64_t l, int64_t j, const C (&even)[Columns],
                                   const C (&odd)[Columns]) const {
    MEDKERN_UNROLL
    for (int i = 0; i < Columns; ++i) {
      if (j + i >= columns) return;
      C* z = out + ((j + i) * modes + l) * 2;
      z[0] = even[i];
      z[1] = odd[i];
    }
  }
};

// Last axis, inverse: z [lines, modes, 2] -> [lines, size].
template <class S>
struct ModesToSamples {
  using C = Compute<S>;
  static constexpr bool along_depth = true;

  const C* z;
  S* out;
  int64_t columns, size, modes;

  MEDKERN_DEVICE_INLINE int64_t depth() const { return modes; }
  MEDKERN_DEVICE_INLINE int64_t outputs() const { return size / 2 + 1; }
  MEDKERN_DEVICE_INLINE int64_t start(int64_t j) const { return j * modes * 2; }

  MEDKERN_DEVICE_INLINE void load(int64_t start, int64_t l, C& even, C& odd) const {
    even = z[start + 2 * l];
    odd = z[start + 2 * l + 1];
  }
  template <int Columns>
  MEDKERN_DEVICE_INLINE void store(int64_t w, int64_t j, const C (&even)[Columns],
                                   const C (&odd)[Columns]) const {
    MEDKERN_UNROLL
    for (int i = 0; i < Columns; ++i) {
      if (j + i >= columns) return;
      S* line = out + (j + i) * size;
      store_one(line + w, even[i] + odd[i]);
      if (w != 0 && 2 * w != size) store_one(line + size - w, even[i] - odd[i]);
    }
  }
};

// A full axis, of which `inner` real numbers are one step apart: [outer, size, inner] and
// [outer, modes, inner], modes in ascending order. Columns are (outer, inner).
template <class C>
struct FullAxisPass {
  static constexpr bool along_depth = false;

  const C* from;
  C* to;
  int64_t columns, size, modes, inner;

  MEDKERN_DEVICE_INLINE int64_t half() const { return modes / 2; }
  MEDKERN_DEVICE_INLINE int64_t start_of(int64_t j, int64_t rows) const {
    int64_t outer, i;
    split(j, inner, outer, i);
    return outer * rows * inner + i;
  }
};

template <class Real>
struct SamplesToSigned : FullAxisPass<Real> {
  using C = Real;

  MEDKERN_DEVICE_INLINE int64_t depth() const { return this->size / 2 + 1; }
  MEDKERN_DEVICE_INLINE int64_t outputs() const { return this->half() + 1; }
  MEDKERN_DEVICE_INLINE int64_t start(int64_t j) const { return this->start_of(j, this->size); }

  MEDKERN_DEVICE_INLINE void load(int64_t start, int64_t y, C& even, C& odd) const {
    const C near = this->from[start + y * this->inner];
    const bool alone = y == 0 || 2 * y == this->size;
    const C far = alone ? C{} : this->from[start + (this->size - y) * this->inner];
    even = near + far;
    odd = alone ? C{} : near - far;
  }
  // z_k = C_k - i S_k, z_-k = C_k + i S_k
  template <int Columns>
  MEDKERN_DEVICE_INLINE void store(int64_t k, int64_t j, const C (&c)[Columns],
                                   const C (&s)[Columns]) const {
    const int64_t half = this->half(), inner = this->inner;
    MEDKERN_UNROLL
    for (int i = 0; i < Columns; i += 2) {
      if (j + i >= this->columns) return;
      C* middle = this->to + this->start_of(j + i, this->modes) + half * inner;
      C *plus = middle + k * inner, *minus = middle - k * inner;
      if (half + k < this->modes) {
        plus[0] = c[i] + s[i + 1];
        plus[1] = c[i + 1] - s[i];
      }
      if (k == 0) continue;
      minus[0] = c[i] - s[i + 1];
      minus[1] = c[i + 1] + s[i];
    }
  }
};

template <class Real>
struct SignedToSamples : FullAxisPass<Real> {
  using C = Real;

  MEDKERN_DEVICE_INLINE int64_t depth() const { return this->half() + 1; }
  MEDKERN_DEVICE_INLINE int64_t outputs() const { return this->size / 2 + 1; }
  MEDKERN_DEVICE_INLINE int64_t start(int64_t j) const { return this->start_of(j, this->modes); }

  // C_k = z_k + z_-k, S_k = i (z_k - z_-k): of an even start the real part, of an odd one the
  // other.
  MEDKERN_DEVICE_INLINE void load(int64_t start, int64_t k, C& even, C& odd) const {
    const int64_t half = this->half(), inner = this->inner, other = start ^ 1;
    const C* middle = this->from + half * inner;
    const bool has_plus = half + k < this->modes;
    if (k == 0) {
      even = has_plus ? middle[start] : C{};
      odd = C{};
      return;
    }
    const C plus = has_plus ? middle[start + k * inner] : C{};
    const C plus_other = has_plus ? middle[other + k * inner] : C{};
    const C minus = middle[start - k * inner], minus_other = middle[other - k * inner];
    even = plus + minus;
    odd = start % 2 == 0 ? minus_other - plus_other : plus_other - minus_other;
  }
  template <int Columns>
  MEDKERN_DEVICE_INLINE void store(int64_t y, int64_t j, const C (&even)[Columns],
                                   const C (&odd)[Columns]) const {
    MEDKERN_UNROLL
    for (int i = 0; i < Columns; i += 2) {
      if (j + i >= this->columns) return;
      C* first = this->to + this->start_of(j + i, this->size);
      C *near = first + y * this->inner, *far = first + (this->size - y) * this->inner;
      const bool alone = y == 0 || 2 * y == this->size;
      for (int part = 0; part < 2; ++part) {
        near[part] = even[i + part] + odd[i + part];
        if (!alone) far[part] = even[i + part] - odd[i + part];
      }
    }
  }
};

constexpr int kAxisDepth = 16, kAxisOutputs = 16, kAxisColumns = 128;

// Values of C that shared memory gives in one access.
template <class C>
constexpr int kPiece = 16 / static_cast<int>(sizeof(C));

template <class Pass>
MEDKERN_GLOBAL MEDKERN_LAUNCH_BOUNDS(kThreads) void spectral_axis_fwd_kernel(
    Pass pass, const typename Pass::C* cosines, const typename Pass::C* sines) {
  using C = typename Pass::C;
  constexpr int piece = kPiece<C>, pieces = 4 / piece;
  using Piece = DeviceVector<C, piece>;
  // A piece more per row, lest the rows of one column share a bank.
  using Row = Piece[kAxisColumns / piece + 1];
  MEDKERN_SHARED(Row, even, kAxisDepth);
  MEDKERN_SHARED(Row, odd, kAxisDepth);
  MEDKERN_SHARED(C[kAxisOutputs], cosine, kAxisDepth);
  MEDKERN_SHARED(C[kAxisOutputs], sine, kAxisDepth);
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t depth = pass.depth(), outputs = pass.outputs();
  const int64_t tiles = (outputs + kAxisOutputs - 1) / kAxisOutputs;
  const int64_t first_u = blockIdx.x % tiles * kAxisOutputs;
  const int64_t first_j = blockIdx.x / tiles * kAxisColumns;
  const int u = thread % 8 * 2, j = thread / 8 * 4;
  C sum_even[2][4] = {}, sum_odd[2][4] = {};
  for (int64_t first = 0; first < depth; first += kAxisDepth) {
    MEDKERN_UNROLL
    for (int n = 0; n < kAxisDepth * kAxisColumns / kThreads; ++n) {
      const int at = thread + n * kThreads;
      const int d = Pass::along_depth ? at % kAxisDepth : at / kAxisColumns;
      const int column = Pass::along_depth ? at / kAxisDepth : at % kAxisColumns;
      C e{}, o{};
      if (first + d < depth && first_j + column < pass.columns) {
        pass.load(pass.start(first_j + column), first + d, e, o);
      }
      even[d][column / piece][column % piece] = e;
      odd[d][column / piece][column % piece] = o;
    }
    {
      const int d = thread / kAxisOutputs, output = thread % kAxisOutputs;
      const bool inside = first + d < depth && first_u + output < outputs;
      const int64_t at = (first + d) * outputs + first_u + output;
      cosine[d][output] = inside ? cosines[at] : C{};
      sine[d][output] = inside ? sines[at] : C{};
    }
    __syncthreads();
    MEDKERN_UNROLL
    for (int d = 0; d < kAxisDepth; ++d) {
      const C c[2] = {cosine[d][u], cosine[d][u + 1]}, s[2] = {sine[d][u], sine[d][u + 1]};
      MEDKERN_UNROLL
      for (int q = 0; q < pieces; ++q) {
        const Piece e = even[d][j / piece + q], o = odd[d][j / piece + q];
        MEDKERN_UNROLL
        for (int i = 0; i < piece; ++i) {
          for (int r = 0; r < 2; ++r) {
            sum_even[r][q * piece + i] += c[r] * e[i];
            sum_odd[r][q * piece + i] += s[r] * o[i];
          }
        }
      }
    }
    __syncthreads();
  }
  MEDKERN_UNROLL
  for (int r = 0; r < 2; ++r) {
    if (first_u + u + r < outputs) {
      pass.store(first_u + u + r, first_j + j, sum_even[r], sum_odd[r]);
    }
  }
}

// A number per kept mode: z[i] = weight spectrum[where i is], or the other way round.
template <class C>
MEDKERN_GLOBAL void spectral_rows_fwd_kernel(DftCall call, bool gather, const C* from, C* to) {
  const int64_t modes = call.modes[call.last()], kept = call.kept_rows(), rows = call.rows();
  MEDKERN_GRID_STRIDE(i, call.images * kept * modes) {
    int64_t line, l, image, row;
    split(i, modes, line, l);
    split(line, kept, image, row);
    const int64_t there = (image * rows + call.row_of(row)) * modes + l;
    const C weight = static_cast<C>(gather ? call.weight(l) : call.inverse_fft_weight(l));
    const C* number = from + 2 * (gather ? there : i);
    C* out = to + 2 * (gather ? i : there);
    out[0] = weight * number[0];
    out[1] = weight * number[1];
  }
}

constexpr int kMixModes = 32, kMixX = 8, kMixY = 16, kMixEach = 4;

MEDKERN_HD inline int64_t mix_tiles(int64_t count, int64_t each) {
  return (count + each - 1) / each;
}

// c for 4 x 4 (x, y) of one mode per thread.
template <class C>
MEDKERN_GLOBAL MEDKERN_LAUNCH_BOUNDS(kThreads) void spectral_mix_fwd_kernel(MixProblem p) {
  using Complex = DeviceVector<C, 2>;
  constexpr int chunk = 16 / static_cast<int>(sizeof(C));  // summed at once
  MEDKERN_SHARED(Complex[kMixModes], a_part, chunk * kMixX);
  MEDKERN_SHARED(Complex[kMixModes], b_part, chunk * kMixY);
  const int mode = static_cast<int>(threadIdx.x) % kMixModes;
  const int warp = static_cast<int>(threadIdx.x) / kMixModes;
  const int my_x = warp % 2 * kMixEach, my_y = warp / 2 * kMixEach;
  const int64_t modes = p.length / 2, parts = mix_tiles(modes, kMixModes);
  const int64_t tile = blockIdx.x / parts, y_tiles = mix_tiles(p.y, kMixY);
  const int64_t k = blockIdx.x % parts * kMixModes + mode;
  const int64_t first_x = tile / y_tiles * kMixX, first_y = tile % y_tiles * kMixY;
  const C sign_a = p.conj_a ? C{-1} : C{1}, sign_b = p.conj_b ? C{-1} : C{1};
  C re[kMixEach][kMixEach] = {}, im[kMixEach][kMixEach] = {};
  for (int64_t first = 0; first < p.s; first += chunk) {
    for (int row = warp; row < chunk * (kMixX + kMixY); row += kThreads / kMixModes) {
      const bool of_a = row < chunk * kMixX;
      const int at = of_a ? row : row - chunk * kMixX, width = of_a ? kMixX : kMixY;
      const int64_t s = first + at / width, line = (of_a ? first_x : first_y) + at % width;
      const int64_t step = of_a ? p.a_x : p.b_y, along = of_a ? p.a_s : p.b_s;
      Complex value{};
      if (s < p.s && line < (of_a ? p.x : p.y) && k < modes) {
        const C* from = static_cast<const C*>(of_a ? p.a : p.b);
        value = load_vector<C, 2>(from + line * step + s * along + 2 * k);
        value[1] *= of_a ? sign_a : sign_b;
      }
      (of_a ? a_part : b_part)[at][mode] = value;
    }
    __syncthreads();
    MEDKERN_UNROLL
    for (int s = 0; s < chunk; ++s) {
      Complex left[kMixEach];
      MEDKERN_UNROLL
      for (int i = 0; i < kMixEach; ++i) left[i] = a_part[s * kMixX + my_x + i][mode];
      MEDKERN_UNROLL
      for (int j = 0; j < kMixEach; ++j) {
        const Complex right = b_part[s * kMixY + my_y + j][mode];
        MEDKERN_UNROLL
        for (int i = 0; i < kMixEach; ++i) {
          re[i][j] += left[i][0] * right[0];
          re[i][j] -= left[i][1] * right[1];
          im[i][j] += left[i][0] * right[1];
          im[i][j] += left[i][1] * right[0];
        }
      }
    }
    __syncthreads();
  }
  if (k >= modes) return;
  MEDKERN_UNROLL
  for (int i = 0; i < kMixEach; ++i) {
    MEDKERN_UNROLL
    for (int j = 0; j < kMixEach; ++j) {
      const int64_t x = first_x + my_x + i, y = first_y + my_y + j;
      if (x >= p.x || y >= p.y) continue;
      Complex sum;
      sum[0] = re[i][j];
      sum[1] = im[i][j];
      store_vector(static_cast<C*>(p.c) + (x * p.y + y) * p.length + 2 * k, sum);
    }
  }
}

}  // namespace medkern::MEDKERN_ISA
