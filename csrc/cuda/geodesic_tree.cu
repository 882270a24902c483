// Launching predecessors, trees and gradients of the geodesic distance.
#include "geodesic_tree.cuh"

namespace medkern {

namespace MEDKERN_ISA {
namespace {

int64_t parts_of(int64_t voxels) { return (voxels + kThreads - 1) / kThreads; }

template <class T>
LaunchError find_parents(const GeodesicArrays& a, int64_t* parents, void* workspace,
                         Stream stream) {
  const int64_t items = a.batch * a.classes, voxels = a.grid.count(), parts = parts_of(voxels);
  const ParentFinder<T> finder{{a}, parents, parent_queue(workspace, items * voxels)};
  unsigned* const open = &finder.queue.counts[3];
  const auto blocks = static_cast<unsigned>(items * parts);
  const LaunchError cleared = clear_device(finder.queue.counts, 4 * sizeof(unsigned), stream);
  if (!cleared.ok()) return cleared;
  MEDKERN_LAUNCH(geodesic_fwd_parents_start_kernel<T>, blocks, kThreads, 0, stream, finder, parts);
  LaunchError error = launch_error();
  if (!error.ok()) return error;
  unsigned left = 0;
  error = read_device(left, open, stream);
  if (!error.ok() || left == 0) return error;

  MEDKERN_LAUNCH(geodesic_fwd_parents_first_kernel<T>, blocks, kThreads, 0, stream, finder, parts);
  error = launch_error();
  if (!error.ok()) return error;
  error = visit_until_empty(1, finder.queue.counts, stream, [&](int round) {
    MEDKERN_LAUNCH(geodesic_fwd_parents_round_kernel<T>, blocks_for(left), kThreads, 0, stream,
                   finder, round);
    return launch_error();
  });
  if (!error.ok()) return error;
  error = read_device(left, open, stream);
  if (!error.ok() || left == 0) return error;
  return LaunchError("distance must be exact: a voxel has no tight predecessor");
}

template <class T>
LaunchError pull(const PullProblem& p, Stream stream) {
  const int64_t parts = parts_of(p.grid.count());
  if (p.batch * parts > INT32_MAX) return LaunchError("the images exceed 2^31 blocks");
  MEDKERN_LAUNCH(geodesic_bwd_pull_kernel<T>, static_cast<unsigned>(p.batch * parts), kThreads, 0,
                 stream, p, parts);
  return launch_error();
}

// Rounds of doubling after which every path has met its root.
int rounds_of(int64_t voxels) {
  int rounds = 0;
  while ((int64_t{1} << rounds) < voxels) ++rounds;
  return rounds;
}

template <class T>
LaunchError sum_subtrees(const TreeArrays& tree, const void* values, void* out, void* workspace,
                         Stream stream) {
  const int64_t count = tree.samples * tree.voxels;
  auto* const words = static_cast<int32_t*>(workspace);
  const TreeFamilies family{words, words + count, words + 2 * count};
  const LaunchError cleared = clear_device(words, 3 * count * sizeof(int32_t), stream);
  if (!cleared.ok()) return cleared;
  MEDKERN_LAUNCH(geodesic_fwd_subtrees_link_kernel<T>, blocks_for(count), kThreads, 0, stream, tree,
                 family);
  const LaunchError error = launch_error();
  if (!error.ok()) return error;
  MEDKERN_LAUNCH(geodesic_fwd_subtrees_climb_kernel<T>, blocks_for(count), kThreads, 0, stream,
                 tree, family, static_cast<const T*>(values), static_cast<T*>(out));
  return launch_error();
}

// Two buffers take turns; the last round writes the output.
template <class T>
LaunchError sum_paths(const TreeArrays& tree, const void* values, void* out, void* workspace,
                      Stream stream) {
  const int64_t count = tree.samples * tree.voxels;
  auto* const other = static_cast<T*>(workspace);
  auto* const ups = reinterpret_cast<int32_t*>(other + count);
  PathSums<T> from{static_cast<T*>(out), ups}, to{other, ups + count};
  const int rounds = rounds_of(tree.voxels);
  if (rounds % 2 != 0) std::swap(from, to);
  MEDKERN_LAUNCH(geodesic_fwd_paths_start_kernel<T>, blocks_for(count), kThreads, 0, stream, tree,
                 static_cast<const T*>(values), from);
  LaunchError error = launch_error();
  for (int round = 0; round < rounds && error.ok(); ++round) {
    MEDKERN_LAUNCH(geodesic_fwd_paths_double_kernel<T>, blocks_for(count), kThreads, 0, stream,
                   tree, from, to);
    error = launch_error();
    std::swap(from, to);
  }
  return error;
}

LaunchError find_roots(const TreeArrays& tree, void* out, void* workspace, Stream stream) {
  const int64_t count = tree.samples * tree.voxels;
  auto* const roots = static_cast<int64_t*>(out);
  auto* const moved = static_cast<unsigned*>(workspace);
  const int rounds = rounds_of(tree.voxels);
  LaunchError error = clear_device(moved, 64 * sizeof(unsigned), stream);
  if (!error.ok()) return error;
  MEDKERN_LAUNCH(geodesic_fwd_roots_start_kernel<int64_t>, blocks_for(count), kThreads, 0, stream,
                 tree, roots);
  error = launch_error();
  for (int round = 0; round < rounds && error.ok(); ++round) {
    MEDKERN_LAUNCH(geodesic_fwd_roots_jump_kernel<int64_t>, blocks_for(count), kThreads, 0, stream,
                   tree, roots, moved, round);
    error = launch_error();
  }
  return error;
}

}  // namespace
}  // namespace MEDKERN_ISA

int64_t geodesic_parents_workspace_bytes(const GeodesicArrays& a) {
  return MEDKERN_ISA::parent_queue_bytes(a.batch * a.classes * a.grid.count());
}

LaunchError launch_geodesic_parents(const GeodesicArrays& a, int64_t* parents, bool float64,
                                    void* workspace, Stream stream) {
  const int64_t count = a.batch * a.classes * a.grid.count();
  if (count == 0) return {};
  if (count >= INT32_MAX) return LaunchError("the predecessors exceed 2^31 voxels");
  return float64 ? MEDKERN_ISA::find_parents<double>(a, parents, workspace, stream)
                 : MEDKERN_ISA::find_parents<float>(a, parents, workspace, stream);
}

LaunchError launch_geodesic_pull(const PullProblem& p, bool float64, Stream stream) {
  return float64 ? MEDKERN_ISA::pull<double>(p, stream) : MEDKERN_ISA::pull<float>(p, stream);
}

int64_t tree_workspace_bytes(TreeOp op, int64_t samples, int64_t voxels, bool float64) {
  const int64_t count = samples * voxels;
  if (op == TreeOp::roots) return 64 * sizeof(unsigned);
  return count * (op == TreeOp::subtrees ? 12 : float64 ? 16 : 12);
}

LaunchError launch_trees(TreeOp op, const void* values, const int64_t* parents, void* out,
                         int64_t samples, int64_t voxels, bool float64, void* workspace,
                         Stream stream) {
  using namespace MEDKERN_ISA;
  if (voxels >= INT32_MAX) return LaunchError("a tree exceeds 2^31 voxels");
  const TreeArrays tree{parents, samples, voxels};
  if (op == TreeOp::roots) return find_roots(tree, out, workspace, stream);
  if (op == TreeOp::subtrees) {
    return float64 ? sum_subtrees<double>(tree, values, out, workspace, stream)
                   : sum_subtrees<float>(tree, values, out, workspace, stream);
  }
  return float64 ? sum_paths<double>(tree, values, out, workspace, stream)
                 : sum_paths<float>(tree, values, out, workspace, stream);
}

}  // namespace medkern
