// CUDA kernels on what the geodesic distances leave behind: predecessors, sums over the trees that
// they make, and the gradient in the image.
#pragma once

#include "core/geodesic_pull.hpp"
#include "geodesic.cuh"

namespace medkern::MEDKERN_ISA {

// The voxels of an item, or sample, that a block of kThreads takes: block `item * parts + part`.
struct BlockRun {
  int64_t item, voxel;  // voxel: this thread's, perhaps past the last one

  static MEDKERN_DEVICE_INLINE BlockRun of(int64_t parts) {
    BlockRun run;
    int64_t part;
    split(blockIdx.x, parts, run.item, part);
    run.voxel = part * kThreads + threadIdx.x;
    return run;
  }
};

// To a neighbour; the move that stays is not allowed.
struct TreeMove {
  bool allowed;
  int z, y, x;
  int64_t index;

  static MEDKERN_DEVICE_INLINE TreeMove of(const Grid& grid, int connectivity, int n) {
    const int z = n / 9 - 1, y = n / 3 % 3 - 1, x = n % 3 - 1;
    const int axes = (z != 0) + (y != 0) + (x != 0);
    return {axes > 0 && axes <= connectivity, z, y, x, (z * grid.size[1] + y) * grid.size[2] + x};
  }
};

struct VoxelPlace {
  int64_t z, y, x;

  static MEDKERN_DEVICE_INLINE VoxelPlace of(const Grid& grid, int64_t voxel) {
    VoxelPlace at;
    split(voxel, grid.size[2], at.y, at.x);
    split(at.y, grid.size[1], at.z, at.y);
    return at;
  }

  MEDKERN_DEVICE_INLINE bool can(const TreeMove& move, const Grid& grid) const {
    const auto inside = [](int64_t at, int64_t size) { return at >= 0 && at < size; };
    return inside(z + move.z, grid.size[0]) && inside(y + move.y, grid.size[1]) &&
           inside(x + move.x, grid.size[2]);
  }
};

// Predecessors. A voxel that a nearer one explains is settled at once, in round 0. The others, on
// plateaus of no cost, are settled in the rounds of a breadth-first search: round r takes the
// neighbours of what round r - 1 settled. Entry n of `settled` is the round of voxel n, written
// once, so that "settled before this round" is one comparison, whoever else writes meanwhile.
struct ParentQueue {
  int32_t* list[2];
  int32_t* settled;
  unsigned* counts;  // of round r: r % 3; entry 3: voxels that no round has settled yet
};
constexpr int32_t kUnsettled = INT32_MAX;

inline int64_t parent_queue_bytes(int64_t count) {
  return static_cast<int64_t>(4 * sizeof(unsigned)) +
         3 * count * static_cast<int64_t>(sizeof(int32_t));
}

inline ParentQueue parent_queue(void* workspace, int64_t count) {
  auto* counts = static_cast<unsigned*>(workspace);
  auto* words = reinterpret_cast<int32_t*>(counts + 4);
  return {{words, words + count}, words + 2 * count, counts};
}

template <class T>
struct ParentFinder {
  GeodesicFront<T> front;
  int64_t* parents;
  ParentQueue queue;

  // Puts the moves of an item, and their steps, into shared memory.
  MEDKERN_DEVICE_INLINE void make_moves(int64_t item, TreeMove* moves, T* steps) const {
    const int n = static_cast<int>(threadIdx.x);
    if (n < kMoves) {
      moves[n] = TreeMove::of(front.p.grid, front.p.connectivity, n);
      steps[n] = front.step(item, moves[n].z, moves[n].y, moves[n].x);
    }
    __syncthreads();
  }

  MEDKERN_DEVICE_INLINE bool walled(int64_t item, int64_t voxel) const {
    const bool* mask = front.p.mask;
    return mask != nullptr && !mask[item / front.p.classes * front.voxels() + voxel];
  }

