// CUDA kernels of finite differences of fields: formulas and order of core/field.hpp, with the bits
// of the CPU but for the sums of the smoothness loss, which are in double throughout.
//
// Block `sample * parts + part` takes every parts-th run of kThreads voxels of its sample; a thread
// one voxel at a time. The gradient of the determinant computes the cofactors of up to 7 voxels
// again; caches serve their reads, and nothing is kept. Sums go through trees and then block by
// block in order, folded voxels through an integer atomic.
// Bytes per voxel: one read of u, one write of the result; the gradient also one read of grad.
// N: spatial axes.
#pragma once

#include "block_sums.cuh"
#include "core/common/storage.hpp"
#include "core/field_point.hpp"
#include "field.hpp"

namespace medkern::MEDKERN_ISA {

MEDKERN_DEVICE_INLINE double field_length(const FieldProblem& p, int64_t sample, int axis) {
  const int i = axis - 3 + p.axes;
  return i < 0 ? 1.0 : p.spacing[sample * p.axes + i];
}

struct FieldPlace {
  int64_t at[3], index;

  static MEDKERN_DEVICE_INLINE FieldPlace of(const FieldProblem& p, int64_t voxel) {
    FieldPlace place;
    int64_t row;
    split(voxel, p.size[2], row, place.at[2]);
    split(row, p.size[1], place.at[0], place.at[1]);
    place.index = voxel;
    return place;
  }
};

// One sample of a displacement.
template <class S, int N>
struct FieldSample {
  using C = Compute<S>;
  using Vector = FieldVector<C>;

  const FieldProblem& p;
  int64_t sample;
  const S* u;
  C inverse[3];  // of the length of a voxel

  MEDKERN_DEVICE_INLINE FieldSample(const FieldProblem& problem, int64_t of)
      : p(problem), sample(of), u(static_cast<const S*>(problem.u) + of * N * problem.voxels()) {
    for (int axis = 0; axis < 3; ++axis) {
      inverse[axis] = static_cast<C>(1 / field_length(p, sample, axis));
    }
  }

  MEDKERN_DEVICE_INLINE int64_t step(int axis) const {
    return axis == 2 ? 1 : axis == 1 ? p.size[2] : p.size[1] * p.size[2];
  }

  // One over the distance of the two voxels that are subtracted.
  MEDKERN_DEVICE_INLINE C scale(int axis, const FieldPlace& here) const {
    const int64_t x = here.at[axis];
    return x == 0 || x == p.size[axis] - 1 ? inverse[axis] : C(0.5) * inverse[axis];
  }

  // Column `Axis` of 1 + du/dx.
  template <int Axis>
  MEDKERN_DEVICE_INLINE Vector column(const FieldPlace& here) const {
    C d[3] = {};
    if (Axis >= 3 - N && p.size[Axis] > 1) {
      const int64_t low = here.index - (here.at[Axis] > 0 ? step(Axis) : 0);
      const int64_t high = here.index + (here.at[Axis] + 1 < p.size[Axis] ? step(Axis) : 0);
      const C by = scale(Axis, here);
      MEDKERN_UNROLL
      for (int i = 3 - N; i < 3; ++i) {
        const S* component = u + (i - 3 + N) * p.voxels();
        d[i] = (load_one<C>(component + high) - load_one<C>(component + low)) * by;
      }
    }
    d[Axis] += 1;
    return {d[0], d[1], d[2]};
  }

  MEDKERN_DEVICE_INLINE C determinant(const FieldPlace& here) const {
    return dot(column<0>(here), cross(column<1>(here), column<2>(here)));
  }

  // The cofactors of a column, times gradient and scale.
  template <int Axis>
  MEDKERN_DEVICE_INLINE Vector cofactors(const FieldPlace& here) const {
    const Vector k = cross(column<(Axis + 1) % 3>(here), column<(Axis + 2) % 3>(here));
    const S* grad = static_cast<const S*>(p.grad) + sample * p.voxels();
    const C by = load_one<C>(grad + here.index) * scale(Axis, here);
    return {by * k.z, by * k.y, by * k.x};
  }

