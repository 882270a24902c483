// Exact geodesic distance on a grid: the shortest path from the seeds to every voxel.
//
// Neighbouring voxels q, p are joined by an edge of cost w(q, p) >= 0, made of the step's physical
// length `len` and of dI = |I_q - I_p|, a norm over the channels:
//     l1          (1-lam) dI + lam len
//     l2          sqrt((1-lam) dI^2 + lam len^2)    Breznik et al. (point annotations), equation 3
//     fastgeodis  (1-lam) len + lam dI
//     geodistk    len / ((1-lam) + lam / (dI + 1e-5)), dI always the l2 norm
//     geos        sqrt(len^2 + lam^2 dI^2)
//     mcp         len (I_q + I_p) / 2, one channel, I >= 0
//     node        I_p, the cost of the voxel stepped on to, one channel, I >= 0
// D is the greatest map with D <= starts and D(p) <= D(q) + w(q, p) in the arithmetic of the
// image's type: the weight is rounded first, then the sum, never contracted. Rounded sums are
// monotone, so that map is unique, and every exact method and every number of threads gives the
// same bits.
//
// image: [batch, channels, D, H, W], starts and distance: [batch, classes, D, H, W] of the same
// type (start cost; inf: no seed), mask: [batch, D, H, W] or null; all C-contiguous. A voxel
// outside the mask, or where the image is NaN, is a wall. Work memory: two words per voxel (one
// plus the channels), the tiles' halo and the wave front.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/parallel.hpp"
#include "geodesic_metric.hpp"
#include "grid.hpp"

