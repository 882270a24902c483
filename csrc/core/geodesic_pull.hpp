// The gradient of geodesic distances in the image, from what flows through every voxel to its root.
#pragma once

#include <algorithm>
#include <atomic>
#include <stdexcept>

#include "common/parallel.hpp"
#include "geodesic_slope.hpp"

namespace medkern {

// flow, parents: [batch, classes, D, H, W]; image, grad: [batch, channels, D, H, W]; spacing:
// [batch, 3]. Every parent is a neighbour, the voxel itself, or -1.
struct PullProblem {
  int64_t batch = 0, channels = 0, classes = 0;
  Grid grid;
  GeodesicMetric metric = GeodesicMetric::l1;
  ChannelNorm norm = ChannelNorm::l1;
  double lam = 0;
  const void* flow = nullptr;
  const int64_t* parents = nullptr;
  const void* image = nullptr;
  const double* spacing = nullptr;
  void* grad = nullptr;
};

// A slab of a sample's grid: planes of a volume, rows of a picture. It adds up what its own voxels
// get, also from the edges that cross its border, in an order that does not depend on the slabs.
template <class T>
class PullSlab {
 public:
  PullSlab(const PullProblem& p, int64_t sample, int64_t first, int64_t last, int64_t reach)
      : p_(p),
        voxels_(p.grid.count()),
        first_(first),
        last_(last),
        from_(std::max<int64_t>(first - reach, 0)),
        to_(std::min(last + reach, voxels_)),
        slope_(EdgeSlope<T>::of(static_cast<const T*>(p.image) + sample * p.channels * voxels_,
                                p.channels, voxels_, p.metric, p.norm, p.lam)),
        sample_(sample),
        grad_(static_cast<T*>(p.grad) + sample * p.channels * voxels_) {
    for (int move = 0; move < kMoves; ++move) {
      const double length = move_length(p.spacing + 3 * sample, move);
      step_[move] = static_cast<T>(geodesic_step(p.metric, p.lam, length));
    }
  }

  // False: a parent is no neighbour.
  bool run() const {
    for (int64_t c = 0; c < p_.channels; ++c) {
      std::fill(grad_ + c * voxels_ + first_, grad_ + c * voxels_ + last_, T{0});
    }
    for (int64_t k = 0; k < p_.classes; ++k) {
      const int64_t at = (sample_ * p_.classes + k) * voxels_;
      if (!pull(p_.parents + at, static_cast<const T*>(p_.flow) + at)) return false;
    }
    return true;
  }

 private:
  bool pull(const int64_t* parents, const T* flow) const {
    for (int64_t p = from_; p < to_; ++p) {
      const int64_t q = parents[p];
      if (q < 0 || q == p) continue;
      const bool own_p = p >= first_ && p < last_, own_q = q >= first_ && q < last_;
      if (!own_p && !own_q) continue;
      const int move = move_between(p_.grid, q, p);
      if (move < 0) return false;
      slope_.each(q, p, step_[move], flow[p], [&](int64_t c, T at_q, T at_p) {
        if (own_q) grad_[c * voxels_ + q] += at_q;
        if (own_p) grad_[c * voxels_ + p] += at_p;
      });
    }
    return true;
  }

  const PullProblem& p_;
  const int64_t voxels_, first_, last_, from_, to_;
  const EdgeSlope<T> slope_;
  const int64_t sample_;
  T* const grad_;
  T step_[kMoves];
};

// Fills p.grad; the same bits for any number of threads. Throws std::invalid_argument where a
// parent is no neighbour.
template <class T>
void geodesic_pull(const PullProblem& p, const Parallel& parallel) {
  const bool picture = p.grid.size[0] == 1;
  const int64_t plane = p.grid.size[1] * p.grid.size[2];
  const int64_t thick = picture ? p.grid.size[2] : plane,
                layers = picture ? p.grid.size[1] : p.grid.size[0];
  // Borders are visited twice: slabs are not thin.
  const int64_t per_slab = std::max<int64_t>((int64_t{1} << 15) / thick, 8);
  const int64_t slabs = (layers + per_slab - 1) / per_slab;
  std::atomic<bool> valid{true};
  parallel.run(p.batch * slabs, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i % slabs * per_slab, last = std::min(first + per_slab, layers);
      const PullSlab<T> slab(p, i / slabs, first * thick, last * thick, thick);
      if (!slab.run()) valid = false;
    }
  });
  parallel.check();
  if (!valid) throw std::invalid_argument("parents must be neighbours of their voxels");
}

}  // namespace medkern