  MEDKERN_DEVICE_INLINE FieldPlace moved(FieldPlace here, int axis, int64_t by) const {
    here.at[axis] += by;
    here.index += by * step(axis);
    return here;
  }

  // Adds what voxels before and after took from this one with + and -.
  template <int Axis>
  MEDKERN_DEVICE_INLINE void add_across(const FieldPlace& here, Vector& sum) const {
    const int64_t at = here.at[Axis], last = p.size[Axis] - 1;
    if (last == 0) return;
    for (int64_t by = -1; by <= 1; ++by) {
      const bool inside = at != 0 && at != last;
      if (at + by < 0 || at + by > last || (by == 0 && inside)) continue;
      const Vector k = cofactors<Axis>(moved(here, Axis, by));
      const bool up = by < 0 || (by == 0 && at != 0);
      sum = {sum.z + (up ? k.z : -k.z), sum.y + (up ? k.y : -k.y), sum.x + (up ? k.x : -k.x)};
    }
  }

  MEDKERN_DEVICE_INLINE void add_along(const FieldPlace& here, Vector& sum) const {
    const int64_t x = here.at[2], last = p.size[2] - 1;
    if (last == 0) return;
    const Vector a = cofactors<2>(x == 0 ? here : moved(here, 2, -1));
    const Vector b = cofactors<2>(x == last ? here : moved(here, 2, 1));
    if (x == 0) {
      sum = {sum.z - (a.z + b.z), sum.y - (a.y + b.y), sum.x - (a.x + b.x)};
    } else if (x == last) {
      sum = {sum.z + (a.z + b.z), sum.y + (a.y + b.y), sum.x + (a.x + b.x)};
    } else {
      sum = {sum.z + (a.z - b.z), sum.y + (a.y - b.y), sum.x + (a.x - b.x)};
    }
  }
};

// Voxels of a part, out of `count`.
#define MEDKERN_PART_STRIDE(index, count, part, parts)                   \
  for (int64_t index = (part) * kThreads + threadIdx.x; index < (count); \
       index += (parts) * kThreads)

template <class S, int N>
MEDKERN_GLOBAL void field_jacobian_fwd_kernel(FieldProblem p, int64_t parts) {
  using C = Compute<S>;
  const int64_t sample = blockIdx.x / parts, part = blockIdx.x % parts;
  const FieldSample<S, N> field(p, sample);
  S* out = static_cast<S*>(p.out) + sample * p.voxels();
  unsigned long long folds[1] = {};
  MEDKERN_PART_STRIDE(i, p.voxels(), part, parts) {
    S stored;
    store_one(&stored, field.determinant(FieldPlace::of(p, i)));
    out[i] = stored;
    folds[0] += load_one<C>(&stored) <= 0;
  }
  if (p.folds == nullptr) return;
  block_sums(folds);
  if (threadIdx.x == 0) {
    atomicAdd(reinterpret_cast<unsigned long long*>(p.folds) + sample, folds[0]);
  }
}

template <class S, int N>
MEDKERN_GLOBAL void field_jacobian_bwd_kernel(FieldProblem p, int64_t parts) {
  using C = Compute<S>;
  const int64_t sample = blockIdx.x / parts, part = blockIdx.x % parts;
  const FieldSample<S, N> field(p, sample);
  S* out = static_cast<S*>(p.out) + sample * N * p.voxels();
  MEDKERN_PART_STRIDE(i, p.voxels(), part, parts) {
    const FieldPlace here = FieldPlace::of(p, i);
    FieldVector<C> sum{};
    if constexpr (N == 3) field.template add_across<0>(here, sum);
    field.template add_across<1>(here, sum);
    field.add_along(here, sum);
    const C of_axis[3] = {sum.z, sum.y, sum.x};
    MEDKERN_UNROLL
    for (int axis = 3 - N; axis < 3; ++axis) {
      store_one(out + (axis - 3 + N) * p.voxels() + i, of_axis[axis]);
    }
  }
}

// sums: [sample, part, axis] of |difference|^1 or ^2.
template <class S>
MEDKERN_GLOBAL void field_smoothness_fwd_kernel(FieldProblem p, int64_t parts) {
  using C = Compute<S>;
  const int64_t sample = blockIdx.x / parts, part = blockIdx.x % parts;
  const int64_t count = p.channels * p.voxels();
  const int64_t step[3] = {p.size[1] * p.size[2], p.size[2], 1};
  const S* u = static_cast<const S*>(p.u) + sample * count;
  double sums[3] = {};
  MEDKERN_PART_STRIDE(i, count, part, parts) {
    int64_t channel, voxel;
    split(i, p.voxels(), channel, voxel);
    const FieldPlace here = FieldPlace::of(p, voxel);
    const C value = load_one<C>(u + i);
    MEDKERN_UNROLL
    for (int axis = 0; axis < 3; ++axis) {
      if (here.at[axis] + 1 == p.size[axis]) continue;
      const C d = load_one<C>(u + i + step[axis]) - value;
      sums[axis] += static_cast<double>(p.squares ? d * d : (d < C{} ? -d : d));
    }
  }
  block_sums(sums);
  if (threadIdx.x != 0) return;
  for (int axis = 0; axis < 3; ++axis) p.sums[3 * blockIdx.x + axis] = sums[axis];
}

// One block per sample.
template <class C>
MEDKERN_GLOBAL void field_total_fwd_kernel(FieldProblem p, int64_t parts) {
  const int64_t sample = blockIdx.x;
  double sums[3] = {}, length[3];
  for (int64_t part = threadIdx.x; part < parts; part += kThreads) {
    for (int axis = 0; axis < 3; ++axis) sums[axis] += p.sums[3 * (sample * parts + part) + axis];
  }
  block_sums(sums);
  if (threadIdx.x != 0) return;
  for (int axis = 0; axis < 3; ++axis) length[axis] = field_length(p, sample, axis);
  static_cast<C*>(p.out)[sample] = static_cast<C>(smoothness_total(p, sums, length));
}

template <bool Squares, class C>
MEDKERN_DEVICE_INLINE C penalty_slope(C d) {
  if constexpr (Squares) return d;
  return d > C{} ? C{1} : d < C{} ? C{-1} : d;  // 0 and NaN stay
}

template <class S, bool Squares>
MEDKERN_GLOBAL void field_smoothness_bwd_kernel(FieldProblem p, int64_t parts) {
  using C = Compute<S>;
  const int64_t sample = blockIdx.x / parts, part = blockIdx.x % parts;
  const int64_t count = p.channels * p.voxels();
  const int64_t step[3] = {p.size[1] * p.size[2], p.size[2], 1};
  const S* u = static_cast<const S*>(p.u) + sample * count;
  S* out = static_cast<S*>(p.out) + sample * count;
  const auto grad = static_cast<double>(static_cast<const C*>(p.grad)[sample]);
  C scale[3];
  for (int axis = 0; axis < 3; ++axis) {
    const double length = field_length(p, sample, axis);
    scale[axis] = static_cast<C>(p.weight[axis] / length * (Squares ? 2 / length : 1.0) * grad);
  }
  MEDKERN_PART_STRIDE(i, count, part, parts) {
    int64_t channel, voxel;
    split(i, p.voxels(), channel, voxel);
    const FieldPlace here = FieldPlace::of(p, voxel);
    const C value = load_one<C>(u + i);
    C sum{};
    MEDKERN_UNROLL
    for (int k = 0; k < 3; ++k) {
      const int axis = (k + 2) % 3;  // x first, as on the CPU
      const int64_t low = here.at[axis] > 0 ? step[axis] : 0;
      const int64_t high = here.at[axis] + 1 < p.size[axis] ? step[axis] : 0;
      sum += scale[axis] * (penalty_slope<Squares>(value - load_one<C>(u + i - low)) -
                            penalty_slope<Squares>(load_one<C>(u + i + high) - value));
    }
    store_one(out + i, sum);
  }
}

}  // namespace medkern::MEDKERN_ISA
