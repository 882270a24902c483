// The kernels declared in warp.hpp, compiled once per instruction set by csrc/isa/warp.cpp.
#pragma once

#include "warp_layout.hpp"
#include "warp_pairs.hpp"
#include "warp_point.hpp"
#include "warp_taps.hpp"

namespace medkern::MEDKERN_ISA {

template <class C, int G>
struct WarpValueOf {
  using type = Vec<C, G>;
};
template <class C>
struct WarpValueOf<C, 1> {
  using type = C;
};

// By halves, whatever the instruction set.
template <int N, class C>
MEDKERN_INLINE C sum_lanes(const C* v) {
  if constexpr (N == 1) {
    return v[0];
  } else {
    return sum_lanes<N / 2>(v) + sum_lanes<N / 2>(v + N / 2);
  }
}

// C: compute type; T: taps per axis; G: channels of a group.
template <class C, int T, int G>
struct WarpRun {
  using V = typename WarpValueOf<C, G>::type;
  static constexpr bool gathers = G == 1 && T == 2;  // both taps along x in one load

  template <class Taps>
  struct At {
    const Taps& taps;
    int64_t k;
    MEDKERN_INLINE C weight(int axis, int tap) const { return taps.weight[axis][tap][k]; }
    MEDKERN_INLINE C slope(int axis, int tap) const { return taps.slope[axis][tap][k]; }
  };

  static MEDKERN_INLINE V read(const C* from) {
    if constexpr (G == 1) {
      return *from;
    } else {
      return load_raw<V>(from);
    }
  }

  static MEDKERN_INLINE void write(C* to, V v) { std::memcpy(to, &v, sizeof(v)); }

  template <class Taps>
  static MEDKERN_INLINE auto fetch_at(const C* image, const Taps& taps, int64_t k) {
    return [=, &taps](int z, int y, V(&v)[T]) {
      const C* row = image + taps.offset[0][z][k] + taps.offset[1][y][k];
      for (int x = 0; x < T; ++x) v[x] = read(row + taps.offset[2][x][k]);
    };
  }

