// One block of a Haar problem at a time, padding and its adjoint included: where the block is, its
// corners, its outputs, and the gradient of one sample. Scalar and always correct; the vector
// kernels of the CPU and the CUDA kernels fall back to it at edges.
#pragma once

#include "common/storage.hpp"
#include "haar_modes.hpp"

namespace medkern::MEDKERN_ISA {

template <class Mode, int N, class X, class Y, class C>
struct HaarBlocks {
  static constexpr int corners = kCorners<N>;
  static constexpr int rows = corners / 2;  // of x that one row of blocks touches
  static constexpr int outputs = Mode::outputs;
  static constexpr int first_axis = 3 - N;

  struct Block {  // which block: batch, channel and block coordinates
    int64_t batch, channel, at[3];
  };

  static MEDKERN_INLINE Block block_of(const HaarProblem& p, int64_t unit) {
    Block b{};
    b.at[1] = unit % p.half[1];
    unit /= p.half[1];
    b.at[0] = unit % p.half[0];
    unit /= p.half[0];
    b.channel = p.channels_last ? 0 : unit % p.channels;
    b.batch = p.channels_last ? unit : unit / p.channels;
    return b;
  }

  // Coordinate of x read at offset `bit` of block `k` along an axis; -1 in the zero padding.
  static MEDKERN_INLINE int64_t coordinate(const HaarProblem& p, int axis, int64_t k, int bit) {
    const int64_t i = 2 * k + bit;
    return i < p.size[axis] ? i : pad_source(p.pad, p.size[axis]);
  }

  static MEDKERN_INLINE bool inside(const HaarProblem& p, int axis, int64_t k, int bit) {
    return 2 * k + bit < p.size[axis];
  }

  // Start of row r (bits over the axes before W) of a row of blocks; null where all is padding.
  static MEDKERN_INLINE X* row(const HaarProblem& p, const HaarView& v, const Block& b, int r) {
    X* start = static_cast<X*>(v.data) + b.batch * v.batch + b.channel * v.channel;
    for (int axis = first_axis; axis < 2; ++axis) {
      const int64_t i = coordinate(p, axis, b.at[axis], (r >> (axis - first_axis)) & 1);
      if (i < 0) return nullptr;
      start += i * v.space[axis];
    }
    return start;
  }

  static MEDKERN_INLINE Y* out_row(const HaarProblem& p, const Block& b) {
    return static_cast<Y*>(p.y.data) + b.batch * p.y.batch + b.channel * p.y.channel +
           b.at[0] * p.y.space[0] + b.at[1] * p.y.space[1];
  }

  // All corners of one block as scalars, padding included: the slow, always correct way to read.
  MEDKERN_OUT_OF_LINE static void read_corners(const HaarProblem& p, const HaarView& v,
                                               const Block& b, C* corner) {
    for (int q = 0; q < corners; ++q) {
      const X* start = row(p, v, b, q & (rows - 1));
      const int64_t w = coordinate(p, 2, b.at[2], q / rows);
      corner[q] = start && w >= 0 ? load_one<C>(start + w * v.space[2]) : C{};
    }
  }

  MEDKERN_OUT_OF_LINE static void adjoint_block(const HaarProblem& p, const Block& b,
                                                C (&corner)[corners]) {
    C y[outputs], keys[corners];
    const Y* source = out_row(p, b) + b.at[2] * p.y.space[2];
    for (int k = 0; k < outputs; ++k) y[k] = load_one<C>(source + k * p.y.band);
    if constexpr (Mode::has_keys) read_corners(p, p.keys, b, keys);
    Mode::template adjoint<C>(y, keys, corner);
  }

  MEDKERN_OUT_OF_LINE static void forward_block(const HaarProblem& p, const Block& b) {
    C x[corners], keys[corners], y[outputs];
    read_corners(p, p.x, b, x);
    if constexpr (Mode::has_keys) read_corners(p, p.keys, b, keys);
    Mode::template forward<C>(x, keys, y);
    Y* target = out_row(p, b) + b.at[2] * p.y.space[2];
    for (int k = 0; k < outputs; ++k) store_one(target + k * p.y.band, y[k]);
  }

  // The sample of x that the padding of an odd axis copies, or -1.
  static MEDKERN_INLINE int64_t padded_sample(const HaarProblem& p, int axis) {
    return p.size[axis] % 2 ? pad_source(p.pad, p.size[axis]) : -1;
  }

  // Gradient of the sample of x at corner q of block b: the sum over all corners that read it.
  MEDKERN_OUT_OF_LINE static C gather(const HaarProblem& p, const Block& b, int q) {
    int copied = 0;  // axes along which the padding reads this sample too
    for (int i = 0; i < N; ++i) {
      const int axis = first_axis + i;
      if (2 * b.at[axis] + ((q >> i) & 1) == padded_sample(p, axis)) copied |= 1 << i;
    }
    C sum{};
    for (int subset = 0; subset < corners; ++subset) {
      if (subset & ~copied) continue;
      Block reader = b;
      int reading = q;
      for (int i = 0; i < N; ++i) {
        if (!((subset >> i) & 1)) continue;
        reader.at[first_axis + i] = p.size[first_axis + i] / 2;
        reading |= 1 << i;
      }
      C corner[corners];
      adjoint_block(p, reader, corner);
      sum += corner[reading];
    }
    return sum;
  }

  static MEDKERN_INLINE void gather_into(const HaarProblem& p, const Block& b, int q) {
    X* start = row(p, p.x, b, q & (rows - 1));
    store_one(start + (2 * b.at[2] + q / rows) * p.x.space[2], gather(p, b, q));
  }

  static MEDKERN_INLINE bool writes_row(const HaarProblem& p, const Block& b, int r) {
    for (int axis = first_axis; axis < 2; ++axis) {
      if (!inside(p, axis, b.at[axis], (r >> (axis - first_axis)) & 1)) return false;
    }
    return true;
  }

  static MEDKERN_INLINE bool row_is_copied(const HaarProblem& p, const Block& b, int r) {
    for (int axis = first_axis; axis < 2; ++axis) {
      const int64_t i = 2 * b.at[axis] + ((r >> (axis - first_axis)) & 1);
      if (i == padded_sample(p, axis)) return true;
    }
    return false;
  }

  static MEDKERN_INLINE X* pixel(const HaarProblem& p, const HaarView& v, const Block& b, int q) {
    X* start = row(p, v, b, q & (rows - 1));
    const int64_t w = coordinate(p, 2, b.at[2], q / rows);
    return start && w >= 0 ? start + w * v.space[2] : nullptr;
  }
};

}  // namespace medkern::MEDKERN_ISA
