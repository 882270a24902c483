// A whole warp on the CPU: the tables, the loops over samples and groups of channels, the threads.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <vector>

#include "common/parallel.hpp"
#include "warp.hpp"

namespace medkern {

// Where output voxels lie in the image.
class WarpTables {
 public:
  WarpTables(const WarpProblem& p, bool wide) : problem(p) {
    for (int axis = 0; axis < 3; ++axis) {
      wide ? place<double, int64_t>(axis) : place<float, int32_t>(axis);
    }
  }

  WarpProblem problem;

 private:
  template <class C, class I>
  void place(int axis) {
    const auto out = static_cast<size_t>(problem.out[axis]);
    memory_[axis].reset(new std::byte[out * (sizeof(C) + sizeof(I))]);
    I* whole = reinterpret_cast<I*>(memory_[axis].get());
    C* part = reinterpret_cast<C*>(whole + out);
    for (size_t x = 0; x < out; ++x) {
      const double at = static_cast<double>(x) * problem.step[axis], floor = std::floor(at);
      whole[x] = static_cast<I>(floor);
      part[x] = static_cast<C>(at - floor);
    }
    problem.whole[axis] = whole;
    problem.part[axis] = part;
  }

  std::unique_ptr<std::byte[]> memory_[3];
};

// Groups of channels, one after another, each spread over the threads. `type` is that of image and
// gradient; the problem needs no tables.
class WarpSweep {
 public:
  WarpSweep(const WarpProblem& problem, WarpMode mode, FloatType type, const Parallel& threads)
      : tables_(problem, type == FloatType::float64),
        p_(tables_.problem),
        storage_(bytes_of(type)),
        compute_(type == FloatType::float64 ? 8 : 4),
        threads_(threads) {
    for (const int width : kWarpWidths) {
      width_ = width;
      if (width >= p_.channels) break;
    }
    planar_ = width_ == 1 && storage_ == compute_;
    kernels_ = warp_kernels(mode, type, width_);
  }

  void forward(const void* image, void* out) {
    each_group([&](WarpGroup& g, int64_t channel) {
      g.grouped = grouped(g, at(image, channel * p_.voxels()));
      g.out = at(out, channel * p_.out_voxels());
      run_rows(g, kernels_.forward);
    });
  }

  // out: [batch, ndim, *out] in the compute type.
  void slope(const void* grad, const void* image, void* out) {
    each_group([&](WarpGroup& g, int64_t channel) {
      g.grouped = grouped(g, at(image, channel * p_.voxels()));
      g.grad = at(grad, channel * p_.out_voxels());
      g.out = static_cast<std::byte*>(out) + g.sample * p_.ndim * p_.out_voxels() * compute_;
      run_rows(g, kernels_.slope);
    });
  }

  void transpose(const void* grad, void* out) {
    const int64_t size = p_.size[p_.slab_axis()];
    const int64_t threads = threads_.threads();
    const int64_t slabs = threads == 1 ? 1 : std::min<int64_t>(size, 2 * threads);
    std::vector<WarpRange> ranges(slabs > 1 ? static_cast<size_t>(p_.rows()) : 0);
    each_group([&](WarpGroup& g, int64_t channel) {
      void* planar = at(out, channel * p_.voxels());
      g.grad = at(grad, channel * p_.out_voxels());
      g.sums = planar_ ? planar : scratch();
      if (slabs > 1 && g.first) {
        threads_.run(p_.rows(), grain(p_.out[2]), [&](int64_t begin, int64_t end) {
          kernels_.ranges(p_, g.sample, ranges.data(), begin, end);
        });
      }
      threads_.run(slabs, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) add_slab(g, ranges, i, slabs, planar);
      });
    });
  }

 private:
  template <class Body>
  void each_group(const Body& body) {
    for (int64_t sample = 0; sample < p_.batch; ++sample) {
      for (int64_t first = 0; first < p_.channels; first += width_) {
        WarpGroup g;
        g.sample = sample;
        g.count = std::min<int64_t>(width_, p_.channels - first);
        g.first = first == 0;
        body(g, sample * p_.channels + first);
        threads_.check();
      }
    }
  }

  const void* at(const void* values, int64_t i) const {
    return static_cast<const std::byte*>(values) + i * storage_;
  }
  void* at(void* values, int64_t i) const { return static_cast<std::byte*>(values) + i * storage_; }

  void* scratch() {
    if (!scratch_) {
      scratch_.reset(new std::byte[static_cast<size_t>(p_.voxels() * width_ * compute_ + 64)]);
    }
    const auto address = reinterpret_cast<uintptr_t>(scratch_.get());
    return scratch_.get() + (64 - address % 64) % 64;
  }

  const void* grouped(const WarpGroup& g, const void* planar) {
    if (planar_) return planar;
    void* to = scratch();
    threads_.run(p_.voxels(), grain(width_), [&](int64_t begin, int64_t end) {
      kernels_.group(planar, p_.voxels(), g.count, to, begin, end);
    });
    return to;
  }

  template <class Kernel>
  void run_rows(const WarpGroup& g, Kernel kernel) {
    threads_.run(p_.rows(), grain(p_.out[2] * width_),
                 [&](int64_t begin, int64_t end) { kernel(p_, g, begin, end); });
  }

  void add_slab(const WarpGroup& g, const std::vector<WarpRange>& ranges, int64_t i, int64_t slabs,
                void* planar) {
    const int axis = p_.slab_axis();
    const int64_t size = p_.size[axis], plane = p_.voxels() / size;
    const WarpRange slab{size * i / slabs, size * (i + 1) / slabs};
    kernels_.transpose(p_, g, ranges.empty() ? nullptr : ranges.data(), slab);
    if (planar_) return;
    kernels_.ungroup(g.sums, p_.voxels(), g.count, planar, slab.low * plane, slab.high * plane);
  }

  static int64_t grain(int64_t per_unit) {
    return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, per_unit));
  }

  WarpTables tables_;
  const WarpProblem& p_;
  const int64_t storage_, compute_;
  int width_ = 1;
  bool planar_ = true;
  WarpKernels kernels_{};
  std::unique_ptr<std::byte[]> scratch_;
  const Parallel& threads_;
};

// Nearest neighbours of all channels, copied; see WarpCopy. `bytes` per value.
inline void warp_copy(const WarpProblem& problem, const WarpCopy& copy, int bytes, bool float64,
                      const Parallel& threads) {
  const WarpTables tables(problem, float64);
  const WarpCopyKernel kernel = warp_copy_kernel(bytes, float64);
  const int64_t per_row = std::max<int64_t>(1, problem.out[2] * problem.channels);
  for (int64_t sample = 0; sample < problem.batch; ++sample) {
    threads.run(
        problem.rows(), std::max<int64_t>(1, 16384 / per_row),
        [&](int64_t begin, int64_t end) { kernel(tables.problem, copy, sample, begin, end); });
    threads.check();
  }
}

}  // namespace medkern