  // The first neighbour in stencil order from which p is tight and that accept(q) takes; -1: none.
  template <class Accept>
  MEDKERN_DEVICE_INLINE int64_t tight(int64_t item, int64_t p, const TreeMove* moves,
                                      const T* steps, const Accept& accept) const {
    const T* distance = front.values(item);
    const auto place = VoxelPlace::of(front.p.grid, p);
    const auto edge = front.edge(item);
    const T d = distance[p];
    for (int n = 0; n < kMoves; ++n) {
      if (!moves[n].allowed || !place.can(moves[n], front.p.grid)) continue;
      const int64_t q = p + moves[n].index;
      const T from = distance[q];
      if (!(from <= d) || walled(item, q) || !accept(q, from)) continue;
      if (edge.weight(q, p, steps[n]) + from == d) return q;
    }
    return -1;
  }

  MEDKERN_DEVICE_INLINE void start(int64_t item, int64_t p, const TreeMove* moves,
                                   const T* steps) const {
    const T d = front.values(item)[p];
    const int64_t at = item * front.voxels() + p;
    int64_t parent = -1;
    bool open = false;
    if (d < INFINITY && !walled(item, p)) {
      parent = d == static_cast<const T*>(front.p.starts)[at]
                   ? p
                   : tight(item, p, moves, steps, [d](int64_t, T from) { return from < d; });
      open = parent < 0;
    }
    parents[at] = parent;
    queue.settled[at] = parent < 0 ? kUnsettled : 0;
    if (open) atomicAdd(&queue.counts[3], 1u);
  }

  MEDKERN_DEVICE_INLINE void append(int64_t at, int round) const {
    const unsigned end = atomicAdd(&queue.counts[round % 3], 1u);
    queue.list[round % 2][end] = static_cast<int32_t>(at);
  }

  // Whether p was settled before the round, for a voxel of this item.
  MEDKERN_DEVICE_INLINE bool is_settled(int64_t item, int64_t voxel, int round) const {
    return load_relaxed(&queue.settled[item * front.voxels() + voxel]) < round;
  }

  MEDKERN_DEVICE_INLINE void start_round(int64_t item, int64_t p, const TreeMove* moves,
                                         const T* steps) const {
    const int64_t at = item * front.voxels() + p;
    if (parents[at] >= 0 || !(front.values(item)[p] < INFINITY) || walled(item, p)) return;
    const auto settled = [&](int64_t q, T) { return is_settled(item, q, 1); };
    if (tight(item, p, moves, steps, settled) < 0) return;
    store_relaxed(&queue.settled[at], 1);
    append(at, 1);
  }

