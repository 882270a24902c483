// What one window of local_ncc.hpp gives, for CPU vectors and for devices: V is double or a vector.
#pragma once

#include <cmath>

#include "local_ncc.hpp"

namespace medkern::MEDKERN_ISA {

MEDKERN_INLINE double root_of(double x) { return std::sqrt(x); }

template <class V>
MEDKERN_INLINE V root_of(V x) {
  constexpr int lanes = sizeof(V) / sizeof(double);
  for (int i = 0; i < lanes; ++i) x[i] = __builtin_sqrt(x[i]);
  return x;
}

// What a row of windows shares. All sums are n times those of the formulas: exact for integers.
struct LocalNccRow {
  double n, inside_zy;  // voxels of a window; of its z-y face those that the image has
  double centre_a, centre_b, least, offset;

  MEDKERN_INLINE LocalNccRow(const LocalNccProblem& p, double inside, double of_a, double of_b)
      : n(static_cast<double>(p.count())),
        inside_zy(inside),
        centre_a(of_a),
        centre_b(of_b),
        least(n * p.least),
        offset(n * n * p.offset) {}
};

template <class V>
struct LocalNccWindow {
  V sum_a, sum_b, cross, var_a, var_b, denominator;
  decltype(V{} <= V{}) flat_a, flat_b;

  // s: sums of a, b, aa, bb, ab less the centres; inside_x: voxels of the window along x that the
  // image has.
  MEDKERN_INLINE LocalNccWindow(const LocalNccRow& r, const V (&s)[5], V inside_x) {
    const V a = s[0], b = s[1];
    const V inside = r.inside_zy * inside_x, outside = r.n - inside;
    const V mass_a = inside * r.centre_a, mass_b = inside * r.centre_b;
    sum_a = a - outside * r.centre_a;
    sum_b = b - outside * r.centre_b;
    var_a = (r.n * s[2] - a * a) + outside * (r.centre_a * (a + a + mass_a));
    var_b = (r.n * s[3] - b * b) + outside * (r.centre_b * (b + b + mass_b));
    cross = (r.n * s[4] - a * b) + outside * (r.centre_a * b + r.centre_b * (a + mass_a));
    flat_a = var_a <= V{} + r.least;  // NaN is not flat
    flat_b = var_b <= V{} + r.least;
    var_a = flat_a ? V{} + r.least : var_a;
    var_b = flat_b ? V{} + r.least : var_b;
    denominator = var_a * var_b + r.offset;
  }

  MEDKERN_INLINE V correlation(bool squared) const {
    return squared ? cross * cross / denominator : cross / root_of(denominator);
  }

  // P Q T R U for the gradient g of cc.
  MEDKERN_INLINE void coefficients(const LocalNccRow& r, bool squared, V g, V (&to)[5]) const {
    const V scaled = r.n * g, inverse = 1.0 / denominator;
    const V slope = squared ? cross * inverse : root_of(inverse);
    // 2 dcc/dA = -2 cc B / D, or -cc B / D where not squared
    const V pull = (scaled * (squared ? -2.0 : -1.0)) * (cross * slope) * inverse;
    to[0] = (squared ? 2.0 : 1.0) * scaled * slope;
    to[1] = flat_a ? V{} : pull * var_b;
    to[2] = (to[0] * sum_b + to[1] * sum_a) / -r.n;
    to[3] = flat_b ? V{} : pull * var_a;
    to[4] = (to[0] * sum_a + to[3] * sum_b) / -r.n;
  }
};

}  // namespace medkern::MEDKERN_ISA
