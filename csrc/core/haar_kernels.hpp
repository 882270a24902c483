// The kernels declared in haar.hpp, compiled once per instruction set by csrc/isa/haar.cpp.
#pragma once

#include "common/simd.hpp"
#include "haar_blocks.hpp"

namespace medkern::MEDKERN_ISA {

// One kernel: Mode over blocks of N axes, x stored as X, y as Y, arithmetic in C.
template <class Mode, int N, class X, class Y, class C>
struct HaarRun : HaarBlocks<Mode, N, X, Y, C> {
  using Blocks = HaarBlocks<Mode, N, X, Y, C>;
  using Blocks::adjoint_block;
  using Blocks::block_of;
  using Blocks::corners;
  using Blocks::forward_block;
  using Blocks::gather;
  using Blocks::gather_into;
  using Blocks::inside;
  using Blocks::out_row;
  using Blocks::outputs;
  using Blocks::padded_sample;
  using Blocks::pixel;
  using Blocks::row;
  using Blocks::row_is_copied;
  using Blocks::rows;
  using Blocks::writes_row;
  using typename Blocks::Block;
  static constexpr int lanes = kLanes<C>;

  // Adjoint at the samples the fast path gets wrong or leaves out: the odd last column, and every
  // sample that the padding copies.
  [[gnu::noinline]] static void mend_row(const HaarProblem& p, Block b, int r) {
    const int64_t width = p.size[2], copied = padded_sample(p, 2);
    const auto mend = [&](int64_t w) {
      b.at[2] = w / 2;
      gather_into(p, b, r + (w % 2 ? rows : 0));
    };
    if (row_is_copied(p, b, r)) {
      for (int64_t w = 0; w < width; ++w) mend(w);
      return;
    }
    if (width % 2) mend(width - 1);
    if (copied >= 0 && copied != width - 1) mend(copied);
  }

  template <class S>
  static MEDKERN_INLINE void put(const HaarProblem& p, S* target, Vec<C> value) {
    p.streams ? stream(target, value) : store(target, value);
  }

  // Calls body(k) for vectors of `lanes` starting at k over [0, n), the last one overlapping.
  template <class Body>
  static MEDKERN_INLINE int64_t vectors(int64_t n, const Body& body) {
    if (n < lanes) return 0;
    int64_t k = 0;
    for (; k + lanes <= n; k += lanes) body(k);
    if (k < n) body(n - lanes);
    return n;
  }

  static MEDKERN_INLINE bool find_rows(const HaarProblem& p, const HaarView& v, const Block& b,
                                       X* (&start)[rows]) {
    bool complete = true;
    for (int r = 0; r < rows; ++r) {
      start[r] = row(p, v, b, r);
      complete = complete && start[r];
    }
    return complete;
  }

  // The rows of a block alternate, which the hardware prefetcher of one stream per page follows
  // badly: a pooling that reads much and writes little ran at half the speed of a plain sum.
  static MEDKERN_INLINE void prefetch_line(const X* source, int offset) {
    constexpr int ahead = 1024;  // bytes; 512 to 2048 measured alike
    __builtin_prefetch(reinterpret_cast<const char*>(source) + ahead + offset);
  }

  static MEDKERN_INLINE void read_row_corners(X* const (&start)[rows], int64_t k, Vec<C>* corner) {
    for (int r = 0; r < rows; ++r) {
      const X* source = start[r] + 2 * k;
      prefetch_line(source, 0);
      if constexpr (2 * lanes * sizeof(X) > 64) prefetch_line(source, 64);
      deinterleave(load<C>(source), load<C>(source + lanes), corner[r], corner[r + rows]);
    }
  }

  static void forward_planar(const HaarProblem& p, int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      Block b = block_of(p, unit);
      X *start[rows], *key_start[rows];
      bool complete = find_rows(p, p.x, b, start);
      if constexpr (Mode::has_keys) complete = find_rows(p, p.keys, b, key_start) && complete;
      Y* target = out_row(p, b);
      int64_t done = 0;
      if (complete) {
        done = vectors(p.size[2] / 2, [&](int64_t k) {
          Vec<C> x[corners], keys[corners], y[outputs];
          read_row_corners(start, k, x);
          if constexpr (Mode::has_keys) read_row_corners(key_start, k, keys);
          Mode::template forward<C>(x, keys, y);
          for (int o = 0; o < outputs; ++o) put(p, target + o * p.y.band + k, y[o]);
        });
      }
      for (b.at[2] = done; b.at[2] < p.half[2]; ++b.at[2]) forward_block(p, b);
    }
  }