  // A voxel that is settled in this round: its parent, and the neighbours that follow.
  MEDKERN_DEVICE_INLINE void settle(int64_t at, int round) const {
    int64_t item, p;
    split(at, front.voxels(), item, p);
    const auto edge = front.edge(item);
    const T* distance = front.values(item);
    const T d = distance[p];
    const auto place = VoxelPlace::of(front.p.grid, p);
    int64_t parent = -1;
    for (int n = 0; n < kMoves; ++n) {
      const auto move = TreeMove::of(front.p.grid, front.p.connectivity, n);
      if (!move.allowed || !place.can(move, front.p.grid)) continue;
      const int64_t q = p + move.index;
      if (!(distance[q] == d) || walled(item, q)) continue;
      const T step = front.step(item, move.z, move.y, move.x);
      if (is_settled(item, q, round)) {
        if (parent < 0 && edge.weight(q, p, step) + d == d) parent = q;
      } else if (edge.weight(p, q, step) + d == d &&
                 atomicCAS(&queue.settled[item * front.voxels() + q], kUnsettled, round + 1) ==
                     kUnsettled) {
        append(item * front.voxels() + q, round + 1);
      }
    }
    parents[at] = parent;
    atomicSub(&queue.counts[3], 1u);
  }
};

template <class T>
MEDKERN_GLOBAL void geodesic_fwd_parents_start_kernel(ParentFinder<T> finder, int64_t parts) {
  MEDKERN_SHARED(TreeMove, moves, kMoves);
  MEDKERN_SHARED(T, steps, kMoves);
  const auto run = BlockRun::of(parts);
  finder.make_moves(run.item, moves, steps);
  if (run.voxel < finder.front.voxels()) finder.start(run.item, run.voxel, moves, steps);
}

template <class T>
MEDKERN_GLOBAL void geodesic_fwd_parents_first_kernel(ParentFinder<T> finder, int64_t parts) {
  MEDKERN_SHARED(TreeMove, moves, kMoves);
  MEDKERN_SHARED(T, steps, kMoves);
  const auto run = BlockRun::of(parts);
  finder.make_moves(run.item, moves, steps);
  if (run.voxel < finder.front.voxels()) finder.start_round(run.item, run.voxel, moves, steps);
}

template <class T>
MEDKERN_GLOBAL void geodesic_fwd_parents_round_kernel(ParentFinder<T> finder, int round) {
  if (blockIdx.x == 0 && threadIdx.x == 0) finder.queue.counts[(round + 2) % 3] = 0;
  const int64_t count = finder.queue.counts[round % 3];
  MEDKERN_GRID_STRIDE(i, count) finder.settle(finder.queue.list[round % 2][i], round);
}

// The gradient in the image: a thread gathers what the edges at its voxel give, class by class.
template <class T>
MEDKERN_GLOBAL void geodesic_bwd_pull_kernel(PullProblem p, int64_t parts) {
  MEDKERN_SHARED(T, steps, kMoves);
  const auto run = BlockRun::of(parts);
  const int n = static_cast<int>(threadIdx.x);
  if (n < kMoves) {
    const double length = move_length(p.spacing + 3 * run.item, n);
    steps[n] = static_cast<T>(geodesic_step(p.metric, p.lam, length));
  }
  __syncthreads();
  const int64_t voxels = p.grid.size[0] * p.grid.size[1] * p.grid.size[2], v = run.voxel;
  if (v >= voxels) return;
  const int64_t images = run.item * p.channels * voxels;
  const auto slope = EdgeSlope<T>::of(static_cast<const T*>(p.image) + images, p.channels, voxels,
                                      p.metric, p.norm, p.lam);
  T* grad = static_cast<T*>(p.grad) + images + v;
  for (int64_t c = 0; c < p.channels; ++c) grad[c * voxels] = T{0};
  const auto place = VoxelPlace::of(p.grid, v);
  for (int64_t k = 0; k < p.classes; ++k) {
    const int64_t* parents = p.parents + (run.item * p.classes + k) * voxels;
    const T* flow = static_cast<const T*>(p.flow) + (run.item * p.classes + k) * voxels;
    for (int move = 0; move < kMoves; ++move) {
      const TreeMove to = TreeMove::of(p.grid, 3, move);
      if (move == kStay) {
        const int64_t parent = parents[v];
        const int taken = parent < 0 || parent == v ? -1 : move_between(p.grid, parent, v);
        if (taken < 0) continue;
        slope.each(parent, v, steps[taken], flow[v],
                   [&](int64_t c, T, T at_p) { grad[c * voxels] += at_p; });
      } else if (place.can(to, p.grid) && parents[v + to.index] == v) {
        slope.each(v, v + to.index, steps[move], flow[v + to.index],
                   [&](int64_t c, T at_q, T) { grad[c * voxels] += at_q; });
      }
    }
  }
}

// Trees. A parent outside of the sample counts as none.
struct TreeArrays {
  const int64_t* parents;  // [samples, voxels]
  int64_t samples, voxels;

