// Launching the geodesic distance.
#include "geodesic.cuh"

namespace medkern {

namespace MEDKERN_ISA {
namespace {

int64_t tiles_of(const GeodesicArrays& a) {
  return a.batch * a.classes * tile_grid_for(a.grid, a.connectivity).per_item();
}

template <class Tile, class T>
LaunchError spread(const GeodesicArrays& a, void* workspace, Stream stream, unsigned* rounds) {
  const int64_t items = a.batch * a.classes, tiles = tiles_of(a), count = items * a.grid.count();
  if (tiles > INT32_MAX) return LaunchError("the distances exceed 2^31 tiles");
  const TileGrid g = tile_grid<Tile>(a.grid, a.connectivity);
  const TileQueue queue = tile_queue(workspace, tiles);
  const GeodesicFront<T> front{a};
  const LaunchError cleared = clear_counts(queue, stream);
  if (!cleared.ok()) return cleared;
  MEDKERN_LAUNCH((geodesic_fwd_start_kernel<Tile, T>), visitors(tiles), kThreads, 0, stream, front,
                 g, queue, items);
  const LaunchError error = visit_until_fixpoint(queue, stream, [&](int round) {
    MEDKERN_LAUNCH((geodesic_fwd_round_kernel<Tile, T>), visitors(tiles), kThreads, 0, stream,
                   front, g, queue, round);
    return launch_error();
  });
  if (!error.ok()) return error;
  MEDKERN_LAUNCH(geodesic_fwd_finish_kernel<T>, blocks_for(count), kThreads, 0, stream,
                 static_cast<T*>(a.distance), count);
  const LaunchError finished = launch_error();
  if (!finished.ok() || rounds == nullptr) return finished;
  return read_device(*rounds, &queue.counts[3], stream);
}

template <class T>
LaunchError solve(const GeodesicArrays& a, void* workspace, Stream stream, unsigned* rounds) {
  return is_flat(a.grid) ? spread<FlatTile, T>(a, workspace, stream, rounds)
                         : spread<CubeTile, T>(a, workspace, stream, rounds);
}

}  // namespace
}  // namespace MEDKERN_ISA

int64_t geodesic_workspace_bytes(const GeodesicArrays& a) {
  return MEDKERN_ISA::tile_queue_bytes(MEDKERN_ISA::tiles_of(a));
}

LaunchError launch_geodesic(const GeodesicArrays& a, bool float64, void* workspace, Stream stream,
                            unsigned* rounds) {
  if (a.batch * a.classes * a.grid.count() == 0) return {};
  return float64 ? MEDKERN_ISA::solve<double>(a, workspace, stream, rounds)
                 : MEDKERN_ISA::solve<float>(a, workspace, stream, rounds);
}

}  // namespace medkern
