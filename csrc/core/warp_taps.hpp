// Where a chunk of a row reads the image: offsets and weights of its taps along every axis.
#pragma once

#include <limits>

#include "common/simd.hpp"
#include "warp_axis.hpp"

namespace medkern::MEDKERN_ISA {

template <class C, int T, bool Slopes>
struct WarpTaps {
  using I = WarpIndex<C>;

  int64_t offset[3][T][kWarpChunk];  // in values of the grouped image
  C weight[3][T][kWarpChunk];
  C slope[3][Slopes ? T : 1][kWarpChunk];  // the weights' derivatives in u
  // 0 or -1:
  I outside[kWarpChunk];  // with zeros around: nothing to read
  I lost[kWarpChunk];     // no position: weights are NaN
  I edge[kWarpChunk];     // the taps along x are no neighbours
  bool any_outside, any_lost;
};

// Whether a lane of a mask is set.
template <class V>
MEDKERN_INLINE bool any(V mask) {
  uint64_t words[sizeof(V) / 8], all = 0;
  std::memcpy(words, &mask, sizeof(V));
  for (uint64_t word : words) all |= word;
  return all != 0;
}

// A whole chunk to read: `from` itself, or a copy with zeros after its n values.
template <class S>
MEDKERN_INLINE const S* whole_chunk(const S* from, int64_t n, S* copy) {
  if (n == kWarpChunk) return from;
  for (int64_t k = 0; k < kWarpChunk; ++k) copy[k] = k < n ? from[k] : S{};
  return copy;
}

// A vector of voxels; see WarpAxis.
template <class C>
struct WarpMany {
  using Scalar = C;
  using Value = Vec<C>;
  using Index = Vec<WarpIndex<C>>;
  using Whole = WarpIndex<C>;

  static MEDKERN_INLINE Index whole(Value v) { return __builtin_convertvector(v, Index); }
  static MEDKERN_INLINE Value value(Index i) { return __builtin_convertvector(i, Value); }
  static MEDKERN_INLINE void fold(Index& i, Whole period) {
    if (!any((i < 0) | (i >= period))) return;  // as almost always
    Whole one[kLanes<C>];
    store(one, i);
    for (Whole& index : one) WarpOne<C>::fold(index, period);
    i = load_raw<Index>(one);
  }
};

template <class C, int T, bool Slopes>
struct WarpStage {
  using I = WarpIndex<C>;
  using VC = Vec<C>;
  using VI = Vec<I>;
  using Taps = WarpTaps<C, T, Slopes>;
  using Axis = WarpAxis<WarpMany<C>, T>;
  static constexpr int lanes = kLanes<C>;

  // The taps of voxels [x, x + n) of a row; `width` values per voxel of the image.
  static void run(const WarpProblem& p, int64_t sample, int64_t row, int64_t x, int64_t n,
                  int64_t width, Taps& taps) {
    const int64_t plane = p.out_voxels(), at = row * p.out[2] + x;
    const C* u = static_cast<const C*>(p.displacement) + sample * p.ndim * plane + at;
    const int64_t index[3] = {row / p.out[1], row % p.out[1], x};
    const int64_t stride[3] = {p.size[1] * p.size[2] * width, p.size[2] * width, width};
    clear(taps);
    if (p.ndim == 2) {
      for (int64_t k = 0; k < kWarpChunk; ++k) {
        taps.offset[0][0][k] = 0;
        taps.weight[0][0][k] = 1;
        if constexpr (Slopes) taps.slope[0][0][k] = 0;
      }
    }
    for (int axis = 3 - p.ndim; axis < 3; ++axis) {
      run_axis(p, axis, u + (axis - 3 + p.ndim) * plane, index[axis], n, stride[axis], taps);
    }
    for (int64_t k = 0; k < kWarpChunk && taps.any_lost; ++k) taps.outside[k] &= ~taps.lost[k];
  }