  MEDKERN_DEVICE_INLINE int64_t parent(int64_t i) const {
    const int64_t parent = parents[i];
    return parent >= 0 && parent < voxels ? parent : -1;
  }
};

// Every voxel's children as a list, in no order: one more than the first child and than the next
// sibling, 0 for none; and how many children are still to come.
struct TreeFamilies {
  int32_t *child, *sibling, *waiting;
};

template <class T>
MEDKERN_GLOBAL void geodesic_fwd_subtrees_link_kernel(TreeArrays tree, TreeFamilies family) {
  MEDKERN_GRID_STRIDE(i, tree.samples * tree.voxels) {
    int64_t sample, p;
    split(i, tree.voxels, sample, p);
    const int64_t parent = tree.parent(i);
    if (parent < 0 || parent == p) continue;
    const int64_t above = sample * tree.voxels + parent;
    family.sibling[i] = atomicExch(&family.child[above], static_cast<int32_t>(p + 1));
    atomicAdd(&family.waiting[above], 1);
  }
}

// The value of voxel i of the sample at `base` plus its children's sums, by ascending index.
template <class T>
MEDKERN_DEVICE_INLINE T family_sum(const TreeFamilies& family, const T* values, const T* sums,
                                   int64_t base, int64_t i) {
  T sum = values[i];
  for (int32_t last = 0;;) {
    int32_t next = INT32_MAX;
    for (int32_t child = family.child[i]; child != 0;) {
      if (child > last && child < next) next = child;
      child = family.sibling[base + child - 1];
    }
    if (next == INT32_MAX) return sum;
    sum += load_relaxed(&sums[base + next - 1]);
    last = next;
  }
}

// A thread starts at a leaf and climbs; at every voxel all but the last of those who come up stop.
template <class T>
MEDKERN_GLOBAL void geodesic_fwd_subtrees_climb_kernel(TreeArrays tree, TreeFamilies family,
                                                       const T* values, T* sums) {
  MEDKERN_GRID_STRIDE(i, tree.samples * tree.voxels) {
    if (tree.parent(i) < 0) sums[i] = T{0};
    if (tree.parent(i) < 0 || family.child[i] != 0) continue;
    int64_t sample, p;
    split(i, tree.voxels, sample, p);
    const int64_t base = sample * tree.voxels;
    for (int64_t at = i;;) {
      store_relaxed(&sums[at], family_sum(family, values, sums, base, at));
      const int64_t parent = tree.parent(at);
      if (parent < 0 || base + parent == at) break;
      at = base + parent;
      __threadfence();
      if (atomicSub(&family.waiting[at], 1) != 1) break;
      __threadfence();
    }
  }
}

// Pointer jumping. After round r, out(p) is 2^r steps up, or the root.
template <class T>
MEDKERN_GLOBAL void geodesic_fwd_roots_start_kernel(TreeArrays tree, T* out) {
  MEDKERN_GRID_STRIDE(i, tree.samples * tree.voxels) out[i] = tree.parent(i);
}

// In place: who has jumped further already takes others further too.
template <class T>
MEDKERN_GLOBAL void geodesic_fwd_roots_jump_kernel(TreeArrays tree, T* out, unsigned* moved,
                                                   int round) {
  if (round > 0 && moved[round - 1] == 0) return;
  bool any = false;
  MEDKERN_GRID_STRIDE(i, tree.samples * tree.voxels) {
    const int64_t above = load_relaxed(&out[i]);
    if (above < 0) continue;
    const int64_t further = load_relaxed(&out[i - i % tree.voxels + above]);
    if (further == above) continue;
    store_relaxed(&out[i], further);
    any = true;
  }
  if (any) atomicOr(&moved[round], 1u);
}

// Sums over the end of every path, and the voxel before that end (-1: none is left). Its length
// doubles every round.
template <class T>
struct PathSums {
  T* sum;
  int32_t* up;
};

template <class T>
MEDKERN_GLOBAL void geodesic_fwd_paths_start_kernel(TreeArrays tree, const T* values,
                                                    PathSums<T> to) {
  MEDKERN_GRID_STRIDE(i, tree.samples * tree.voxels) {
    const int64_t parent = tree.parent(i);
    to.sum[i] = parent < 0 ? T{0} : values[i];
    to.up[i] = parent == i % tree.voxels ? -1 : static_cast<int32_t>(parent);
  }
}

template <class T>
MEDKERN_GLOBAL void geodesic_fwd_paths_double_kernel(TreeArrays tree, PathSums<T> from,
                                                     PathSums<T> to) {
  MEDKERN_GRID_STRIDE(i, tree.samples * tree.voxels) {
    const int32_t up = from.up[i];
    const int64_t above = i - i % tree.voxels + up;
    to.sum[i] = up < 0 ? from.sum[i] : from.sum[above] + from.sum[i];
    to.up[i] = up < 0 ? -1 : from.up[above];
  }
}

}  // namespace medkern::MEDKERN_ISA
