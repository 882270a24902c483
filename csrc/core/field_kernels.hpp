// The kernels declared in field.hpp, compiled once per instruction set by csrc/isa/field.cpp.
#pragma once

#include "common/exponential.hpp"
#include "common/lane_sums.hpp"
#include "common/rows.hpp"
#include "field.hpp"
#include "field_point.hpp"

namespace medkern::MEDKERN_ISA {

// S: storage type.
template <class S>
struct FieldRun {
  using C = Compute<S>;

  // The rows that the differences at a row read, of the components z, y, x; `scale` is one over the
  // distance of the two that are subtracted, 0 along an axis of size 1.
  struct Rows {
    const C *before[3][2], *after[3][2];  // [component][axis z, y]
    const C* along[3];                    // [component], for x
    C scale[2], inside, ends;             // inside, ends: along x
  };

  // A thread's memory, in rows of C: three components of cofactors and of their sums, a row of
  // zeros, one of results or gradients, and, where C is not S, the widened rows of `Rows`.
  struct Scratch {
    int64_t row;
    C *cofactors, *sums, *zeros, *values, *widened;

    Scratch(const FieldProblem& p, void* bytes)
        : row(field_row(p.size[2])), cofactors(static_cast<C*>(bytes)) {
      sums = cofactors + 3 * row;
      zeros = sums + 3 * row;
      values = zeros + row;
      widened = values + row;
      for (int64_t x = 0; x < row; ++x) zeros[x] = C{};
    }
  };

  static C scale_at(const FieldProblem& p, int64_t sample, int axis, int64_t x) {
    const int64_t last = p.size[axis] - 1;
    if (last == 0) return 0;
    const double length = p.spacing[sample * 3 + axis];
    return static_cast<C>(x == 0 || x == last ? 1 / length : 0.5 / length);
  }

  static Rows rows_at(const FieldProblem& p, int64_t sample, int64_t z, int64_t y,
                      const Scratch& scratch) {
    Rows rows;
    const int64_t at[2] = {z, y}, step[2] = {p.size[1] * p.size[2], p.size[2]};
    C* next = scratch.widened;
    const auto widen = [&](const S* row) -> const C* {
      if constexpr (std::is_same_v<S, C>) return row;
      read_row(row, 1, p.size[2], next);
      next += scratch.row;
      return next - scratch.row;
    };
    for (int i = 0; i < 3; ++i) {
      const int component = i - 3 + p.axes;
      const S* middle = nullptr;
      if (component >= 0) {
        middle = static_cast<const S*>(p.u) + (sample * p.axes + component) * p.voxels() +
                 z * step[0] + y * step[1];
      }
      rows.along[i] = component >= 0 && p.size[2] > 1 ? widen(middle) : scratch.zeros;
      for (int axis = 0; axis < 2; ++axis) {
        const bool moves = component >= 0 && p.size[axis] > 1;
        const int64_t back = at[axis] > 0 ? step[axis] : 0;
        const int64_t on = at[axis] + 1 < p.size[axis] ? step[axis] : 0;
        rows.before[i][axis] = moves ? widen(middle - back) : scratch.zeros;
        rows.after[i][axis] = moves ? widen(middle + on) : scratch.zeros;
      }
    }
    for (int axis = 0; axis < 2; ++axis) rows.scale[axis] = scale_at(p, sample, axis, at[axis]);
    rows.ends = scale_at(p, sample, 2, 0);
    rows.inside = p.size[2] > 2 ? scale_at(p, sample, 2, 1) : C{};
    return rows;
  }

  using Vector = FieldVector<C>;

  static MEDKERN_INLINE C value(const S* row, int64_t x) { return load_one<C>(row + x); }

  // Column `axis` of 1 + du/dx at voxel x, whose neighbours along x are `low` and `high`.
  template <int Axis>
  static MEDKERN_INLINE Vector column(const Rows& r, int64_t x, int64_t low, int64_t high,
                                      C scale) {
    C d[3];
    for (int i = 0; i < 3; ++i) {
      if constexpr (Axis == 2) {
        d[i] = (r.along[i][high] - r.along[i][low]) * scale;
      } else {
        d[i] = (r.after[i][Axis][x] - r.before[i][Axis][x]) * r.scale[Axis];
      }
    }
    d[Axis] += 1;
    return {d[0], d[1], d[2]};
  }

  // body(x, low, high, scale) for every voxel of a row.
  template <class Body>
  static MEDKERN_INLINE void each_voxel(const Rows& r, int64_t n, const Body& body) {
    body(0, 0, n > 1 ? 1 : 0, r.ends);
#pragma GCC ivdep
    for (int64_t x = 1; x < n - 1; ++x) body(x, x - 1, x + 1, r.inside);
    if (n > 1) body(n - 1, n - 2, n - 1, r.ends);
  }

