// CUDA kernels of the transpose of warping, the gradient of the image: deterministic sums.
//
// Threads add to voxels of the image in no order, so sums are kept in integers, which no order
// changes. A first pass over the output voxels finds the exponent of the largest term of every
// image voxel (integer atomicMax); a second adds the terms as multiples of a unit that this
// exponent sets (64-bit integer atomicAdd), and a third writes the sums as numbers. With M the
// output voxels times taps, rounded up to a power of 2, the unit is at most 2^-61 M of the largest
// term of its voxel, so that M terms cannot overflow; a term loses less than one unit. Hence
//
//     |error| <= n M 2^-61 max |term|    of a voxel of n terms, and one rounding
//
// for float32 (M = 2^24, a linear interpolation of 128^3 voxels: n 2^-37), far below the error of
// any sum in float32. float64 keeps the remainder of each term in a second sum: n M^2 2^-123.
// Why not sort by voxel, which would give the CPU's bits: it needs as much memory, more passes, and
// time quadratic or serial in the terms of one voxel, which padding makes millions of.
//
// Infinite and NaN terms set flags in the place of the sum. Workspace per voxel: 12 bytes, 20 for
// float64. Atomics per term: one or two adds; a maximum only where it grows.
#pragma once

#include "warp.cuh"

namespace medkern::MEDKERN_ISA {

using WarpSum = unsigned long long;  // two's complement

// Sums of `planes` channels (of all samples) from `first` on.
struct WarpSums {
  int64_t first = 0, planes = 0;
  int bits = 0;  // a term is below 2^bits units
  WarpSum* sums = nullptr;
  WarpSum* remainders = nullptr;  // float64
  unsigned* peaks = nullptr;      // exponents, 0: no terms
};

// A positive power of 2 of the normal range.
template <class C>
MEDKERN_DEVICE_INLINE C power_of_two(int exponent) {
  using Bits = std::conditional_t<sizeof(C) == 4, uint32_t, uint64_t>;
  const Bits bits = static_cast<Bits>(exponent + std::numeric_limits<C>::max_exponent - 1)
                    << (std::numeric_limits<C>::digits - 1);
  C value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

// value 2^exponent, in two steps for the sake of exponents beyond the normal range.
template <class C>
MEDKERN_DEVICE_INLINE C scaled(C value, int exponent) {
  const int half = exponent / 2;
  return value * power_of_two<C>(half) * power_of_two<C>(exponent - half);
}

// Of the numbers of a type, by exponents as they are stored.
template <class C>
struct WarpExponent {
  using Bits = std::conditional_t<sizeof(C) == 4, uint32_t, uint64_t>;
  static constexpr int mantissa = std::numeric_limits<C>::digits - 1;
  static constexpr double infinite = std::numeric_limits<double>::infinity();
  static constexpr double none = std::numeric_limits<double>::quiet_NaN();
  static constexpr unsigned special = 2 * std::numeric_limits<C>::max_exponent - 1;  // inf, NaN

  static MEDKERN_DEVICE_INLINE unsigned of(C value) {
    Bits bits;
    memcpy(&bits, &value, sizeof(bits));
    const auto stored = static_cast<unsigned>(bits >> mantissa) & special;
    return stored == 0 ? 1 : stored;  // subnormal
  }

  // |value| < 2^above(of(value))
  static MEDKERN_DEVICE_INLINE int above(unsigned stored) {
    return static_cast<int>(stored) - (std::numeric_limits<C>::max_exponent - 2);
  }
};

constexpr WarpSum kWarpInfinity = 1, kWarpMinusInfinity = 2, kWarpNaN = 4;

// term(index of sums, value) for all terms of an output voxel of plane `first + plane`.
template <class S, int T, int N, class Term>
MEDKERN_DEVICE_INLINE void each_warp_term(const WarpLaunch& call, const WarpSums& to, int64_t i,
                                          const Term& term) {
  using C = Compute<S>;
  const WarpProblem& p = call.problem;
  int64_t plane, at, sample, channel;
  split(i, p.out_voxels(), plane, at);
  split(to.first + plane, p.channels, sample, channel);
  const C grad = load_one<C>(static_cast<const S*>(call.grad) + to.first * p.out_voxels() + i);
  if (grad == C{}) return;
  const WarpVoxel<C, T, N, false> voxel(call, sample, at);
  voxel.spread(p, grad, [&](int64_t voxel_of_image, C value) {
    if (value != C{}) term(plane * p.voxels() + voxel_of_image, value);
  });
}

template <class S, int T, int N>
MEDKERN_GLOBAL void warp_peaks_bwd_kernel(WarpLaunch call, WarpSums to) {
  using C = Compute<S>;
  MEDKERN_GRID_STRIDE(i, to.planes * call.problem.out_voxels()) {
    each_warp_term<S, T, N>(call, to, i, [&](int64_t at, C value) {
      const unsigned exponent = WarpExponent<C>::of(value);
      if (load_relaxed(to.peaks + at) < exponent) atomicMax(to.peaks + at, exponent);
    });
  }
}

template <class S, int T, int N>
MEDKERN_GLOBAL void warp_sums_bwd_kernel(WarpLaunch call, WarpSums to) {
  using C = Compute<S>;
  using Exponent = WarpExponent<C>;
  MEDKERN_GRID_STRIDE(i, to.planes * call.problem.out_voxels()) {
    each_warp_term<S, T, N>(call, to, i, [&](int64_t at, C value) {
      const unsigned peak = to.peaks[at];
      if (peak == Exponent::special) {
        if (Exponent::of(value) != peak) return;
        atomicOr(to.sums + at, value > C{}   ? kWarpInfinity
                               : value < C{} ? kWarpMinusInfinity
                                             : kWarpNaN);
        return;
      }
      const C units = scaled(value, to.bits - Exponent::above(peak));
      const auto whole = static_cast<long long>(units);
      atomicAdd(to.sums + at, static_cast<WarpSum>(whole));
      if constexpr (sizeof(C) == 8) {
        const C rest = (units - static_cast<C>(whole)) * power_of_two<C>(to.bits);
        atomicAdd(to.remainders + at, static_cast<WarpSum>(static_cast<long long>(rest)));
      }
    });
  }
}

template <class S>
MEDKERN_GLOBAL void warp_finish_bwd_kernel(WarpLaunch call, WarpSums to) {
  using C = Compute<S>;
  using Exponent = WarpExponent<C>;
  MEDKERN_GRID_STRIDE(i, to.planes * call.problem.voxels()) {
    const WarpSum sum = to.sums[i];
    const unsigned peak = to.peaks[i];
    double value;
    if (peak == Exponent::special) {
      value = sum == kWarpInfinity        ? Exponent::infinite
              : sum == kWarpMinusInfinity ? -Exponent::infinite
                                          : Exponent::none;
    } else {
      value = static_cast<double>(static_cast<long long>(sum));
      if constexpr (sizeof(C) == 8) {
        value += static_cast<double>(static_cast<long long>(to.remainders[i])) *
                 power_of_two<double>(-to.bits);
      }
      if (peak != 0) value = scaled(value, Exponent::above(peak) - to.bits);
    }
    store_one(static_cast<S*>(call.out) + to.first * call.problem.voxels() + i,
              static_cast<C>(value));
  }
}

}  // namespace medkern::MEDKERN_ISA
