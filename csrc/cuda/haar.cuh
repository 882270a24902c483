// CUDA kernels of the Haar family: the same maps, shapes and padding as core/haar.hpp, whose block
// arithmetic they share.
//
// Three ways to run a map, each one pass over memory, one write per output, no atomics, hence
// deterministic; all indices are 64-bit:
//   rows      planar, even W, 16-byte aligned rows: a thread takes 16 bytes of blocks along W,
//   reads
//             two 16-byte vectors of each row that they span and writes one vector per band
//   channels  channels-last, aligned runs of channels: a thread takes 16 bytes of channels of one
//   block blocks    everything else: a thread takes one block of one channel
// Bytes moved per sample of x: sizeof(x) * (1 + outputs / 2^N). About N additions per sample.
#pragma once

#include <algorithm>

#include "core/haar_blocks.hpp"
#include "grid_stride.cuh"

namespace medkern::MEDKERN_ISA {

// Lanes per thread: 16 bytes, or fewer where that many blocks would fill the registers.
template <class X, int N>
constexpr int kDeviceLanes = std::min(16 / static_cast<int>(sizeof(X)), 32 / kCorners<N>);

template <class Mode, int N, class X, class Y, class C>
struct HaarDevice : HaarBlocks<Mode, N, X, Y, C> {
  using Base = HaarBlocks<Mode, N, X, Y, C>;
  using Base::corners;
  using Base::outputs;
  using Base::rows;
  using typename Base::Block;
  static constexpr int vector = kDeviceLanes<X, N>;

  // Which row of blocks (unit of haar_units) and which block of it, or pixel and channel.
  static MEDKERN_DEVICE_INLINE Block locate(const HaarProblem& p, int64_t index, int64_t lanes,
                                            int step) {
    int64_t unit, lane;
    split(index, lanes, unit, lane);
    Block b{};
    if (p.channels_last) split(unit, p.half[2], unit, b.at[2]);
    split(unit, p.half[1], unit, b.at[1]);
    split(unit, p.half[0], unit, b.at[0]);
    if (p.channels_last) {
      b.batch = unit;
      b.channel = lane * step;
    } else {
      split(unit, p.channels, b.batch, b.channel);
      b.at[2] = lane * step;
    }
    return b;
  }

  static MEDKERN_DEVICE_INLINE void forward_one(const HaarProblem& p, const Block& b) {
    Base::forward_block(p, b);
  }

  static MEDKERN_DEVICE_INLINE bool writes(const HaarProblem& p, const Block& b, int q) {
    return Base::writes_row(p, b, q & (rows - 1)) && Base::inside(p, 2, b.at[2], q / rows);
  }

  static MEDKERN_DEVICE_INLINE bool is_copied(const HaarProblem& p, const Block& b, int q) {
    return Base::row_is_copied(p, b, q & (rows - 1)) ||
           2 * b.at[2] + q / rows == Base::padded_sample(p, 2);
  }

  static MEDKERN_DEVICE_INLINE void adjoint_one(const HaarProblem& p, const Block& b) {
    C corner[corners];
    Base::adjoint_block(p, b, corner);
    for (int q = 0; q < corners; ++q) {
      if (!writes(p, b, q)) continue;
      store_one(Base::pixel(p, p.x, b, q), is_copied(p, b, q) ? Base::gather(p, b, q) : corner[q]);
    }
  }

  // 16 bytes of samples from each of the two halves of a row segment, split into even and odd.
  static MEDKERN_DEVICE_INLINE void read_segment(const X* source, C (&even)[vector],
                                                 C (&odd)[vector]) {
    const auto lo = load_vector<X, vector>(source);
    const auto hi = load_vector<X, vector>(source + vector);
    for (int i = 0; i < vector / 2; ++i) {
      even[i] = load_one<C>(&lo[2 * i]);
      odd[i] = load_one<C>(&lo[2 * i + 1]);
      even[i + vector / 2] = load_one<C>(&hi[2 * i]);
      odd[i + vector / 2] = load_one<C>(&hi[2 * i + 1]);
    }
  }

