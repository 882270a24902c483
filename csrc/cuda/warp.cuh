// CUDA kernels of warping: positions and weights of core/warp_axis.hpp, interpolation of
// core/warp_point.hpp, with the bits of the CPU.
//
// A thread takes an output voxel, neighbouring threads neighbours along x, and walks channels: the
// taps are found once for kWarpShared of them (forward), or all (slope). No copies of image or
// displacement, no grid, no tables; the caches serve what neighbours read again.
// Bytes per voxel: as on the CPU, reads of image and u, writes of out. float16, bfloat16 and
// float32 compute in float32. N: spatial axes, T: taps per axis.
#pragma once

#include <limits>

#include "core/warp_axis.hpp"
#include "core/warp_point.hpp"
#include "grid_stride.cuh"
#include "warp.hpp"

namespace medkern::MEDKERN_ISA {

constexpr int64_t kWarpShared = 4;  // channels that a thread of the forward kernels takes

template <class C>
MEDKERN_DEVICE_INLINE C load_floating(const void* values, FloatType type, int64_t i) {
  switch (type) {
    case FloatType::float16:
      return static_cast<C>(load_one<float>(static_cast<const Half*>(values) + i));
    case FloatType::bfloat16:
      return static_cast<C>(load_one<float>(static_cast<const BFloat16*>(values) + i));
    case FloatType::float64:
      return static_cast<C>(static_cast<const double*>(values)[i]);
    default:
      return static_cast<C>(static_cast<const float*>(values)[i]);
  }
}

template <class C>
MEDKERN_DEVICE_INLINE void store_floating(void* values, FloatType type, int64_t i, C value) {
  switch (type) {
    case FloatType::float16:
      return store_one(static_cast<Half*>(values) + i, static_cast<float>(value));
    case FloatType::bfloat16:
      return store_one(static_cast<BFloat16*>(values) + i, static_cast<float>(value));
    case FloatType::float64:
      return store_one(static_cast<double*>(values) + i, value);
    default:
      return store_one(static_cast<float*>(values) + i, value);
  }
}

// values[k] without indexing, which registers do not have, where k is not known to the compiler.
template <class V, int T>
MEDKERN_DEVICE_INLINE V pick(const V (&values)[T], int k) {
  V value = values[0];
  MEDKERN_UNROLL
  for (int i = 1; i < T; ++i) value = k == i ? values[i] : value;
  return value;
}

// The taps of one output voxel. A picture has one along z, of weight 1.
template <class C, int T, int N, bool Slopes>
struct WarpVoxel {
  using I = WarpIndex<C>;
  using Axis = WarpAxis<WarpOne<C>, T>;
  static constexpr int depth = N == 3 ? T : 1;
  static constexpr C largest = std::numeric_limits<C>::max();
  static constexpr C infinite = std::numeric_limits<C>::infinity();
  static constexpr C none = std::numeric_limits<C>::quiet_NaN();

  int64_t sample, at;  // at: in the output
  I index[3][T];
  C weight[3][T], slope[3][Slopes ? T : 1];
  bool outside = false, lost = false;

  MEDKERN_DEVICE_INLINE WarpVoxel(const WarpLaunch& call, int64_t of, int64_t voxel)
      : sample(of), at(voxel) {
    const WarpProblem& p = call.problem;
    int64_t position[3], row;
    split(voxel, p.out[2], row, position[2]);
    split(row, p.out[1], position[0], position[1]);
    if constexpr (N == 2) {
      index[0][0] = 0;
      weight[0][0] = 1;
      if constexpr (Slopes) slope[0][0] = 0;
    }
    MEDKERN_UNROLL
    for (int axis = 3 - N; axis < 3; ++axis) {
      place(p, axis, position[axis], displacement(call, axis));
    }
    outside = outside && !lost;
  }

  MEDKERN_DEVICE_INLINE C displacement(const WarpLaunch& call, int64_t axis) const {
    const int64_t i = (sample * N + axis - 3 + N) * call.problem.out_voxels() + at;
    return load_floating<C>(call.problem.displacement, call.displacement_type, i);
  }

