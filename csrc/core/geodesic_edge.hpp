// The cost of an edge, for one neighbour or for a vector of them, in the very same operations.
#pragma once

#include <cmath>
#include <limits>
#include <type_traits>

#include "geodesic.hpp"
#include "geodesic_lanes.hpp"

namespace medkern::MEDKERN_ISA {

// The metrics that share a formula; `step` and `intensity` below hold what they differ in.
enum class EdgeForm { linear, quadratic, geodistk, mean, target };
// `one`: a single channel, where every norm is the absolute difference.
enum class EdgeNorm { one, l1, l2, linf };

template <class T, EdgeForm Form, EdgeNorm Norm>
struct Edge {
  using Value = T;
  static constexpr bool one_channel = Norm == EdgeNorm::one;

  T intensity, rest;

  explicit Edge(const GeodesicProblem& p)
      : intensity(static_cast<T>(geodesic_intensity(p.metric, p.lam))),
        rest(static_cast<T>(1 - p.lam)) {}

  bool ignores_image() const {
    return Form != EdgeForm::mean && Form != EdgeForm::target && intensity == 0;
  }

  // The edge from q to p: from(c) and to(c) give their values in channel c, `step` is step_of the
  // length. V is T or a vector of T.
  template <class V, class From, class To>
  MEDKERN_INLINE V operator()(const From& from, const To& to, int64_t channels,
                              const V& step) const {
    if constexpr (Form == EdgeForm::target) {
      return to(0) + step;
    } else if constexpr (Form == EdgeForm::mean) {
      return (from(0) + to(0)) * step;
    } else {
      const V d = difference<V>(from, to, channels);
      if constexpr (Form == EdgeForm::linear) return intensity * d + step;
      if constexpr (Form == EdgeForm::quadratic) return root(intensity * (d * d) + step);
      if constexpr (Form == EdgeForm::geodistk) {
        return step / (rest + intensity / (d + static_cast<T>(1e-5)));
      }
    }
  }

 private:
  template <class V, class From, class To>
  static MEDKERN_INLINE V difference(const From& from, const To& to, int64_t channels) {
    V sum = magnitude(from(0) - to(0));
    if constexpr (one_channel) return sum;
    if constexpr (Norm == EdgeNorm::l2) sum = sum * sum;
    for (int64_t c = 1; c < channels; ++c) {
      const V d = magnitude(from(c) - to(c));
      if constexpr (Norm == EdgeNorm::l1) sum = sum + d;
      if constexpr (Norm == EdgeNorm::l2) sum = sum + d * d;
      // A NaN in any channel stays.
      if constexpr (Norm == EdgeNorm::linf) sum = d <= sum ? sum : d + (sum - sum);
    }
    return Norm == EdgeNorm::l2 ? root(sum) : sum;
  }
};

// What a step of this length adds; an absent neighbour has infinite length.
template <class T>
T step_of(GeodesicMetric metric, double lam, double length) {
  constexpr double inf = std::numeric_limits<double>::infinity();
  if (length == inf) return static_cast<T>(inf);
  return static_cast<T>(geodesic_step(metric, lam, length));
}

// Op::run<Edge>(p, args...) with the Edge of a problem, so that inner loops have no branches.
template <class T, EdgeForm Form, class Op, class... Args>
auto with_norm(const GeodesicProblem& p, const Args&... args) {
  if (p.channels == 1) return Op::template run<Edge<T, Form, EdgeNorm::one>>(p, args...);
  if constexpr (Form == EdgeForm::linear || Form == EdgeForm::quadratic) {
    if (p.norm == ChannelNorm::l1) return Op::template run<Edge<T, Form, EdgeNorm::l1>>(p, args...);
    if (p.norm == ChannelNorm::linf) {
      return Op::template run<Edge<T, Form, EdgeNorm::linf>>(p, args...);
    }
  }
  return Op::template run<Edge<T, Form, EdgeNorm::l2>>(p, args...);
}

template <class T, class Op, class... Args>
auto with_edge(const GeodesicProblem& p, const Args&... args) {
  switch (p.metric) {
    case GeodesicMetric::l1:
    case GeodesicMetric::fastgeodis:
      return with_norm<T, EdgeForm::linear, Op>(p, args...);
    case GeodesicMetric::l2:
    case GeodesicMetric::geos:
      return with_norm<T, EdgeForm::quadratic, Op>(p, args...);
    case GeodesicMetric::geodistk:
      return with_norm<T, EdgeForm::geodistk, Op>(p, args...);
    case GeodesicMetric::mcp:
      return Op::template run<Edge<T, EdgeForm::mean, EdgeNorm::one>>(p, args...);
    default:
      return Op::template run<Edge<T, EdgeForm::target, EdgeNorm::one>>(p, args...);
  }
}

}  // namespace medkern::MEDKERN_ISA