namespace medkern {

// The exact methods, and `raster`, which stops after a fixed number of sweeps. The values of the
// last four, less one, are the method codes of the info.
enum class GeodesicMethod { automatic, bucket, tiles, sweeps, raster };

struct GeodesicProblem {
  int64_t batch = 0, channels = 0, classes = 0;
  Grid grid;
  GeodesicMetric metric = GeodesicMetric::l1;
  ChannelNorm norm = ChannelNorm::l1;
  double lam = 0;
  const void* image = nullptr;
  const void* starts = nullptr;
  const bool* mask = nullptr;
  const Neighbour* neighbours = nullptr;  // [batch, neighbour_count], as `neighbours` lists them
  int neighbour_count = 0;
  // Of the solver.
  double limit = 0;  // distances above it come back as inf
  GeodesicMethod method = GeodesicMethod::automatic;
  int64_t iterations = 1;  // pairs of sweeps of `raster`
  void* distance = nullptr;
  double* info = nullptr;  // [batch, classes, 4]: method code, rounds, converged, residual; or null
  // Of the parents: distance is read.
  int64_t* parents = nullptr;
};

// How a kernel ended: kernels are compiled per instruction set and throw nothing of ours there.
enum class GeodesicStatus { done, interrupted, out_of_memory, not_converged };

// Parallel as plain functions: a kernel compiled for one instruction set must not emit copies of
// its inline members, which the linker might keep for all.
struct Crew {
  const Parallel* parallel;
  int threads;
  // Calls work(context) on so many threads.
  void (*fork)(const Parallel& parallel, int64_t threads, void (*work)(void*), void* context);
  bool (*interrupted)(const Parallel& parallel);
};

inline Crew crew_of(const Parallel& parallel) {
  const auto fork = [](const Parallel& all, int64_t threads, void (*work)(void*), void* context) {
    all.run(threads, 1, [=](int64_t, int64_t) { work(context); });
  };
  return {&parallel, parallel.threads(), fork,
          [](const Parallel& all) { return all.interrupted(); }};
}

using GeodesicKernel = GeodesicStatus (*)(const GeodesicProblem&, const Crew&);

// The kernels of the instruction set in use, for float64 or float32.
GeodesicKernel geodesic_solve_kernel(bool float64);
GeodesicKernel geodesic_parents_kernel(bool float64);

// The neighbours of every sample, [batch, neighbour_count], of spacing [batch, ndim].
inline std::vector<Neighbour> batch_neighbours(const Grid& grid, int connectivity,
                                               const double* spacing, int64_t batch, int ndim) {
  std::vector<Neighbour> all;
  for (int64_t b = 0; b < batch; ++b) {
    double of_sample[3] = {1, 1, 1};
    std::copy_n(spacing + b * ndim, ndim, of_sample + 3 - ndim);
    const std::vector<Neighbour> near = neighbours(grid, connectivity, of_sample);
    all.insert(all.end(), near.begin(), near.end());
  }
  return all;
}

// Points the problem to neighbours made for its batch.
inline void set_neighbours(GeodesicProblem& p, const std::vector<Neighbour>& all) {
  p.neighbours = all.data();
  p.neighbour_count = p.batch ? static_cast<int>(static_cast<int64_t>(all.size()) / p.batch) : 0;
}

template <class Name, size_t N>
Name parse_name(const std::string& name, const char* const (&names)[N], const char* argument) {
  std::string known;
  for (size_t i = 0; i < N; ++i) {
    if (name == names[i]) return static_cast<Name>(i);
    known += std::string(i ? ", " : "") + names[i];
  }
  throw std::invalid_argument(std::string(argument) + " must be one of " + known + ", got " + name);
}

inline GeodesicMetric parse_geodesic_metric(const std::string& name) {
  return parse_name<GeodesicMetric>(
      name, {"l1", "l2", "fastgeodis", "geodistk", "geos", "mcp", "node"}, "metric");
}

inline ChannelNorm parse_channel_norm(const std::string& name) {
  return parse_name<ChannelNorm>(name, {"l1", "l2", "linf"}, "channel_norm");
}

inline GeodesicMethod parse_geodesic_method(const std::string& name) {
  return parse_name<GeodesicMethod>(name, {"auto", "bucket", "tiles", "sweeps", "raster"},
                                    "method");
}

inline bool uses_channels(GeodesicMetric metric) {
  return metric != GeodesicMetric::mcp && metric != GeodesicMetric::node;
}

// Edge costs must not be negative, or paths would shorten forever.
template <class T>
void check_geodesic(const GeodesicProblem& p) {
  const auto require = [](bool holds, const char* what) {
    if (!holds) throw std::invalid_argument(what);
  };
  require(p.lam >= 0 && std::isfinite(p.lam) && (p.lam <= 1 || p.metric == GeodesicMetric::geos),
          "lam must be in [0, 1], or finite and not negative for geos");
  require(p.iterations >= 1, "iterations must be at least 1");
  require(p.limit >= 0, "limit must not be negative or NaN");
  for (int64_t i = 0; i < p.batch * p.neighbour_count; ++i) {
    const double length = p.neighbours[i].length;
    require(length > 0 && std::isfinite(length), "spacing must be positive and finite");
  }
  const int64_t voxels = p.grid.count();
  const T* starts = static_cast<const T*>(p.starts);
  bool valid = true;
  for (int64_t i = 0; i < p.batch * p.classes * voxels; ++i) {
    valid = valid && starts[i] >= std::numeric_limits<T>::lowest();
  }
  require(valid, "starts must not be NaN or -inf");
  if (uses_channels(p.metric)) return;
  require(p.channels == 1, "metric mcp and node need one channel");
  const T* image = static_cast<const T*>(p.image);
  for (int64_t i = 0; i < p.batch * voxels; ++i) {
    valid = valid && (!(image[i] < 0) || (p.mask && !p.mask[i]));
  }
  require(valid, "metric mcp and node need an image that is not negative");
}

inline void run_geodesic(GeodesicKernel kernel, const GeodesicProblem& p,
                         const Parallel& parallel) {
  switch (kernel(p, crew_of(parallel))) {
    case GeodesicStatus::done:
      return;
    case GeodesicStatus::interrupted:
      throw Interrupted();
    case GeodesicStatus::out_of_memory:
      throw std::bad_alloc();
    case GeodesicStatus::not_converged:
      throw std::invalid_argument(
          "distance must be exact for these arguments: a voxel has no tight predecessor");
  }
}

// Fills p.distance, and p.info where it is given.
template <class T>
void geodesic_solve(const GeodesicProblem& p, const Parallel& parallel) {
  check_geodesic<T>(p);
  run_geodesic(geodesic_solve_kernel(sizeof(T) == 8), p, parallel);
}

// Fills p.parents, [batch, classes, D, H, W]: the row-major index of the predecessor on a shortest
// path; a seed's is itself, an unreachable voxel's -1. Among the neighbours q with
// D(q) + w(q, p) = D(p), the first one in the order of `neighbours` with D(q) < D(p). Where all of
// them are as far as p (edges of no cost, or of less than a rounding), a breadth-first search over
// those equals, from the voxels already settled, takes the first one settled.
template <class T>
void geodesic_parents(const GeodesicProblem& p, const Parallel& parallel) {
  check_geodesic<T>(p);
  run_geodesic(geodesic_parents_kernel(sizeof(T) == 8), p, parallel);
}

}  // namespace medkern
