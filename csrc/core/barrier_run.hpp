// The barrier kernels over all units of a problem, on any number of threads.
//
// Indices are as narrow as the grid allows, which saves memory traffic.
#pragma once

#include <cstdint>
#include <limits>

#include "core/barrier.hpp"
#include "core/barrier_bottleneck.hpp"
#include "core/barrier_levels.hpp"
#include "core/barrier_raster.hpp"
#include "core/barrier_sweep.hpp"
#include "core/barrier_vectorial.hpp"

namespace medkern {
namespace detail {

// body(unit, levels of its sample) for every unit; a thread sorts each of its samples once.
template <class Index, class T, class Body>
void each_unit(const BarrierProblem<T>& problem, const WalledGrid& grid, BarrierWork& work,
               const Body& body) {
  work.run(problem.units(), [&](int64_t begin, int64_t end) {
    Levels<BarrierValue<T>, Index> levels;
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t sample = unit / problem.sets;
      if (unit == begin || unit % problem.sets == 0) {
        levels = levels_of<Index>(grid, problem.image_of(sample), problem.mask_of(sample));
      }
      work.poll();
      body(unit, levels);
    }
  });
}

// The same, with the narrowest type of index.
template <class T, class Body>
void with_levels(const BarrierProblem<T>& problem, const Parallel& parallel, const Body& body) {
  const WalledGrid grid(problem.grid);
  BarrierWork work(parallel);
  const auto run = [&]<class Index>(Index) {
    each_unit<Index>(problem, grid, work,
                     [&](int64_t unit, const auto& levels) { body(unit, grid, levels, work); });
  };
  if (grid.count() <= std::numeric_limits<int32_t>::max()) {
    run(int32_t{});
  } else {
    run(int64_t{});
  }
}

// body(unit, sweep) for every unit, with the narrowest type of index. distance(unit) is where a
// sweep puts its distances.
template <bool kWitnesses, class T, class Distance, class Body>
void each_sweep(const BarrierProblem<T>& problem, const Parallel& parallel,
                const Distance& distance, const Body& body) {
  BarrierWork work(parallel);
  const auto run = [&]<class Index>(Index) {
    work.run(problem.units(), [&](int64_t begin, int64_t end) {
      std::vector<Index> order;
      for (int64_t unit = begin; unit < end; ++unit) {
        const int64_t sample = unit / problem.sets;
        const T* image = problem.image_of(sample);
        const bool* mask = problem.mask_of(sample);
        if (unit == begin || unit % problem.sets == 0) {
          order = ascending_order<Index>(image, mask, problem.grid.count());
        }
        work.poll();
        BarrierSweep<T, Index, kWitnesses> sweep(problem.grid, problem.connectivity, image, mask,
                                                 distance(unit), work);
        sweep.run(order, problem.seeds_of(unit));
        body(unit, sweep);
      }
    });
  };
  if (problem.grid.count() <= std::numeric_limits<int32_t>::max()) {
    run(int32_t{});
  } else {
    run(int64_t{});
  }
}

inline int64_t inner_or_none(const WalledGrid& grid, int64_t voxel) {
  return voxel < 0 ? -1 : grid.inner_index(voxel);
}

template <class T, class Write>
void bottleneck(const BarrierProblem<T>& problem, const Parallel& parallel, const Write& write) {
  using Value = BarrierValue<T>;
  const auto each = [&]<class Index>(int64_t unit, const WalledGrid& grid,
                                     const Levels<Value, Index>& levels, BarrierWork& work) {
    BottleneckSweep<Value, Index> sweep(grid, levels, problem.connectivity, work);
    sweep.run(problem.seeds_of(unit));
    grid.each([&](int64_t here, int64_t plain) {
      write(unit * problem.grid.count() + plain, grid, sweep, here);
    });
  };
  with_levels(problem, parallel, each);
}

}  // namespace detail

// distance: [batch, sets, D, H, W]; inf where unreachable.
template <class T>
void minimum_barrier(const BarrierProblem<T>& problem, BarrierValue<T>* distance,
                     const Parallel& parallel) {
  const int64_t count = problem.grid.count();
  detail::each_sweep<false>(
      problem, parallel, [=](int64_t unit) { return distance + unit * count; },
      [](int64_t, const auto&) {});
}

// pairs: [batch, 2, sets, D, H, W], row-major indices of the voxels where the best path attains its
// maximum and its minimum; -1 where unreachable.
template <class T>
void barrier_witnesses(const BarrierProblem<T>& problem, int64_t* pairs, const Parallel& parallel) {
  const int64_t count = problem.grid.count(), per_sample = problem.sets * count;
  const auto first_of = [=](int64_t unit) {
    return pairs + unit * count + unit / problem.sets * per_sample;
  };
  // Distances take the place of the pairs to come, which have room for two.
  detail::each_sweep<true>(
      problem, parallel,
      [=](int64_t unit) { return reinterpret_cast<BarrierValue<T>*>(first_of(unit)); },
      [=](int64_t unit, const auto& sweep) {
        int64_t* highest = first_of(unit);
        for (int64_t i = 0; i < count; ++i) {
          highest[i] = sweep.extremes(i).highest;
          highest[i + per_sample] = sweep.extremes(i).lowest;
        }
      });
}

template <class T>
void bottleneck_distance(const BarrierProblem<T>& problem, BarrierValue<T>* distance,
                         const Parallel& parallel) {
  detail::bottleneck(problem, parallel,
                     [=](int64_t at, const WalledGrid&, const auto& sweep, int64_t voxel) {
                       distance[at] = sweep.distance(voxel);
                     });
}

template <class T>
void bottleneck_witness(const BarrierProblem<T>& problem, int64_t* highest,
                        const Parallel& parallel) {
  detail::bottleneck(problem, parallel,
                     [=](int64_t at, const WalledGrid& grid, const auto& sweep, int64_t voxel) {
                       highest[at] = detail::inner_or_none(grid, sweep.highest(voxel));
                     });
}

// scans: [batch, sets], see BarrierRaster::run.
template <class T>
void raster_barrier(const BarrierProblem<T>& problem, int64_t most, BarrierValue<T>* distance,
                    BarrierValue<T>* scans, const Parallel& parallel) {
  using Value = BarrierValue<T>;
  const WalledGrid grid(problem.grid);
  BarrierWork work(parallel);
  work.run(problem.units(), [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      BarrierRaster<Value, T> raster(problem, grid, unit, work);
      scans[unit] = static_cast<Value>(raster.run(most));
      grid.each([&](int64_t here, int64_t plain) {
        distance[unit * problem.grid.count() + plain] = raster.distance(here);
      });
    }
  });
}

template <class T>
void vectorial_barrier(const BarrierProblem<T>& problem, BarrierNorm norm,
                       BarrierValue<T>* distance, const Parallel& parallel) {
  const WalledGrid grid(problem.grid);
  BarrierWork work(parallel);
  work.run(problem.units(), [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      VectorialBarrier<T> solver(problem, grid, norm, unit, work);
      solver.run(problem.seeds_of(unit));
      grid.each([&](int64_t here, int64_t plain) {
        distance[unit * problem.grid.count() + plain] =
            static_cast<BarrierValue<T>>(solver.distance(here));
      });
    }
  });
}

}  // namespace medkern
