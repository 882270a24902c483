// The cost of an edge, for one neighbour or for a vector of them, in the very same operations.
#pragma once

// Four doubles are passed differently with and without AVX; here they are always inlined.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

#include <cmath>
#include <limits>

#include "common/simd.hpp"
#include "geodesic.hpp"

namespace medkern::MEDKERN_ISA {

// The metrics that share a formula; `step` and `intensity` below hold what they differ in.
enum class EdgeForm { linear, quadratic, geodistk, mean, target };
// `one`: a single channel, where every norm is the absolute difference.
enum class EdgeNorm { one, l1, l2, linf };

// The neighbours x-1, x, x+1 of one row; the fourth lane is never a neighbour.
template <class T>
using Quad = Vec<T, 4>;

template <class V>
MEDKERN_INLINE V magnitude(V v) {
  if constexpr (std::is_floating_point_v<V>) {
    return std::fabs(v);
  } else {
    using Bits = std::conditional_t<sizeof(v[0]) == 4, uint32_t, uint64_t>;
    constexpr Bits sign = Bits{1} << (8 * sizeof(Bits) - 1);
    return reinterpret_cast<V>(reinterpret_cast<Vec<Bits, lanes_of<V>>>(v) & ~sign);
  }
}

template <class V>
MEDKERN_INLINE V root(V v) {
  if constexpr (std::is_floating_point_v<V>) {
    return std::sqrt(v);
  } else {
    [[maybe_unused]] constexpr bool single = sizeof(v[0]) == 4;
#if defined(__x86_64__)
    if constexpr (sizeof(V) == 16) {
      if constexpr (single) return reinterpret_cast<V>(_mm_sqrt_ps(reinterpret_cast<__m128>(v)));
      if constexpr (!single) return reinterpret_cast<V>(_mm_sqrt_pd(reinterpret_cast<__m128d>(v)));
    }
#endif
#if defined(__AVX__)
    if constexpr (sizeof(V) == 32) {
      if constexpr (single) return reinterpret_cast<V>(_mm256_sqrt_ps(reinterpret_cast<__m256>(v)));
      if constexpr (!single)
        return reinterpret_cast<V>(_mm256_sqrt_pd(reinterpret_cast<__m256d>(v)));
    }
#endif
#if defined(__AVX512F__)
    if constexpr (sizeof(V) == 64) {  // the unmasked forms make GCC 12 warn in its own header
      if constexpr (single)
        return reinterpret_cast<V>(_mm512_maskz_sqrt_ps(0xffff, reinterpret_cast<__m512>(v)));
      if constexpr (!single)
        return reinterpret_cast<V>(_mm512_maskz_sqrt_pd(0xff, reinterpret_cast<__m512d>(v)));
    }
#endif
    V roots = v;
    for (int i = 0; i < lanes_of<V>; ++i) roots[i] = std::sqrt(v[i]);
    return roots;
  }
}

// Whether any lane of a comparison holds.
template <class V>
MEDKERN_INLINE bool any(V holds) {
#if defined(__AVX512F__)
  if constexpr (sizeof(V) == 64) {
    return _mm512_test_epi64_mask(reinterpret_cast<__m512i>(holds),
                                  reinterpret_cast<__m512i>(holds)) != 0;
  }
#endif
#if defined(__AVX__)
  if constexpr (sizeof(V) == 32) {
    return !_mm256_testz_si256(reinterpret_cast<__m256i>(holds), reinterpret_cast<__m256i>(holds));
  }
#endif
#if defined(__SSE4_1__)
  if constexpr (sizeof(V) == 16) {
    return !_mm_testz_si128(reinterpret_cast<__m128i>(holds), reinterpret_cast<__m128i>(holds));
  }
#endif
  bool found = false;
  for (int i = 0; i < lanes_of<V>; ++i) found = found || holds[i] != 0;
  return found;
}

// Bit i says whether lane i of a comparison holds.
MEDKERN_INLINE int mask_of(Quad<int32_t> holds) {
#if defined(__x86_64__)
  return _mm_movemask_ps(reinterpret_cast<__m128>(holds));
#else
  return (holds[0] & 1) | (holds[1] & 2) | (holds[2] & 4) | (holds[3] & 8);
#endif
}
MEDKERN_INLINE int mask_of(Quad<int64_t> holds) {
#if defined(__AVX__)
  return _mm256_movemask_pd(reinterpret_cast<__m256d>(holds));
#else
  return static_cast<int>((holds[0] & 1) | (holds[1] & 2) | (holds[2] & 4) | (holds[3] & 8));
#endif
}

template <class T, EdgeForm Form, EdgeNorm Norm>
struct Edge {
  using Value = T;
  static constexpr bool one_channel = Norm == EdgeNorm::one;

  T intensity, rest;

  explicit Edge(const GeodesicProblem& p) {
    const bool reversed =
        p.metric == GeodesicMetric::fastgeodis || p.metric == GeodesicMetric::geodistk;
    const bool geos = p.metric == GeodesicMetric::geos;
    intensity = static_cast<T>(geos ? p.lam * p.lam : reversed ? p.lam : 1 - p.lam);
    rest = static_cast<T>(1 - p.lam);
  }

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
  switch (metric) {
    case GeodesicMetric::l1:
      return static_cast<T>(lam * length);
    case GeodesicMetric::l2:
      return static_cast<T>(lam * length * length);
    case GeodesicMetric::fastgeodis:
      return static_cast<T>((1 - lam) * length);
    case GeodesicMetric::geos:
      return static_cast<T>(length * length);
    case GeodesicMetric::mcp:
      return static_cast<T>(length / 2);
    case GeodesicMetric::node:
      return 0;
    default:
      return static_cast<T>(length);
  }
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