  // body(first voxel of the plane, voxels, taps) for every chunk of the rows.
  template <bool Slopes, class Body>
  static MEDKERN_INLINE void each_chunk(const WarpProblem& p, int64_t sample, int64_t begin,
                                        int64_t end, const Body& body) {
    WarpTaps<C, T, Slopes> taps;
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t x = 0; x < p.out[2]; x += kWarpChunk) {
        const int64_t n = p.out[2] - x < kWarpChunk ? p.out[2] - x : kWarpChunk;
        WarpStage<C, T, Slopes>::run(p, sample, row, x, n, G, taps);
        body(row * p.out[2] + x, n, taps);
      }
    }
  }

  template <class Store>
  static void forward(const WarpProblem& p, const WarpGroup& g, int64_t begin, int64_t end,
                      const Store& store_chunk) {
    const C* image = static_cast<const C*>(g.grouped);
    const int depth = p.ndim == 3 ? T : 1;
    const C* u = static_cast<const C*>(p.displacement) + g.sample * p.ndim * p.out_voxels();
    each_chunk<false>(p, g.sample, begin, end, [&](int64_t at, int64_t n, const auto& taps) {
      alignas(64) C values[kWarpChunk * G];
      interpolate(image, depth, n, taps, values);
      for (int64_t k = 0; k < n && taps.any_outside; ++k) {
        if (taps.outside[k]) write(values + k * G, V{});
      }
      if (p.add_displacement) {
        for (int64_t c = 0; c < g.count; ++c) {
          for (int64_t k = 0; k < n; ++k) values[k * G + c] += u[c * p.out_voxels() + at + k];
        }
      }
      store_chunk(values, at, n);
    });
  }

  template <class Taps>
  static MEDKERN_INLINE void interpolate(const C* image, int depth, int64_t n, const Taps& taps,
                                         C* values) {
    const auto one = [&](int64_t k) {
      const At<Taps> at{taps, k};
      write(values + k * G, WarpPoint<V, T>::value(depth, fetch_at(image, taps, k),
                                                   [&](int a, int t) { return at.weight(a, t); }));
    };
    if constexpr (gathers) {
      for (int64_t k = 0; k < n; k += kLanes<C>) {
        if (any(load_raw<Vec<WarpIndex<C>>>(taps.edge + k))) {
          for (int64_t i = k; i < n && i < k + kLanes<C>; ++i) one(i);
          continue;
        }
        const auto fetch = [&](int z, int y, Vec<C>(&v)[2]) {
          load_pairs(image, taps.offset[0][z] + k, taps.offset[1][y] + k, taps.offset[2][0] + k,
                     v[0], v[1]);
        };
        store(values + k, WarpPoint<Vec<C>, T>::value(depth, fetch, [&](int a, int t) {
                return load<C>(taps.weight[a][t] + k);
              }));
      }
    } else {
      for (int64_t k = 0; k < n; ++k) one(k);
    }
  }

  // d[axis][k * G + c]: the derivatives of channel c at voxel k, times the gradients there.
  template <class Taps>
  static MEDKERN_INLINE void differentiate(const C* image, const C* grad, int depth, int64_t n,
                                           const Taps& taps, C (&d)[3][kWarpChunk * G]) {
    const auto one = [&](int64_t k) {
      const At<Taps> at{taps, k};
      V slopes[3] = {};
      WarpPoint<V, T>::slopes(
          depth, fetch_at(image, taps, k), [&](int a, int t) { return at.weight(a, t); },
          [&](int a, int t) { return at.slope(a, t); }, slopes);
      for (int a = 0; a < 3; ++a) write(d[a] + k * G, read(grad + k * G) * slopes[a]);
    };
    if constexpr (gathers) {
      for (int64_t k = 0; k < n; k += kLanes<C>) {
        if (any(load_raw<Vec<WarpIndex<C>>>(taps.edge + k))) {
          for (int64_t i = k; i < n && i < k + kLanes<C>; ++i) one(i);
          continue;
        }
        const auto fetch = [&](int z, int y, Vec<C>(&v)[2]) {
          load_pairs(image, taps.offset[0][z] + k, taps.offset[1][y] + k, taps.offset[2][0] + k,
                     v[0], v[1]);
        };
        Vec<C> slopes[3] = {};
        WarpPoint<Vec<C>, T>::slopes(
            depth, fetch, [&](int a, int t) { return load<C>(taps.weight[a][t] + k); },
            [&](int a, int t) { return load<C>(taps.slope[a][t] + k); }, slopes);
        for (int a = 0; a < 3; ++a) store(d[a] + k, load<C>(grad + k) * slopes[a]);
      }
    } else {
      for (int64_t k = 0; k < n; ++k) one(k);
    }
  }

  template <class Load>
  static void slope(const WarpProblem& p, const WarpGroup& g, int64_t begin, int64_t end,
                    const Load& load_chunk) {
    const C* image = static_cast<const C*>(g.grouped);
    C* out = static_cast<C*>(g.out);
    const int depth = p.ndim == 3 ? T : 1;
    each_chunk<true>(p, g.sample, begin, end, [&](int64_t at, int64_t n, const auto& taps) {
      alignas(64) C grad[kWarpChunk * G], d[3][kWarpChunk * G];
      load_chunk(grad, at, n);
      differentiate(image, grad, depth, n, taps, d);
      for (int axis = 3 - p.ndim; axis < 3; ++axis) {
        C* to = out + (axis - 3 + p.ndim) * p.out_voxels() + at;
        for (int64_t k = 0; k < n; ++k) {
          const C sum = taps.outside[k] ? C{} : sum_lanes<G>(d[axis] + k * G);
          to[k] = g.first ? sum : to[k] + sum;
        }
      }
    });
  }

  static void ranges(const WarpProblem& p, int64_t sample, WarpRange* ranges, int64_t begin,
                     int64_t end) {
    const int axis = p.slab_axis();
    const int64_t stride = axis == 0 ? p.size[1] * p.size[2] * G : p.size[2] * G;
    for (int64_t row = begin; row < end; ++row) ranges[row] = {p.size[axis], 0};
    WarpTaps<C, T, false> taps;
    for (int64_t row = begin; row < end; ++row) {
      int64_t low = std::numeric_limits<int64_t>::max(), high = 0;
      for (int64_t x = 0; x < p.out[2]; x += kWarpChunk) {
        const int64_t n = p.out[2] - x < kWarpChunk ? p.out[2] - x : kWarpChunk;
        WarpStage<C, T, false>::run_slab_axis(p, sample, row, x, n, stride, taps);
        for (int tap = 0; tap < T; ++tap) {
          for (int64_t k = 0; k < n; ++k) {
            const int64_t at = taps.offset[axis][tap][k];
            low = at < low ? at : low;
            high = at > high ? at : high;
          }
        }
      }
      ranges[row] = {low / stride, high / stride + 1};
    }
  }

  template <class Load>
  static void transpose(const WarpProblem& p, const WarpGroup& g, const WarpRange* ranges,
                        WarpRange slab, const Load& load_chunk) {
    C* sums = static_cast<C*>(g.sums);
    const int axis = p.slab_axis(), depth = p.ndim == 3 ? T : 1;
    const int64_t stride = axis == 0 ? p.size[1] * p.size[2] * G : p.size[2] * G;
    const int64_t low = slab.low * stride, high = slab.high * stride;
    for (int64_t i = low; i < high; ++i) sums[i] = C{};
    for (int64_t row = 0; row < p.rows(); ++row) {
      if (ranges && (ranges[row].high <= slab.low || ranges[row].low >= slab.high)) continue;
      each_chunk<false>(p, g.sample, row, row + 1, [&](int64_t at, int64_t n, const auto& taps) {
        alignas(64) C grad[kWarpChunk * G];
        load_chunk(grad, at, n);
        if constexpr (gathers) {
          if (adds_plainly(grad, n, taps, axis, low, high)) {
            return add_chunk(sums, depth, grad, n, taps);
          }
        }
        for (int64_t k = 0; k < n; ++k) {
          add(sums, low, high, axis, depth, taps, k, read(grad + k * G));
        }
      });
    }
  }

  // Whether all taps are in the slab, and those of weight 0 add nothing.
  template <class Taps>
  static MEDKERN_INLINE bool adds_plainly(const C* grad, int64_t n, const Taps& taps, int axis,
                                          int64_t low, int64_t high) {
    int64_t left = 0, infinite = 0;
    for (int tap = 0; tap < T; ++tap) {
      for (int64_t k = 0; k < n; ++k) {
        const int64_t at = taps.offset[axis][tap][k];
        left |= (at - low) | (high - 1 - at);  // the sign
      }
    }
    for (int64_t k = 0; k < n; ++k) infinite |= !(grad[k] - grad[k] == C{});
    return left >= 0 && infinite == 0 && !taps.any_lost;
  }

  // Adds the gradients of a chunk to their taps, in the order of `add`: products first, as vectors.
  template <class Taps>
  static MEDKERN_INLINE void add_chunk(C* sums, int depth, const C* grad, int64_t n,
                                       const Taps& taps) {
    C part[T * T][T][kWarpChunk];
    int64_t at[T * T][T][kWarpChunk];
    for (int row = 0; row < depth * T; ++row) {
      const int z = row / T, y = row % T;
      for (int64_t k = 0; k < n; ++k) {
        const C across = (taps.weight[0][z][k] * taps.weight[1][y][k]) * grad[k];
        const int64_t start = taps.offset[0][z][k] + taps.offset[1][y][k];
        for (int x = 0; x < T; ++x) {
          part[row][x][k] = taps.weight[2][x][k] * across;
          at[row][x][k] = start + taps.offset[2][x][k];
        }
      }
    }
    for (int64_t k = 0; k < n; ++k) {
      for (int row = 0; row < depth * T; ++row) {
        for (int x = 0; x < T; ++x) sums[at[row][x][k]] += part[row][x][k];
      }
    }
  }

  // Adds one voxel's gradient to the taps that are in the slab [low, high).
  template <class Taps>
  static MEDKERN_INLINE void add(C* sums, int64_t low, int64_t high, int axis, int depth,
                                 const Taps& taps, int64_t k, V grad) {
    const auto counts = [](C weight) { return weight < C{} || weight > C{}; };  // NaN does not
    if (taps.lost[k]) return;
    // Read before the loops: inside, GCC 12 loses all taps of cubic warps at -O1 and -O2 (ivopts).
    C along[T];
    int64_t step[T];
    for (int x = 0; x < T; ++x) {
      along[x] = taps.weight[2][x][k];
      step[x] = taps.offset[2][x][k];
    }
    for (int z = 0; z < depth; ++z) {
      const C by = taps.weight[0][z][k];
      if (!counts(by)) continue;
      for (int y = 0; y < T; ++y) {
        const int64_t slab_at = axis == 0 ? taps.offset[0][z][k] : taps.offset[1][y][k];
        const C across = taps.weight[1][y][k];
        if (slab_at < low || slab_at >= high || !counts(across)) continue;
        const V part = (by * across) * grad;
        C* row = sums + taps.offset[0][z][k] + taps.offset[1][y][k];
        for (int x = 0; x < T; ++x) {
          if (counts(along[x])) write(row + step[x], read(row + step[x]) + along[x] * part);
        }
      }
    }
  }
};