  static MEDKERN_DEVICE_INLINE void read_rows(const HaarProblem& p, const HaarView& view,
                                              const Block& b, C (&corner)[corners][vector]) {
    for (int r = 0; r < rows; ++r) {
      const X* start = Base::row(p, view, b, r);
      if (start) {
        read_segment(start + 2 * b.at[2], corner[r], corner[r + rows]);
      } else {  // zero padding
        for (int i = 0; i < vector; ++i) corner[r][i] = corner[r + rows][i] = C{};
      }
    }
  }

  static MEDKERN_DEVICE_INLINE void read_channels(const HaarProblem& p, const HaarView& view,
                                                  const Block& b, C (&corner)[corners][vector]) {
    for (int q = 0; q < corners; ++q) {
      const X* start = Base::pixel(p, view, b, q);
      if (start) {
        const auto lanes = load_vector<X, vector>(start);
        for (int i = 0; i < vector; ++i) corner[q][i] = load_one<C>(&lanes[i]);
      } else {
        for (int i = 0; i < vector; ++i) corner[q][i] = C{};
      }
    }
  }

  static MEDKERN_DEVICE_INLINE void read_outputs(const HaarProblem& p, const Block& b,
                                                 C (&y)[outputs][vector]) {
    const Y* source = Base::out_row(p, b) + b.at[2] * p.y.space[2];
    for (int o = 0; o < outputs; ++o) {
      const auto lanes = load_vector<Y, vector>(source + o * p.y.band);
      for (int i = 0; i < vector; ++i) y[o][i] = load_one<C>(&lanes[i]);
    }
  }

  static MEDKERN_DEVICE_INLINE void write_outputs(const HaarProblem& p, const Block& b,
                                                  const C (&y)[outputs][vector]) {
    Y* target = Base::out_row(p, b) + b.at[2] * p.y.space[2];
    for (int o = 0; o < outputs; ++o) {
      DeviceVector<Y, vector> lanes;
      for (int i = 0; i < vector; ++i) store_one(&lanes[i], y[o][i]);
      store_vector(target + o * p.y.band, lanes);
    }
  }

  static MEDKERN_DEVICE_INLINE void forward_lanes(C (&x)[corners][vector],
                                                  const C (&keys)[corners][vector],
                                                  C (&y)[outputs][vector]) {
    for (int i = 0; i < vector; ++i) {
      C block[corners], key[corners], out[outputs];
      for (int q = 0; q < corners; ++q) block[q] = x[q][i], key[q] = keys[q][i];
      Mode::template forward<C>(block, key, out);
      for (int o = 0; o < outputs; ++o) y[o][i] = out[o];
    }
  }

  static MEDKERN_DEVICE_INLINE void adjoint_lanes(const C (&y)[outputs][vector],
                                                  const C (&keys)[corners][vector],
                                                  C (&x)[corners][vector]) {
    for (int i = 0; i < vector; ++i) {
      C block[corners], key[corners], out[outputs];
      for (int q = 0; q < corners; ++q) key[q] = keys[q][i];
      for (int o = 0; o < outputs; ++o) out[o] = y[o][i];
      Mode::template adjoint<C>(out, key, block);
      for (int q = 0; q < corners; ++q) x[q][i] = block[q];
    }
  }

  // Writes the two vectors of row r that `vector` blocks cover.
  static MEDKERN_DEVICE_INLINE void write_segment(X* target, const C (&even)[vector],
                                                  const C (&odd)[vector]) {
    DeviceVector<X, vector> lo, hi;
    for (int i = 0; i < vector / 2; ++i) {
      store_one(&lo[2 * i], even[i]);
      store_one(&lo[2 * i + 1], odd[i]);
      store_one(&hi[2 * i], even[i + vector / 2]);
      store_one(&hi[2 * i + 1], odd[i + vector / 2]);
    }
    store_vector(target, lo);
    store_vector(target + vector, hi);
  }

  static MEDKERN_DEVICE_INLINE void write_row(const HaarProblem& p, const Block& b, int r,
                                              const C (&even)[vector], const C (&odd)[vector]) {
    if (!Base::writes_row(p, b, r)) return;
    if (!Base::row_is_copied(p, b, r)) {
      write_segment(Base::row(p, p.x, b, r) + 2 * b.at[2], even, odd);
      return;
    }
    Block each = b;
    for (each.at[2] = b.at[2]; each.at[2] < b.at[2] + vector; ++each.at[2]) {
      Base::gather_into(p, each, r);
      Base::gather_into(p, each, r + rows);
    }
  }

