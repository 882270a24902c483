// Launching the minimum barrier distance, some levels at a time, and the bottleneck distance.
#include "barrier.cuh"

namespace medkern {

namespace MEDKERN_ISA {
namespace {

template <class T>
int64_t tiles_of(const BarrierArrays<T>& a, int64_t floods) {
  return floods * tile_grid_for(a.grid, a.connectivity).per_item();
}

template <class T>
int64_t most_floods(const BarrierArrays<T>& a, const BarrierLevels<T>& levels) {
  return a.units() * std::min(levels.at_once, levels.count);
}

template <class Tile, class Front, class T>
LaunchError flood_tiles(const Front& front, const BarrierArrays<T>& a, int64_t items,
                        const TileQueue& queue, Stream stream) {
  const TileGrid g = tile_grid<Tile>(a.grid, a.connectivity);
  const unsigned blocks = visitors(items * g.per_item());
  const LaunchError cleared = clear_counts(queue, stream);
  if (!cleared.ok()) return cleared;
  MEDKERN_LAUNCH((barrier_fwd_start_kernel<Tile, Front>), blocks, kThreads, 0, stream, front, g,
                 queue, items);
  return visit_until_fixpoint(queue, stream, [&](int round) {
    MEDKERN_LAUNCH((barrier_fwd_round_kernel<Tile, Front>), blocks, kThreads, 0, stream, front, g,
                   queue, round);
    return launch_error();
  });
}

template <class Front, class T>
LaunchError flood(const Front& front, const BarrierArrays<T>& a, int64_t items,
                  const TileQueue& queue, Stream stream) {
  return is_flat(a.grid) ? flood_tiles<FlatTile>(front, a, items, queue, stream)
                         : flood_tiles<CubeTile>(front, a, items, queue, stream);
}

template <class T>
LaunchError run_barrier(const BarrierArrays<T>& a, const BarrierLevels<T>& levels, void* workspace,
                        Stream stream) {
  const int64_t count = a.units() * a.grid.count(), floods = most_floods(a, levels);
  if (!(levels.at_once >= 1) || tiles_of(a, floods) > INT32_MAX) {
    return LaunchError("levels_at_once is below 1, or so large that there are 2^31 tiles");
  }
  T* const fields = static_cast<T*>(workspace);
  T* const before = fields + floods * a.grid.count();
  const TileQueue queue = tile_queue(before + count, tiles_of(a, floods));
  for (int64_t first = 0; first < levels.count; first += levels.at_once) {
    const int64_t at_once = std::min(levels.at_once, levels.count - first);
    const BarrierFront<T> front{{a}, levels, fields, before, first, at_once};
    const LaunchError error = flood(front, a, a.units() * at_once, queue, stream);
    if (!error.ok()) return error;
    T* const keep = first + at_once < levels.count ? before : nullptr;
    MEDKERN_LAUNCH(barrier_fwd_least_kernel<T>, blocks_for(count), kThreads, 0, stream, front, keep,
                   count);
    if (const LaunchError least = launch_error(); !least.ok()) return least;
  }
  return {};
}

template <class T>
LaunchError run_bottleneck(const BarrierArrays<T>& a, void* workspace, Stream stream) {
  const int64_t count = a.units() * a.grid.count(), tiles = tiles_of(a, a.units());
  if (tiles > INT32_MAX) return LaunchError("the distances exceed 2^31 tiles");
  const TileQueue queue = tile_queue(workspace, tiles);
  const LaunchError error = flood(BottleneckFront<T>{a}, a, a.units(), queue, stream);
  if (!error.ok()) return error;
  MEDKERN_LAUNCH(barrier_fwd_finish_kernel<T>, blocks_for(count), kThreads, 0, stream, a.distance,
                 count);
  return launch_error();
}

}  // namespace
}  // namespace MEDKERN_ISA

template <class T>
int64_t barrier_workspace_bytes(const BarrierArrays<T>& a, const BarrierLevels<T>& levels) {
  using namespace MEDKERN_ISA;
  const int64_t floods = most_floods(a, levels);
  return (floods + a.units()) * a.grid.count() * static_cast<int64_t>(sizeof(T)) +
         tile_queue_bytes(tiles_of(a, floods));
}

template <class T>
int64_t bottleneck_workspace_bytes(const BarrierArrays<T>& a) {
  return MEDKERN_ISA::tile_queue_bytes(MEDKERN_ISA::tiles_of(a, a.units()));
}

template <class T>
LaunchError launch_barrier(const BarrierArrays<T>& a, const BarrierLevels<T>& levels,
                           void* workspace, Stream stream) {
  if (a.units() * a.grid.count() == 0) return {};
  return MEDKERN_ISA::run_barrier(a, levels, workspace, stream);
}

template <class T>
LaunchError launch_bottleneck(const BarrierArrays<T>& a, void* workspace, Stream stream) {
  if (a.units() * a.grid.count() == 0) return {};
  return MEDKERN_ISA::run_bottleneck(a, workspace, stream);
}

#define MEDKERN_INSTANTIATE(T)                                                                 \
  template int64_t barrier_workspace_bytes(const BarrierArrays<T>&, const BarrierLevels<T>&);  \
  template int64_t bottleneck_workspace_bytes(const BarrierArrays<T>&);                        \
  template LaunchError launch_barrier(const BarrierArrays<T>&, const BarrierLevels<T>&, void*, \
                                      Stream);                                                 \
  template LaunchError launch_bottleneck(const BarrierArrays<T>&, void*, Stream)

MEDKERN_INSTANTIATE(float);
MEDKERN_INSTANTIATE(double);

}  // namespace medkern