  static void adjoint_planar(const HaarProblem& p, int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      Block b = block_of(p, unit);
      X *start[rows], *key_start[rows];
      for (int r = 0; r < rows; ++r) start[r] = writes_row(p, b, r) ? row(p, p.x, b, r) : nullptr;
      bool complete = true;
      if constexpr (Mode::has_keys) complete = find_rows(p, p.keys, b, key_start);
      const Y* source = out_row(p, b);
      int64_t done = 0;
      if (complete) {
        done = vectors(p.size[2] / 2, [&](int64_t k) {
          Vec<C> y[outputs], keys[corners], x[corners];
          for (int o = 0; o < outputs; ++o) y[o] = load<C>(source + o * p.y.band + k);
          if constexpr (Mode::has_keys) read_row_corners(key_start, k, keys);
          Mode::template adjoint<C>(y, keys, x);
          for (int r = 0; r < rows; ++r) {
            if (!start[r]) continue;
            Vec<C> lo, hi;
            interleave(x[r], x[r + rows], lo, hi);
            put(p, start[r] + 2 * k, lo);
            put(p, start[r] + 2 * k + lanes, hi);
          }
        });
      }
      finish_adjoint_row(p, b, start, done);
    }
  }

  [[gnu::noinline]] static void finish_adjoint_row(const HaarProblem& p, Block b,
                                                   X* const (&start)[rows], int64_t done) {
    for (b.at[2] = done; b.at[2] < p.size[2] / 2; ++b.at[2]) {
      C corner[corners];
      adjoint_block(p, b, corner);
      for (int q = 0; q < corners; ++q) {
        X* target = start[q & (rows - 1)];
        if (target) store_one(target + 2 * b.at[2] + q / rows, corner[q]);
      }
    }
    for (int r = 0; r < rows; ++r) {
      if (start[r]) mend_row(p, b, r);
    }
  }

  // Channels-last: the corners of a block are runs of channels, so lanes run along channels.

  static MEDKERN_INLINE bool find_pixels(const HaarProblem& p, const HaarView& v, const Block& b,
                                         X* (&at)[corners]) {
    bool complete = true;
    for (int q = 0; q < corners; ++q) {
      at[q] = pixel(p, v, b, q);
      complete = complete && at[q];
    }
    return complete;
  }

  static void forward_channels(const HaarProblem& p, int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      Block b = block_of(p, unit);
      for (b.at[2] = 0; b.at[2] < p.half[2]; ++b.at[2]) forward_pixel(p, b);
    }
  }

  static MEDKERN_INLINE void forward_pixel(const HaarProblem& p, Block b) {
    X *at[corners], *key_at[corners];
    bool complete = find_pixels(p, p.x, b, at);
    if constexpr (Mode::has_keys) complete = find_pixels(p, p.keys, b, key_at) && complete;
    Y* target = out_row(p, b) + b.at[2] * p.y.space[2];
    int64_t done = 0;
    if (complete) {
      done = vectors(p.channels, [&](int64_t c) {
        Vec<C> x[corners], keys[corners], y[outputs];
        for (int q = 0; q < corners; ++q) x[q] = load<C>(at[q] + c);
        if constexpr (Mode::has_keys) {
          for (int q = 0; q < corners; ++q) keys[q] = load<C>(key_at[q] + c);
        }
        Mode::template forward<C>(x, keys, y);
        for (int o = 0; o < outputs; ++o) put(p, target + o * p.y.band + c, y[o]);
      });
    }
    for (b.channel = done; b.channel < p.channels; ++b.channel) forward_block(p, b);
  }

  static void adjoint_channels(const HaarProblem& p, int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      Block b = block_of(p, unit);
      for (b.at[2] = 0; b.at[2] < p.half[2]; ++b.at[2]) adjoint_pixel(p, b);
    }
  }

  static MEDKERN_INLINE void adjoint_pixel(const HaarProblem& p, Block b) {
    X *at[corners], *key_at[corners];
    bool plain = true;  // no corner needs the gather
    for (int q = 0; q < corners; ++q) {
      const int r = q & (rows - 1);
      const bool writes = writes_row(p, b, r) && inside(p, 2, b.at[2], q / rows);
      at[q] = writes ? pixel(p, p.x, b, q) : nullptr;
      const bool copied = 2 * b.at[2] + q / rows == padded_sample(p, 2) || row_is_copied(p, b, r);
      plain = plain && !(writes && copied);
    }
    if constexpr (Mode::has_keys) plain = find_pixels(p, p.keys, b, key_at) && plain;
    const Y* source = out_row(p, b) + b.at[2] * p.y.space[2];
    int64_t done = 0;
    if (plain) {
      done = vectors(p.channels, [&](int64_t c) {
        Vec<C> y[outputs], keys[corners], x[corners];
        for (int o = 0; o < outputs; ++o) y[o] = load<C>(source + o * p.y.band + c);
        if constexpr (Mode::has_keys) {
          for (int q = 0; q < corners; ++q) keys[q] = load<C>(key_at[q] + c);
        }
        Mode::template adjoint<C>(y, keys, x);
        for (int q = 0; q < corners; ++q) {
          if (at[q]) put(p, at[q] + c, x[q]);
        }
      });
    }
    for (b.channel = done; b.channel < p.channels; ++b.channel) {
      for (int q = 0; q < corners; ++q) {
        if (at[q]) store_one(at[q] + b.channel, gather(p, b, q));
      }
    }
  }

  static void forward(const HaarProblem& p, int64_t begin, int64_t end) {
    p.channels_last ? forward_channels(p, begin, end) : forward_planar(p, begin, end);
    if (p.streams) stream_fence();
  }
  static void adjoint(const HaarProblem& p, int64_t begin, int64_t end) {
    p.channels_last ? adjoint_channels(p, begin, end) : adjoint_planar(p, begin, end);
    if (p.streams) stream_fence();
  }
};

