// The names of the geodesic metrics, and what a step's length is to each: for CPU and GPU alike.
#pragma once

#include "common/inline.hpp"

namespace medkern {

enum class GeodesicMetric { l1, l2, fastgeodis, geodistk, geos, mcp, node };
enum class ChannelNorm { l1, l2, linf };

// What a step of this length adds to the cost of its edge, or the factor of it.
MEDKERN_INLINE double geodesic_step(GeodesicMetric metric, double lam, double length) {
  switch (metric) {
    case GeodesicMetric::l1:
      return lam * length;
    case GeodesicMetric::l2:
      return lam * length * length;
    case GeodesicMetric::fastgeodis:
      return (1 - lam) * length;
    case GeodesicMetric::geos:
      return length * length;
    case GeodesicMetric::mcp:
      return length / 2;
    case GeodesicMetric::node:
      return 0;
    default:
      return length;
  }
}

// The factor of the intensity difference.
MEDKERN_INLINE double geodesic_intensity(GeodesicMetric metric, double lam) {
  if (metric == GeodesicMetric::geos) return lam * lam;
  const bool reversed = metric == GeodesicMetric::fastgeodis || metric == GeodesicMetric::geodistk;
  return reversed ? lam : 1 - lam;
}

}  // namespace medkern
