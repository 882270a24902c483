// Launching the minimum barrier distance: some levels at a time.
#include "barrier.cuh"

namespace medkern {

namespace MEDKERN_ISA {
namespace {

template <class T>
int64_t most_items(const BarrierArrays<T>& a) {
  return a.batch * a.sets * std::min(a.levels_at_once, a.level_count);
}

template <class T>
int64_t most_tiles(const BarrierArrays<T>& a) {
  return most_items(a) * tile_grid_for(a.grid, a.connectivity).per_item();
}

template <class Tile, class T>
LaunchError flood(const BarrierFront<T>& front, const TileQueue& queue, Stream stream) {
  const TileGrid g = tile_grid<Tile>(front.a.grid, front.a.connectivity);
  const int64_t items = front.a.batch * front.a.sets * front.at_once;
  const unsigned blocks = visitors(items * g.per_item());
  const LaunchError cleared = clear_counts(queue, stream);
  if (!cleared.ok()) return cleared;
  MEDKERN_LAUNCH((barrier_fwd_start_kernel<Tile, T>), blocks, kThreads, 0, stream, front, g, queue,
                 items);
  return visit_until_fixpoint(queue, stream, [&](int round) {
    MEDKERN_LAUNCH((barrier_fwd_round_kernel<Tile, T>), blocks, kThreads, 0, stream, front, g,
                   queue, round);
    return launch_error();
  });
}

template <class T>
LaunchError run(const BarrierArrays<T>& a, void* workspace, Stream stream) {
  const int64_t count = a.batch * a.sets * a.grid.count(), tiles = most_tiles(a);
  if (count == 0) return {};
  const int64_t levels = a.levels_at_once;  // GCC takes `a.levels_at_once <` for a template
  if (levels < 1 || tiles > INT32_MAX) {
    return LaunchError("levels_at_once is below 1, or so large that there are 2^31 tiles");
  }
  T* const floods = static_cast<T*>(workspace);
  const TileQueue queue = tile_queue(floods + most_items(a) * a.grid.count(), tiles);
  for (int64_t first = 0; first < a.level_count; first += a.levels_at_once) {
    const int64_t at_once = std::min(a.levels_at_once, a.level_count - first);
    const BarrierFront<T> front{a, floods, first, at_once};
    const LaunchError error = is_flat(a.grid) ? flood<FlatTile>(front, queue, stream)
                                              : flood<CubeTile>(front, queue, stream);
    if (!error.ok()) return error;
    MEDKERN_LAUNCH(barrier_fwd_least_kernel<T>, blocks_for(count), kThreads, 0, stream, front);
    if (const LaunchError least = launch_error(); !least.ok()) return least;
  }
  return {};
}

}  // namespace
}  // namespace MEDKERN_ISA

template <class T>
int64_t barrier_workspace_bytes(const BarrierArrays<T>& a) {
  using namespace MEDKERN_ISA;
  return most_items(a) * a.grid.count() * static_cast<int64_t>(sizeof(T)) +
         tile_queue_bytes(most_tiles(a));
}

template int64_t barrier_workspace_bytes(const BarrierArrays<float>&);
template int64_t barrier_workspace_bytes(const BarrierArrays<double>&);

LaunchError launch_barrier(const BarrierArrays<float>& a, void* workspace, Stream stream) {
  return MEDKERN_ISA::run(a, workspace, stream);
}

LaunchError launch_barrier(const BarrierArrays<double>& a, void* workspace, Stream stream) {
  return MEDKERN_ISA::run(a, workspace, stream);
}

}  // namespace medkern