  MEDKERN_DEVICE_INLINE void place(const WarpProblem& p, int axis, int64_t position, C u) {
    I whole = static_cast<I>(position);
    C part{};
    if (p.step[axis] != 1.0) {
      const double start = static_cast<double>(position) * p.step[axis];
      const double floor = std::floor(start);
      whole = static_cast<I>(floor);
      part = static_cast<C>(start - floor);
    }
    const C scale = static_cast<C>(p.scale[axis]), t = part + u * scale;
    const C most = p.padding == WarpPadding::reflection ? largest : infinite;
    const bool known = t >= -most && t <= most;
    const I size = static_cast<I>(p.size[axis]);
    const Axis found = Axis::at(known ? t : C{}, whole, scale, p.padding, size);
    MEDKERN_UNROLL
    for (int tap = 0; tap < T; ++tap) {
      bool within;
      index[axis][tap] = found.index(tap, p.padding, size, within);
      weight[axis][tap] = known ? (within ? found.weight(tap) : C{}) : none;
      if constexpr (Slopes) {
        slope[axis][tap] = known ? (within ? found.weight_slope(tap) : C{}) : none;
      }
    }
    lost = lost || !known;
    if (T > 1 && p.padding == WarpPadding::zeros) outside = outside || found.outside(size);
  }

  MEDKERN_DEVICE_INLINE int64_t row(const WarpProblem& p, int z, int y) const {
    return (static_cast<int64_t>(pick(index[0], z)) * p.size[1] + index[1][y]) * p.size[2];
  }

  template <class S>
  MEDKERN_DEVICE_INLINE auto fetch(const WarpProblem& p, const S* image) const {
    return [this, &p, image](int z, int y, C(&v)[T]) {
      const S* from = image + row(p, z, y);
      MEDKERN_UNROLL
      for (int x = 0; x < T; ++x) v[x] = load_one<C>(from + index[2][x]);
    };
  }

  template <class S>
  MEDKERN_DEVICE_INLINE C value(const WarpProblem& p, const S* image) const {
    if (outside) return C{};
    return WarpPoint<C, T>::value(depth, fetch(p, image),
                                  [this](int a, int k) { return pick(weight[a], k); });
  }

  template <class S>
  MEDKERN_DEVICE_INLINE void slopes(const WarpProblem& p, const S* image, C (&d)[3]) const {
    WarpPoint<C, T>::slopes(
        depth, fetch(p, image), [this](int a, int k) { return pick(weight[a], k); },
        [this](int a, int k) { return pick(slope[a], k); }, d);
  }

  // term(voxel of the image, what `grad` gives to it), for all that it gives something to.
  template <class Term>
  MEDKERN_DEVICE_INLINE void spread(const WarpProblem& p, C grad, const Term& term) const {
    if (lost) return;
    MEDKERN_UNROLL_BY(T == 4 ? 1 : T)
    for (int z = 0; z < depth; ++z) {
      const C by = pick(weight[0], z);
      MEDKERN_UNROLL
      for (int y = 0; y < T; ++y) {
        if (by == C{} || weight[1][y] == C{}) continue;
        const C across = by * weight[1][y];
        const C part = across * grad;
        MEDKERN_UNROLL
        for (int x = 0; x < T; ++x) {
          if (weight[2][x] != C{}) term(row(p, z, y) + index[2][x], weight[2][x] * part);
        }
      }
    }
  }
};

// Index: (sample, kWarpShared channels, voxel).
template <class S, int T, int N>
MEDKERN_GLOBAL void warp_fwd_kernel(WarpLaunch call, int64_t groups) {
  using C = Compute<S>;
  const WarpProblem& p = call.problem;
  const int64_t plane = p.out_voxels();
  MEDKERN_GRID_STRIDE(i, p.batch * groups * plane) {
    int64_t unit, at, sample, group;
    split(i, plane, unit, at);
    split(unit, groups, sample, group);
    const WarpVoxel<C, T, N, false> voxel(call, sample, at);
    const int64_t first = group * kWarpShared;
    const int64_t end = first + kWarpShared < p.channels ? first + kWarpShared : p.channels;
    for (int64_t c = first; c < end; ++c) {
      const int64_t channel = sample * p.channels + c;
      C value = voxel.value(p, static_cast<const S*>(call.image) + channel * p.voxels());
      if (p.add_displacement) value += voxel.displacement(call, c + 3 - N);
      store_one(static_cast<S*>(call.out) + channel * plane + at, value);
    }
  }
}

template <class C, class B, int N>
MEDKERN_GLOBAL void warp_copy_fwd_kernel(WarpLaunch call, int64_t groups, B lost) {
  const WarpProblem& p = call.problem;
  const int64_t plane = p.out_voxels();
  MEDKERN_GRID_STRIDE(i, p.batch * groups * plane) {
    int64_t unit, at, sample, group;
    split(i, plane, unit, at);
    split(unit, groups, sample, group);
    const WarpVoxel<C, 1, N, false> voxel(call, sample, at);
    const C weight = voxel.weight[0][0] * voxel.weight[1][0] * voxel.weight[2][0];
    const int64_t from = voxel.row(p, 0, 0) + voxel.index[2][0];
    const int64_t first = group * kWarpShared;
    const int64_t end = first + kWarpShared < p.channels ? first + kWarpShared : p.channels;
    for (int64_t c = first; c < end; ++c) {
      const int64_t channel = sample * p.channels + c;
      const B value = static_cast<const B*>(call.image)[channel * p.voxels() + from];
      const B other = weight == C{} ? B{} : lost;
      static_cast<B*>(call.out)[channel * plane + at] = weight == C{1} ? value : other;
    }
  }
}

// How the CPU adds channels: groups of 4 or 8 by halves, then one group after another.
struct WarpHalves {
  int64_t groups = 1;
  int of[3] = {1, 1, 1};