  // Only the taps along the axis that is cut into slabs.
  static void run_slab_axis(const WarpProblem& p, int64_t sample, int64_t row, int64_t x, int64_t n,
                            int64_t stride, Taps& taps) {
    const int axis = p.slab_axis();
    const C* u = static_cast<const C*>(p.displacement) + sample * p.ndim * p.out_voxels();
    const int64_t index = axis == 0 ? row / p.out[1] : row % p.out[1];
    clear(taps);
    run_axis(p, axis, u + row * p.out[2] + x, index, n, stride, taps);
  }

  static void clear(Taps& taps) {
    for (int64_t k = 0; k < kWarpChunk; ++k) taps.outside[k] = taps.lost[k] = 0;
    taps.any_outside = taps.any_lost = false;
  }

  static void run_axis(const WarpProblem& p, int axis, const C* u, int64_t from, int64_t n,
                       int64_t stride, Taps& taps) {
    C u_copy[kWarpChunk], part_copy[kWarpChunk];
    I whole_copy[kWarpChunk], index[T][kWarpChunk];
    const bool along = axis == 2;
    const I* whole = static_cast<const I*>(p.whole[axis]) + from;
    const C* part = static_cast<const C*>(p.part[axis]) + from;
    u = whole_chunk(u, n, u_copy);
    if (along) {
      whole = whole_chunk(whole, n, whole_copy);
      part = whole_chunk(part, n, part_copy);
    }
    const I size = static_cast<I>(p.size[axis]);
    bool lost = false;
    for (int64_t k = 0; k < kWarpChunk; k += lanes) {
      const VC start = along ? load<C>(part + k) : VC{} + *part;
      const VI base = along ? load_raw<VI>(whole + k) : VI{} + *whole;
      const VC t = start + load<C>(u + k) * static_cast<C>(p.scale[axis]);
      const C infinity = p.padding == WarpPadding::reflection ? std::numeric_limits<C>::max()
                                                              : std::numeric_limits<C>::infinity();
      const VI known = (t >= -infinity) & (t <= infinity);
      const Axis at =
          Axis::at(known ? t : VC{}, base, static_cast<C>(p.scale[axis]), p.padding, size);
      set_taps(p.padding, size, at, axis, k, taps, index);
      if (!any(~known)) continue;
      lost = true;
      store(taps.lost + k, load_raw<VI>(taps.lost + k) | ~known);
    }
    for (int tap = 0; tap < T; ++tap) {
      int64_t* offset = taps.offset[axis][tap];
      for (int64_t k = 0; k < kWarpChunk; ++k) offset[k] = int64_t{index[tap][k]} * stride;
    }
    if (lost) lose(axis, taps);
  }

  static MEDKERN_INLINE void set_taps(WarpPadding padding, I size, const Axis& at, int axis,
                                      int64_t k, Taps& taps, I (&index)[T][kWarpChunk]) {
    for (int tap = 0; tap < T; ++tap) {
      VI within;
      store(index[tap] + k, at.index(tap, padding, size, within));
      store(taps.weight[axis][tap] + k, within ? at.weight(tap) : VC{});
      if constexpr (Slopes) {
        store(taps.slope[axis][tap] + k, within ? at.weight_slope(tap) : VC{});
      }
    }
    if (padding == WarpPadding::zeros && T > 1) {
      const VI outside = at.outside(size);
      taps.any_outside |= any(outside);
      store(taps.outside + k, load_raw<VI>(taps.outside + k) | outside);
    }
    if (axis == 2 && T == 2) store(taps.edge + k, at.edge(size));
  }

  static void lose(int axis, Taps& taps) {
    taps.any_lost = true;
    for (int64_t k = 0; k < kWarpChunk; ++k) {
      for (int tap = 0; tap < T && taps.lost[k]; ++tap) {
        taps.weight[axis][tap][k] = std::numeric_limits<C>::quiet_NaN();
        if constexpr (Slopes) taps.slope[axis][tap][k] = std::numeric_limits<C>::quiet_NaN();
      }
    }
  }
};

}  // namespace medkern::MEDKERN_ISA