template <template <int> class Mode, class X, class Y, class C>
HaarKernel select_ndim(bool adjoint, int ndim) {
  using One = HaarRun<Mode<1>, 1, X, Y, C>;
  using Two = HaarRun<Mode<2>, 2, X, Y, C>;
  using Three = HaarRun<Mode<3>, 3, X, Y, C>;
  if (ndim == 1) return adjoint ? One::adjoint : One::forward;
  if (ndim == 2) return adjoint ? Two::adjoint : Two::forward;
  return adjoint ? Three::adjoint : Three::forward;
}

template <class S>
HaarKernel select_mode(HaarMode mode, bool adjoint, int ndim) {
  using C = Compute<S>;
  switch (mode) {
    case HaarMode::dwt:
      return select_ndim<DwtMode, S, S, C>(adjoint, ndim);
    case HaarMode::ll:
      return select_ndim<LowpassMode, S, S, C>(adjoint, ndim);
    case HaarMode::iewa:
      return select_ndim<IewaMode, S, S, C>(adjoint, ndim);
    case HaarMode::all:
      return select_ndim<AllMode, S, S, C>(adjoint, ndim);
    case HaarMode::max_concat:
      return select_ndim<MaxConcatMode, S, S, C>(adjoint, ndim);
    default:
      return nullptr;
  }
}

HaarKernel haar_kernel(HaarMode mode, bool adjoint, HaarDType dtype, int ndim) {
  switch (dtype) {
    case HaarDType::float16:
      return select_mode<Half>(mode, adjoint, ndim);
    case HaarDType::bfloat16:
      return select_mode<BFloat16>(mode, adjoint, ndim);
    case HaarDType::float32:
      return select_mode<float>(mode, adjoint, ndim);
    case HaarDType::float64:
      return select_mode<double>(mode, adjoint, ndim);
    case HaarDType::uint8:
      return select_ndim<LiftMode, uint8_t, int16_t, int16_t>(adjoint, ndim);
    case HaarDType::int16:
      return select_ndim<LiftMode, int16_t, int32_t, int32_t>(adjoint, ndim);
  }
  return nullptr;
}

}  // namespace medkern::MEDKERN_ISA