  static WarpHalves of_channels(int64_t channels) {
    if (channels <= 1) return {};
    if (channels <= 4) return {1, {1, 2, 2}};
    return {(channels + 7) / 8, {2, 2, 2}};
  }
};

template <class C>
MEDKERN_DEVICE_INLINE void add_or_set(bool set, C (&sum)[3], const C (&value)[3]) {
  MEDKERN_UNROLL
  for (int axis = 0; axis < 3; ++axis) sum[axis] = set ? value[axis] : sum[axis] + value[axis];
}

template <class S, int T, int N>
MEDKERN_GLOBAL void warp_slope_bwd_kernel(WarpLaunch call, WarpHalves halves) {
  using C = Compute<S>;
  const WarpProblem& p = call.problem;
  const int64_t plane = p.out_voxels();
  MEDKERN_GRID_STRIDE(i, p.batch * plane) {
    int64_t sample, at;
    split(i, plane, sample, at);
    const WarpVoxel<C, T, N, true> voxel(call, sample, at);
    const auto channel_slopes = [&](int64_t c, C(&d)[3]) {
      if (c >= p.channels) return;
      const int64_t channel = sample * p.channels + c;
      voxel.slopes(p, static_cast<const S*>(call.image) + channel * p.voxels(), d);
      const C grad = load_one<C>(static_cast<const S*>(call.grad) + channel * plane + at);
      MEDKERN_UNROLL
      for (int axis = 0; axis < 3; ++axis) d[axis] *= grad;
    };
    C total[3] = {};
    int64_t c = 0;
    for (int64_t group = 0; group < halves.groups && !voxel.outside; ++group) {
      C whole[3] = {};
      for (int h = 0; h < halves.of[0]; ++h) {
        C half[3] = {};
        for (int q = 0; q < halves.of[1]; ++q) {
          C quarter[3] = {};
          for (int e = 0; e < halves.of[2]; ++e, ++c) {
            C d[3] = {};
            channel_slopes(c, d);
            add_or_set(e == 0, quarter, d);
          }
          add_or_set(q == 0, half, quarter);
        }
        add_or_set(h == 0, whole, half);
      }
      add_or_set(group == 0, total, whole);
    }
    MEDKERN_UNROLL
    for (int axis = 3 - N; axis < 3; ++axis) {
      store_floating(call.out, call.displacement_type, (sample * N + axis - 3 + N) * plane + at,
                     total[axis]);
    }
  }
}

}  // namespace medkern::MEDKERN_ISA
