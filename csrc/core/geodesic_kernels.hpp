// The kernels declared in geodesic.hpp, compiled once per instruction set by csrc/isa/geodesic.cpp.
#pragma once

#include "geodesic_parents.hpp"
#include "geodesic_sweeps.hpp"
#include "geodesic_tiles.hpp"

namespace medkern::MEDKERN_ISA {

// The mean cost of an edge, from some of them.
template <class Edge>
double mean_edge(const Edge& edge, const GeodesicItem<typename Edge::Value>& item,
                 typename Edge::Value shortest) {
  using T = typename Edge::Value;
  constexpr int64_t samples = 4096;
  const Grid& grid = item.grid;
  const int64_t voxels = grid.count(), stride = std::max<int64_t>(voxels / samples, 1) | 1;
  const int64_t along[3] = {grid.size[1] * grid.size[2], grid.size[2], 1};
  double sum = 0;
  int64_t n = 0;
  for (int64_t q = 0; q < voxels; q += stride) {
    for (const int64_t step : along) {
      const int64_t p = q + step;
      if (p >= voxels || (item.mask && !(item.mask[q] && item.mask[p]))) continue;
      const T w =
          edge([&](int64_t c) { return item.image[c * voxels + q]; },
               [&](int64_t c) { return item.image[c * voxels + p]; }, item.channels, shortest);
      if (!(w < std::numeric_limits<T>::infinity())) continue;
      sum += static_cast<double>(w);
      ++n;
    }
  }
  return n ? sum / static_cast<double>(n) : 0;
}

// Buckets as wide as the cheapest edge settle every voxel on its first visit. Much narrower ones
// than the usual edge would mostly be empty.
template <class Edge>
double bucket_width(const Edge& edge, typename Edge::Value shortest, double mean) {
  using T = typename Edge::Value;
  constexpr double per_mean = 16;
  const auto flat = [](int64_t) { return T{0}; };
  const double least = static_cast<double>(edge(flat, flat, 1, shortest));
  const double width = std::max(least, mean / per_mean);
  constexpr double smallest = static_cast<double>(std::numeric_limits<T>::min()) * 4;
  return width > 0 && width < std::numeric_limits<double>::infinity() ? std::max(width, smallest)
                                                                      : 1;
}

template <class T>
BucketScale<T> bucket_scale(const GeodesicItem<T>& item, double width) {
  T least = std::numeric_limits<T>::max();
  for (int64_t i = 0; i < item.grid.count(); ++i) least = std::min(least, item.starts[i]);
  return {least, static_cast<T>(1 / width)};
}

// One (batch, class) of a problem.
template <class Edge, int Rows>
class ItemSolver {
 public:
  using T = typename Edge::Value;

  ItemSolver(const GeodesicProblem& p, int64_t index, const Edge& edge, const Workers& workers)
      : p_(p),
        near_(p.neighbours + index / p.classes * p.neighbour_count),
        edge_(edge),
        item_(item_of<T>(p, index)),
        workers_(workers),
        info_(p.info ? p.info + 4 * index : nullptr) {}

  void run() {
    switch (method()) {
      case GeodesicMethod::bucket:
        return run_tiles(GeodesicMethod::bucket, item_.grid.size, BucketQueue<T>::kSlots);
      case GeodesicMethod::sweeps:
        return run_sweeps(GeodesicMethod::sweeps, std::numeric_limits<int64_t>::max());
      case GeodesicMethod::raster:
        return run_sweeps(GeodesicMethod::raster, p_.iterations);
      default:
        return run_in_tiles();
    }
  }

 private:
  GeodesicMethod method() const {
    if (p_.method != GeodesicMethod::automatic) return p_.method;
    const int64_t small = Rows == 3 ? 1 << 18 : 1 << 15;
    return item_.grid.count() < small ? GeodesicMethod::bucket : GeodesicMethod::tiles;
  }