  static MEDKERN_DEVICE_INLINE void write_pixel(const HaarProblem& p, const Block& b, int q,
                                                const C (&x)[vector]) {
    if (!writes(p, b, q)) return;
    X* target = Base::pixel(p, p.x, b, q);
    DeviceVector<X, vector> lanes;
    Block each = b;
    for (int i = 0; i < vector; ++i) {
      each.channel = b.channel + i;
      store_one(&lanes[i], is_copied(p, b, q) ? Base::gather(p, each, q) : x[i]);
    }
    store_vector(target, lanes);
  }
};

template <class Run>
MEDKERN_GLOBAL void haar_fwd_blocks_kernel(HaarProblem p, int64_t lanes, int64_t count) {
  MEDKERN_GRID_STRIDE(index, count) Run::forward_one(p, Run::locate(p, index, lanes, 1));
}

template <class Run>
MEDKERN_GLOBAL void haar_bwd_blocks_kernel(HaarProblem p, int64_t lanes, int64_t count) {
  MEDKERN_GRID_STRIDE(index, count) Run::adjoint_one(p, Run::locate(p, index, lanes, 1));
}

template <class Run, class Mode, class C>
MEDKERN_GLOBAL void haar_fwd_rows_kernel(HaarProblem p, int64_t lanes, int64_t count) {
  MEDKERN_GRID_STRIDE(index, count) {
    const auto b = Run::locate(p, index, lanes, Run::vector);
    C x[Run::corners][Run::vector], keys[Run::corners][Run::vector], y[Run::outputs][Run::vector];
    Run::read_rows(p, p.x, b, x);
    if constexpr (Mode::has_keys) Run::read_rows(p, p.keys, b, keys);
    Run::forward_lanes(x, keys, y);
    Run::write_outputs(p, b, y);
  }
}

template <class Run, class Mode, class C>
MEDKERN_GLOBAL void haar_bwd_rows_kernel(HaarProblem p, int64_t lanes, int64_t count) {
  MEDKERN_GRID_STRIDE(index, count) {
    const auto b = Run::locate(p, index, lanes, Run::vector);
    C x[Run::corners][Run::vector], keys[Run::corners][Run::vector], y[Run::outputs][Run::vector];
    Run::read_outputs(p, b, y);
    if constexpr (Mode::has_keys) Run::read_rows(p, p.keys, b, keys);
    Run::adjoint_lanes(y, keys, x);
    for (int r = 0; r < Run::rows; ++r) Run::write_row(p, b, r, x[r], x[r + Run::rows]);
  }
}

template <class Run, class Mode, class C>
MEDKERN_GLOBAL void haar_fwd_channels_kernel(HaarProblem p, int64_t lanes, int64_t count) {
  MEDKERN_GRID_STRIDE(index, count) {
    const auto b = Run::locate(p, index, lanes, Run::vector);
    C x[Run::corners][Run::vector], keys[Run::corners][Run::vector], y[Run::outputs][Run::vector];
    Run::read_channels(p, p.x, b, x);
    if constexpr (Mode::has_keys) Run::read_channels(p, p.keys, b, keys);
    Run::forward_lanes(x, keys, y);
    Run::write_outputs(p, b, y);
  }
}

template <class Run, class Mode, class C>
MEDKERN_GLOBAL void haar_bwd_channels_kernel(HaarProblem p, int64_t lanes, int64_t count) {
  MEDKERN_GRID_STRIDE(index, count) {
    const auto b = Run::locate(p, index, lanes, Run::vector);
    C x[Run::corners][Run::vector], keys[Run::corners][Run::vector], y[Run::outputs][Run::vector];
    Run::read_outputs(p, b, y);
    if constexpr (Mode::has_keys) Run::read_channels(p, p.keys, b, keys);
    Run::adjoint_lanes(y, keys, x);
    for (int q = 0; q < Run::corners; ++q) Run::write_pixel(p, b, q, x[q]);
  }
}

}  // namespace medkern::MEDKERN_ISA