  static void jacobian(const FieldProblem& p, int64_t begin, int64_t end, void* bytes) {
    const Scratch scratch(p, bytes);
    const int64_t n = p.size[2];
    for (int64_t row = begin; row < end; ++row) {
      const int64_t y = row % p.size[1], plane = row / p.size[1];
      const Rows r = rows_at(p, plane / p.size[0], plane % p.size[0], y, scratch);
      S* out = static_cast<S*>(p.out) + row * n;
      C* const values = scratch.values;
      each_voxel(r, n, [&](int64_t x, int64_t low, int64_t high, C scale) {
        const Vector a = column<0>(r, x, low, high, scale), b = column<1>(r, x, low, high, scale);
        const Vector turned = cross(b, column<2>(r, x, low, high, scale));
        values[x] = dot(a, turned);
      });
      write_row(values, false, 1, n, out);
      if (!p.folds) continue;
      int64_t folds = 0;
      for (int64_t x = 0; x < n; ++x) folds += value(out, x) <= 0;
      p.folds[row] = folds;
    }
  }

  // The cofactors of a column at a row, times gradient and scale, in three rows of `to`.
  template <int Axis>
  static void cofactors(const FieldProblem& p, int64_t sample, int64_t z, int64_t y,
                        const Scratch& scratch) {
    const int64_t n = p.size[2];
    const Rows r = rows_at(p, sample, z, y, scratch);
    C *const to = scratch.cofactors, *const grad = scratch.values;
    read_row(static_cast<const S*>(p.grad) + ((sample * p.size[0] + z) * p.size[1] + y) * n, 1, n,
             grad);
    each_voxel(r, n, [&](int64_t x, int64_t low, int64_t high, C scale) {
      const Vector first = column<(Axis + 1) % 3>(r, x, low, high, scale);
      const Vector k = cross(first, column<(Axis + 2) % 3>(r, x, low, high, scale));
      const C by = grad[x] * (Axis == 2 ? scale : r.scale[Axis == 2 ? 0 : Axis]);
      to[x] = by * k.z;
      to[n + x] = by * k.y;
      to[2 * n + x] = by * k.x;
    });
  }

  // Adds what voxels of the rows before and after took from this row with + and -.
  template <int Axis>
  static void add_across(const FieldProblem& p, int64_t sample, int64_t z, int64_t y,
                         const Scratch& scratch) {
    const int64_t n = p.size[2], last = p.size[Axis] - 1, at = Axis == 0 ? z : y;
    if (last == 0) return;
    for (int64_t from = at - 1; from <= at + 1; ++from) {
      const bool itself = from == at;
      if (from < 0 || from > last || (itself && at != 0 && at != last)) continue;
      cofactors<Axis>(p, sample, Axis == 0 ? from : z, Axis == 0 ? y : from, scratch);
      const C sign = itself ? (at == 0 ? C(-1) : C(1)) : (from < at ? C(1) : C(-1));
      for (int64_t x = 0; x < 3 * n; ++x) scratch.sums[x] += sign * scratch.cofactors[x];
    }
  }

  static void add_along(const C* rows, int64_t n, C* sums) {
    if (n == 1) return;
    for (int i = 0; i < 3; ++i) {
      const C* k = rows + i * n;
      C* sum = sums + i * n;
      sum[0] -= k[0] + k[1];
      for (int64_t x = 1; x < n - 1; ++x) sum[x] += k[x - 1] - k[x + 1];
      sum[n - 1] += k[n - 2] + k[n - 1];
    }
  }

  static void jacobian_backward(const FieldProblem& p, int64_t begin, int64_t end, void* bytes) {
    const Scratch scratch(p, bytes);
    const int64_t n = p.size[2];
    for (int64_t row = begin; row < end; ++row) {
      const int64_t y = row % p.size[1], plane = row / p.size[1];
      const int64_t sample = plane / p.size[0], z = plane % p.size[0];
      for (int64_t x = 0; x < 3 * n; ++x) scratch.sums[x] = C{};
      add_across<0>(p, sample, z, y, scratch);
      add_across<1>(p, sample, z, y, scratch);
      cofactors<2>(p, sample, z, y, scratch);
      add_along(scratch.cofactors, n, scratch.sums);
      for (int i = 0; i < p.axes; ++i) {
        S* out =
            static_cast<S*>(p.out) + (sample * p.axes + i) * p.voxels() + (z * p.size[1] + y) * n;
        write_row(scratch.sums + (3 - p.axes + i) * n, false, 1, n, out);
      }
    }
  }