  // Tiles of equal size, about 128^2 or 32^3.
  void run_in_tiles() {
    int64_t box[3];
    for (int a = 0; a < 3; ++a) {
      const int64_t n = item_.grid.size[a], most = Rows == 3 ? 128 : 32;
      const int64_t tiles = (n + most - 1) / most;
      box[a] = (n + tiles - 1) / tiles;
    }
    run_tiles(GeodesicMethod::tiles, box, 64);
  }

  void run_tiles(GeodesicMethod method, const int64_t (&box)[3], int64_t band) {
    const BlockShape shape(box, Rows == 3);
    const Stencil<T, Rows> stencil(shape, p_, near_);
    const double mean = mean_edge(edge_, item_, stencil.shortest);
    const auto scale = bucket_scale(item_, bucket_width(edge_, stencil.shortest, mean));
    TileSolver<Edge, Rows> solver(edge_, stencil, shape, scale, band, item_, workers_);
    report(method, solver.run(), 0);
  }

  void run_sweeps(GeodesicMethod method, int64_t pairs) {
    const BlockShape shape(item_.grid.size, Rows == 3);
    const Stencil<T, Rows> stencil(shape, p_, near_);
    SweepSolver<Edge, Rows> solver(edge_, stencil, shape, item_, workers_.stop());
    const int64_t rounds = solver.run(pairs);
    if (info_) report(method, rounds, static_cast<double>(solver.residual()));
    solver.store();
  }

  void report(GeodesicMethod method, int64_t rounds, double residual) const {
    if (!info_) return;
    info_[0] = static_cast<int>(method) - static_cast<int>(GeodesicMethod::bucket);
    info_[1] = static_cast<double>(rounds);
    info_[2] = residual == 0;
    info_[3] = residual;
  }

  const GeodesicProblem& p_;
  const Neighbour* const near_;
  const Edge& edge_;
  const GeodesicItem<T> item_;
  const Workers& workers_;
  double* const info_;
};

// Runs Task(p, index, edge, workers) on every (batch, class). Threads take whole ones where there
// are enough of them, else they share each.
template <class Edge, class Task>
GeodesicStatus each_item(const GeodesicProblem& p, const Crew& crew, const Task& task) {
  Stop stop(crew);
  const Edge edge(p);
  const int64_t items = p.batch * p.classes;
  const bool whole = items >= crew.threads;
  const Workers outer(crew, stop, !whole), inner(crew, stop, whole);
  outer.each(items, [&](int64_t index) { task(p, index, edge, inner); });
  return stop.status();
}

struct Solve {
  template <class Edge>
  static GeodesicStatus run(const GeodesicProblem& p, const Crew& crew) {
    return each_item<Edge>(p, crew, p.grid.size[0] == 1 ? item<Edge, 3> : item<Edge, 9>);
  }

 private:
  template <class Edge, int Rows>
  static void item(const GeodesicProblem& p, int64_t index, const Edge& edge,
                   const Workers& workers) {
    ItemSolver<Edge, Rows>(p, index, edge, workers).run();
  }
};

struct FindParents {
  template <class Edge>
  static GeodesicStatus run(const GeodesicProblem& p, const Crew& crew) {
    return each_item<Edge>(p, crew, item<Edge>);
  }

 private:
  template <class Edge>
  static void item(const GeodesicProblem& p, int64_t index, const Edge& edge,
                   const Workers& workers) {
    const auto item = item_of<typename Edge::Value>(p, index);
    if (!ParentFinder<Edge>(edge, p, index, item).run(workers)) {
      workers.stop().fail(GeodesicStatus::not_converged);
    }
  }
};

GeodesicKernel geodesic_solve_kernel(bool float64) {
  return float64 ? with_edge<double, Solve, Crew> : with_edge<float, Solve, Crew>;
}
GeodesicKernel geodesic_parents_kernel(bool float64) {
  return float64 ? with_edge<double, FindParents, Crew> : with_edge<float, FindParents, Crew>;
}

}  // namespace medkern::MEDKERN_ISA
