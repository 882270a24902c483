// Minimum barrier and bottleneck distances on voxel grids: problems and layouts.
//
// Over all paths from a seed to voxel p under a neighbourhood, with I the intensity,
//
//   barrier     rho(p) = min (max I - min I)       barrier_sweep.hpp, exact
//   bottleneck  mu(p)  = min max I                 barrier_bottleneck.hpp, exact
//   vectorial   rho(p) = min |max I - min I|       barrier_vectorial.hpp, an upper bound
//   raster      rho(p), one path kept per voxel    barrier_raster.hpp, an upper bound
//
// image [batch, channels, D, H, W], seeds [batch, sets, D, H, W] and mask [batch, 1, D, H, W]
// (none: everywhere) are contiguous; results are [batch, sets, D, H, W]. Voxels outside the mask
// are walls. A unit of work is one set of seeds of one sample: units are independent and run on any
// threads.
//
// R. Strand, K. C. Ciesielski, F. Malmberg, P. K. Saha: The minimum barrier distance, CVIU 117,
// 2013. The exact sweep keeps, like K. C. Ciesielski et al., Efficient algorithm for finding the
// exact minimum barrier distance, CVIU 123, 2014, all paths that no other beats in both ends.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <limits>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

#include "core/common/parallel.hpp"
#include "core/grid.hpp"

namespace medkern {

template <class T>
struct BarrierProblem {
  const T* image;
  const bool* seeds;
  const bool* mask;  // null: everywhere
  int64_t batch, sets;
  int64_t channels = 1;
  Grid grid;
  int connectivity;  // see neighbours()

  int64_t units() const { return batch * sets; }
  const T* image_of(int64_t sample) const { return image + sample * channels * grid.count(); }
  const bool* mask_of(int64_t sample) const {
    return mask ? mask + sample * grid.count() : nullptr;
  }
  const bool* seeds_of(int64_t unit) const { return seeds + unit * grid.count(); }
};

// float64 images give float64, all others float32, which holds 16-bit integers exactly.
template <class T>
using BarrierValue = std::conditional_t<std::is_same_v<T, double>, double, float>;

// The grid with a wall around it, so that kernels need no border tests: one column after each row
// and one row after each plane serve both of their neighbours.
struct WalledGrid {
  Grid inner;
  Grid strides;   // extents that the strides come from
  int64_t first;  // index of the first voxel

  explicit WalledGrid(const Grid& grid) : inner(grid) {
    strides = {{grid.size[0], grid.size[1] + 1, grid.size[2] + 1}};
    first = strides.index(grid.size[0] > 1, 1, 1);
  }

  int64_t count() const { return first + strides.count() + first; }
  int64_t row(int64_t z, int64_t y) const { return first + strides.index(z, y, 0); }

  // Row-major index in the inner grid of the voxel at `index`.
  int64_t inner_index(int64_t index) const {
    const int64_t x = (index - first) % strides.size[2], rows = (index - first) / strides.size[2];
    return inner.index(rows / strides.size[1], rows % strides.size[1], x);
  }

  template <class Index>
  std::vector<Index> offsets(int connectivity) const {
    std::vector<Index> found;
    for (const Neighbour& n : neighbours(inner, connectivity, {1, 1, 1})) {
      found.push_back(static_cast<Index>(strides.index(n.step[0], n.step[1], n.step[2])));
    }
    return found;
  }

  // body(index here, row-major index) of the first voxel of every row.
  template <class Body>
  void each_row(const Body& body) const {
    for (int64_t z = 0; z < inner.size[0]; ++z) {
      for (int64_t y = 0; y < inner.size[1]; ++y) body(row(z, y), inner.index(z, y, 0));
    }
  }

  // body(index here, row-major index) of every voxel.
  template <class Body>
  void each(const Body& body) const {
    each_row([&](int64_t here, int64_t plain) {
      for (int64_t x = 0; x < inner.size[2]; ++x) body(here + x, plain + x);
    });
  }
};

constexpr int64_t kPollEvery = 1 << 16;  // visited voxels: a few milliseconds

// Work that threads share may neither throw nor be cut short by one of them: the first failure, or
// Ctrl-C seen by the calling thread, stops them all and is thrown when they have stopped.
class BarrierWork {
 public:
  explicit BarrierWork(const Parallel& parallel)
      : parallel_(parallel), caller_(std::this_thread::get_id()) {}

  // body(begin, end) over [0, units).
  template <class Body>
  void run(int64_t units, const Body& body) {
    parallel_.run(units, 1, [&](int64_t begin, int64_t end) {
      try {
        body(begin, end);
      } catch (...) {
        const std::lock_guard lock(mutex_);
        if (!failure_) failure_ = std::current_exception();
        stop_ = true;
      }
    });
    if (failure_) std::rethrow_exception(failure_);
  }

  // To be called every few milliseconds.
  void poll() {
    if (std::this_thread::get_id() == caller_ && parallel_.interrupted()) stop_ = true;
    if (stop_) throw Interrupted();
  }

 private:
  const Parallel& parallel_;
  std::thread::id caller_;
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::exception_ptr failure_;
};

}  // namespace medkern