template <class S, int T, int G>
struct WarpSelect {
  using C = Compute<S>;
  using Run = WarpRun<C, T, G>;
  using Layout = WarpLayout<S, G>;

  static void forward(const WarpProblem& p, const WarpGroup& g, int64_t begin, int64_t end) {
    Run::forward(p, g, begin, end, [&](const C* values, int64_t at, int64_t n) {
      Layout::ungroup(values, p.out_voxels(), g.count, static_cast<S*>(g.out) + at, 0, n);
    });
  }

  static auto gradients(const WarpProblem& p, const WarpGroup& g) {
    return [&](C* values, int64_t at, int64_t n) {
      Layout::group(static_cast<const S*>(g.grad) + at, p.out_voxels(), g.count, values, 0, n);
    };
  }

  static void slope(const WarpProblem& p, const WarpGroup& g, int64_t begin, int64_t end) {
    Run::slope(p, g, begin, end, gradients(p, g));
  }

  static void transpose(const WarpProblem& p, const WarpGroup& g, const WarpRange* ranges,
                        WarpRange slab) {
    Run::transpose(p, g, ranges, slab, gradients(p, g));
  }

  static WarpKernels kernels() {
    WarpKernels found{Layout::group, Layout::ungroup, nullptr, nullptr, Run::ranges, transpose};
    if constexpr (T > 1) {
      found.forward = forward;
      found.slope = slope;
    }
    return found;
  }
};