  // sum of |a[x] - b[x]|^1 or ^2: in 64 bytes of lanes, whatever the length of vectors, then
  // halving
  template <bool Squares>
  static double penalty(const S* a, const S* b, int64_t n) {
    using Sums = LaneSums<C>;
    const auto of = [](Vec<C> d) { return Squares ? d * d : magnitude<C>(d); };
    Sums sums;
    int64_t x = 0;
    for (; x + Sums::width <= n; x += Sums::width) {
#pragma GCC unroll 4
      for (int part = 0; part < Sums::parts; ++part) {
        const int64_t at = x + part * kLanes<C>;
        sums.part[part] += of(load<C>(a + at) - load<C>(b + at));
      }
    }
    C lane[Sums::width] = {};
    for (int i = 0; x + i < n; ++i) lane[i] = value(a, x + i) - value(b, x + i);
    for (int part = 0; part < Sums::parts; ++part) {
      C* const at = lane + part * kLanes<C>;
      store(at, Vec<C>(sums.part[part] + of(load<C>(at))));
    }
    for (int half = Sums::width / 2; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
    }
    return static_cast<double>(lane[0]);
  }

  template <bool Squares>
  static void penalties(const FieldProblem& p, int64_t begin, int64_t end) {
    const int64_t n = p.size[2], plane = p.size[1] * n;
    for (int64_t row = begin; row < end; ++row) {
      const int64_t y = row % p.size[1], z = row / p.size[1] % p.size[0];
      const S* u = static_cast<const S*>(p.u) + row * n;
      double* sums = p.sums + 3 * row;
      sums[0] = z + 1 < p.size[0] ? penalty<Squares>(u + plane, u, n) : 0.0;
      sums[1] = y + 1 < p.size[1] ? penalty<Squares>(u + n, u, n) : 0.0;
      sums[2] = penalty<Squares>(u + 1, u, n - 1);
    }
  }

  static void smoothness(const FieldProblem& p, int64_t begin, int64_t end, void*) {
    p.squares ? penalties<true>(p, begin, end) : penalties<false>(p, begin, end);
  }

  template <bool Squares>
  static MEDKERN_INLINE C slope(C d) {
    if constexpr (Squares) return d;
    return d > C{} ? C{1} : d < C{} ? C{-1} : d;  // 0 and NaN stay
  }

  template <bool Squares>
  static void smoothness_rows(const FieldProblem& p, int64_t begin, int64_t end) {
    const int64_t n = p.size[2], plane = p.size[1] * n;
    for (int64_t row = begin; row < end; ++row) {
      const int64_t y = row % p.size[1], z = row / p.size[1] % p.size[0];
      const int64_t sample = row / p.size[1] / p.size[0] / p.channels;
      const S* u = static_cast<const S*>(p.u) + row * n;
      S* out = static_cast<S*>(p.out) + row * n;
      const S* up[2] = {z + 1 < p.size[0] ? u + plane : u, y + 1 < p.size[1] ? u + n : u};
      const S* down[2] = {z > 0 ? u - plane : u, y > 0 ? u - n : u};
      C scale[3];
      for (int axis = 0; axis < 3; ++axis) {
        const double length = p.spacing[3 * sample + axis];
        const double by = p.weight[axis] / length * (Squares ? 2 / length : 1.0);
        scale[axis] =
            static_cast<C>(by * static_cast<double>(static_cast<const C*>(p.grad)[sample]));
      }
      const auto at = [&](int64_t x, int64_t low, int64_t high) {
        const C here = value(u, x);
        C sum = scale[2] *
                (slope<Squares>(here - value(u, low)) - slope<Squares>(value(u, high) - here));
        for (int axis = 0; axis < 2; ++axis) {
          sum += scale[axis] * (slope<Squares>(here - value(down[axis], x)) -
                                slope<Squares>(value(up[axis], x) - here));
        }
        store_one(out + x, sum);
      };
      at(0, 0, n > 1 ? 1 : 0);
#pragma GCC ivdep
      for (int64_t x = 1; x < n - 1; ++x) at(x, x - 1, x + 1);
      if (n > 1) at(n - 1, n - 2, n - 1);
    }
  }

  static void smoothness_backward(const FieldProblem& p, int64_t begin, int64_t end, void*) {
    p.squares ? smoothness_rows<true>(p, begin, end) : smoothness_rows<false>(p, begin, end);
  }

  static FieldKernel select(FieldTask task) {
    switch (task) {
      case FieldTask::jacobian:
        return jacobian;
      case FieldTask::jacobian_backward:
        return jacobian_backward;
      case FieldTask::smoothness:
        return smoothness;
      default:
        return smoothness_backward;
    }
  }
};

FieldKernel field_kernel(FieldTask task, FloatType type) {
  switch (type) {
    case FloatType::float16:
      return FieldRun<Half>::select(task);
    case FloatType::bfloat16:
      return FieldRun<BFloat16>::select(task);
    case FloatType::float64:
      return FieldRun<double>::select(task);
    default:
      return FieldRun<float>::select(task);
  }
}

}  // namespace medkern::MEDKERN_ISA