template <class C, class B>
struct WarpCopyRun {
  static void run(const WarpProblem& p, const WarpCopy& copy, int64_t sample, int64_t begin,
                  int64_t end) {
    const int64_t plane = p.out_voxels();
    WarpRun<C, 1, 1>::template each_chunk<false>(
        p, sample, begin, end, [&](int64_t at, int64_t n, const auto& taps) {
          int64_t from[kWarpChunk];
          C weight[kWarpChunk];
          for (int64_t k = 0; k < n; ++k) {
            from[k] = taps.offset[0][0][k] + taps.offset[1][0][k] + taps.offset[2][0][k];
            weight[k] = taps.weight[0][0][k] * taps.weight[1][0][k] * taps.weight[2][0][k];
          }
          for (int64_t c = 0; c < p.channels; ++c) {
            const int64_t channel = sample * p.channels + c;
            const B* image = static_cast<const B*>(copy.image) + channel * p.voxels();
            B* out = static_cast<B*>(copy.out) + channel * plane + at;
            for (int64_t k = 0; k < n; ++k) {
              const B outside = weight[k] == C{} ? B{} : static_cast<B>(copy.lost);
              out[k] = weight[k] == C{1} ? image[from[k]] : outside;
            }
          }
        });
  }
};

template <class S, int T>
WarpKernels warp_kernels_of(int width) {
  switch (width) {
    case 1:
      return WarpSelect<S, T, 1>::kernels();
    case 4:
      return WarpSelect<S, T, 4>::kernels();
    default:
      return WarpSelect<S, T, 8>::kernels();
  }
}

template <class S>
WarpKernels warp_kernels_of(WarpMode mode, int width) {
  switch (mode) {
    case WarpMode::nearest:
      return warp_kernels_of<S, 1>(width);
    case WarpMode::linear:
      return warp_kernels_of<S, 2>(width);
    default:
      return warp_kernels_of<S, 4>(width);
  }
}

WarpKernels warp_kernels(WarpMode mode, FloatType type, int width) {
  switch (type) {
    case FloatType::float16:
      return warp_kernels_of<Half>(mode, width);
    case FloatType::bfloat16:
      return warp_kernels_of<BFloat16>(mode, width);
    case FloatType::float64:
      return warp_kernels_of<double>(mode, width);
    default:
      return warp_kernels_of<float>(mode, width);
  }
}

WarpCopyKernel warp_copy_kernel(int bytes, bool float64) {
  if (float64) return WarpCopyRun<double, uint64_t>::run;
  switch (bytes) {
    case 1:
      return WarpCopyRun<float, uint8_t>::run;
    case 2:
      return WarpCopyRun<float, uint16_t>::run;
    case 4:
      return WarpCopyRun<float, uint32_t>::run;
    default:
      return WarpCopyRun<float, uint64_t>::run;
  }
}

}  // namespace medkern::MEDKERN_ISA
