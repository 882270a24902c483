// Fixpoints on grids: values spread from voxel to neighbour until no offer improves any, with
// only those tiles visited that an offer from outside may improve.
//
// A block takes a tile and its margin into shared memory, spreads there until nothing changes,
// writes back, and queues for the next round the tiles that one of its changed voxels improves.
// Rounds are launches; the list of tiles stays on the device, and the host looks at its length
// only after 1, 2, 4, 8 and then every kMostRoundsPerRead rounds.
//
// Margins are read while their tiles may be writing. That is harmless: offers are monotone in the
// value they start from and never below it, so the fixpoint under the initial values is unique and
// every order of updates that misses none ends in its bits. None is missed, as whoever lowers a
// voxel queues the tiles to which that matters, for a round that starts after the write.
//
// A Front says what spreads:
//   using Value              float or double; inf: not reached; NaN: a wall, or outside of the grid
//   Value* values(item)         the field of an item, [D, H, W]; items are independent
//   Value start(item, voxel)    what it starts from
//   bool stirs(item, voxel, start)   whether a voxel of that start may improve or be improved at
//   once Value step(item, z, y, x)   of a move by one voxel along these axes Item item(item) whose
//   Value offer(value, from, to, step) is what a voxel with that
//                               value offers to its neighbour
#pragma once

#include <algorithm>
#include <cmath>

#include "core/grid.hpp"
#include "grid_stride.cuh"

namespace medkern::MEDKERN_ISA {

template <int Depth, int Height, int Width>
struct Tile {
  static constexpr int depth = Depth, height = Height, width = Width;
  static constexpr int voxels = depth * height * width;
  static constexpr int margin = depth > 1;  // along D; along H and W it is 1
  static constexpr int cached_height = height + 2, cached_width = width + 2;
  static constexpr int cached = (depth + 2 * margin) * cached_height * cached_width;
  // Moves are numbered 9 (z + 1) + 3 (y + 1) + (x + 1); a flat tile has those with z = 0.
  static constexpr int first_move = margin ? 0 : 9, last_move = margin ? 27 : 18;
};
using FlatTile = Tile<1, 32, 32>;
using CubeTile = Tile<8, 8, 8>;
constexpr int kStay = 13;  // the move that is none

struct TileGrid {
  Grid grid;
  int connectivity;
  int64_t tiles[3];

  MEDKERN_HD int64_t per_item() const { return tiles[0] * tiles[1] * tiles[2]; }
};

template <class Tile>
TileGrid tile_grid(const Grid& grid, int connectivity) {
  const auto tiles = [](int64_t size, int tile) { return (size + tile - 1) / tile; };
  return {grid,
          connectivity,
          {tiles(grid.size[0], Tile::depth), tiles(grid.size[1], Tile::height),
           tiles(grid.size[2], Tile::width)}};
}

inline bool is_flat(const Grid& grid) { return grid.size[0] == 1; }

inline TileGrid tile_grid_for(const Grid& grid, int connectivity) {
  return is_flat(grid) ? tile_grid<FlatTile>(grid, connectivity)
                       : tile_grid<CubeTile>(grid, connectivity);
}

// The tiles to visit. Entry n of `queued` is the last round that tile n was queued for, so that it
// enters a list once. Round r reads list r % 2, fills the other, and clears the counter after that.
struct TileQueue {
  int32_t* list[2];
  int32_t* queued;
  unsigned* counts;  // of round r: r % 3; entry 3: rounds that had tiles to visit
};

inline int64_t tile_queue_bytes(int64_t tiles) {
  return static_cast<int64_t>(4 * sizeof(unsigned)) +
         3 * tiles * static_cast<int64_t>(sizeof(int32_t));
}

inline TileQueue tile_queue(void* workspace, int64_t tiles) {
  auto* counts = static_cast<unsigned*>(workspace);
  auto* words = reinterpret_cast<int32_t*>(counts + 4);
  return {{words, words + tiles}, words + 2 * tiles, counts};
}

inline LaunchError clear_counts(const TileQueue& queue, Stream stream) {
  return clear_device(queue.counts, 4 * sizeof(unsigned), stream);
}

MEDKERN_DEVICE_INLINE void append(const TileQueue& queue, int64_t tile, int round) {
  queue.list[round % 2][atomicAdd(&queue.counts[round % 3], 1u)] = static_cast<int32_t>(tile);
}

MEDKERN_DEVICE_INLINE void enqueue(const TileQueue& queue, int64_t tile, int round) {
  if (atomicMax(&queue.queued[tile], round) < round) append(queue, tile, round);
}

// Where a tile is.
struct TilePlace {
  int64_t item, tile[3], origin[3];

  template <class Tile>
  static MEDKERN_DEVICE_INLINE TilePlace of(const TileGrid& g, int64_t index) {
    TilePlace p;
    split(index, g.tiles[2], index, p.tile[2]);
    split(index, g.tiles[1], index, p.tile[1]);
    split(index, g.tiles[0], p.item, p.tile[0]);
    p.origin[0] = p.tile[0] * Tile::depth;
    p.origin[1] = p.tile[1] * Tile::height;
    p.origin[2] = p.tile[2] * Tile::width;
    return p;
  }
};

// A voxel of a tile: where it is in the tile, in its cache and in the grid.
struct TileVoxel {
  int z, y, x, cached;
  int64_t index;
  bool inside;  // of the grid

  template <class Tile>
  static MEDKERN_DEVICE_INLINE TileVoxel of(const TileGrid& g, const TilePlace& p, int z, int y,
                                            int x) {
    const int64_t at[3] = {p.origin[0] + z, p.origin[1] + y, p.origin[2] + x};
    const int cached =
        ((z + Tile::margin) * Tile::cached_height + y + 1) * Tile::cached_width + x + 1;
    bool inside = true;
    for (int axis = 0; axis < 3; ++axis) {
      inside = inside && at[axis] >= 0 && at[axis] < g.grid.size[axis];
    }
    return {z, y, x, cached, (at[0] * g.grid.size[1] + at[1]) * g.grid.size[2] + at[2], inside};
  }

  template <class Tile>
  static MEDKERN_DEVICE_INLINE TileVoxel own(const TileGrid& g, const TilePlace& p, int i) {
    return of<Tile>(g, p, i / (Tile::height * Tile::width), i / Tile::width % Tile::height,
                    i % Tile::width);
  }

  template <class Tile>
  static MEDKERN_DEVICE_INLINE TileVoxel any(const TileGrid& g, const TilePlace& p, int i) {
    return of<Tile>(g, p, i / (Tile::cached_height * Tile::cached_width) - Tile::margin,
                    i / Tile::cached_width % Tile::cached_height - 1, i % Tile::cached_width - 1);
  }
};

template <class Value>
struct Move {
  bool allowed;
  int z, y, x, cached;
  int64_t index;
  Value step;
};

// Thread n makes move n.
template <class Tile, class Front>
MEDKERN_DEVICE_INLINE void make_move(const Front& front, const TileGrid& g, int64_t item,
                                     Move<typename Front::Value>* moves) {
  const int n = static_cast<int>(threadIdx.x);
  if (n < Tile::first_move || n >= Tile::last_move) return;
  const int z = n / 9 - 1, y = n / 3 % 3 - 1, x = n % 3 - 1;
  const int axes = (z != 0) + (y != 0) + (x != 0);
  moves[n] = {axes > 0 && axes <= g.connectivity,
              z,
              y,
              x,
              (z * Tile::cached_height + y) * Tile::cached_width + x,
              (z * g.grid.size[1] + y) * g.grid.size[2] + x,
              front.step(item, z, y, x)};
}

// Lowers the thread's voxels of the cache by the offers of their neighbours; whether any was.
template <class Tile, class Item, class Value>
MEDKERN_DEVICE_INLINE bool relax_tile(const Item& item, const TileGrid& g, const TilePlace& place,
                                      const Move<Value>* moves, Value* cache) {
  bool changed = false;
  for (int i = static_cast<int>(threadIdx.x); i < Tile::voxels; i += kThreads) {
    const auto to = TileVoxel::own<Tile>(g, place, i);
    const Value before = load_relaxed(&cache[to.cached]);
    Value best = before;
    for (int n = Tile::first_move; n < Tile::last_move; ++n) {
      const Move<Value>& move = moves[n];
      if (!move.allowed) continue;
      const Value value = load_relaxed(&cache[to.cached - move.cached]);
      if (!(value < best)) continue;  // offers are never below; nor does NaN take or make any
      const Value offered = item.offer(value, to.index - move.index, to.index, move.step);
      if (offered < best) best = offered;
    }
    if (!(best < before)) continue;
    store_relaxed(&cache[to.cached], best);
    changed = true;
  }
  return changed;
}

// The tiles around, as bits numbered like moves, that voxel `from` of the cache can improve.
template <class Tile, class Item, class Value>
MEDKERN_DEVICE_INLINE unsigned improved_tiles(const Item& item, const TileVoxel& from,
                                              const Move<Value>* moves, const Value* cache) {
  unsigned tiles = 0;
  const auto side = [](int at, int size) { return (at >= size) - (at < 0); };
  for (int n = Tile::first_move; n < Tile::last_move; ++n) {
    const Move<Value>& move = moves[n];
    const int tile = kStay + 9 * side(from.z + move.z, Tile::depth) +
                     3 * side(from.y + move.y, Tile::height) + side(from.x + move.x, Tile::width);
    if (tile == kStay || !move.allowed) continue;
    const Value value = cache[from.cached], there = cache[from.cached + move.cached];
    if (!(value < there)) continue;
    if (item.offer(value, from.index, from.index + move.index, move.step) < there) {
      tiles |= 1u << tile;
    }
  }
  return tiles;
}

// One tile, with its margin, to its fixpoint. Every thread of the block calls it.
template <class Tile, class Front>
MEDKERN_DEVICE_INLINE void visit_tile(const Front& front, const TileGrid& g, const TileQueue& queue,
                                      int64_t index, int round) {
  using Value = typename Front::Value;
  MEDKERN_SHARED(Value, cache, Tile::cached);
  MEDKERN_SHARED(Move<Value>, moves, 27);
  MEDKERN_SHARED(unsigned, improved, 1);
  const auto place = TilePlace::of<Tile>(g, index);
  const auto item = front.item(place.item);
  Value* const values = front.values(place.item);
  const int first = static_cast<int>(threadIdx.x);

  make_move<Tile>(front, g, place.item, moves);
  if (first == 0) improved[0] = 0;
  for (int i = first; i < Tile::cached; i += kThreads) {
    const auto voxel = TileVoxel::any<Tile>(g, place, i);
    cache[i] = voxel.inside ? load_relaxed(&values[voxel.index]) : static_cast<Value>(NAN);
  }
  __syncthreads();
  while (__syncthreads_or(relax_tile<Tile>(item, g, place, moves, cache))) {
  }
  for (int i = first; i < Tile::voxels; i += kThreads) {
    const auto voxel = TileVoxel::own<Tile>(g, place, i);
    const Value value = cache[voxel.cached];
    // In the first round the tiles around know of nothing here.
    if (!voxel.inside || !(value < (round == 0 ? INFINITY : values[voxel.index]))) continue;
    store_relaxed(&values[voxel.index], value);
    const unsigned tiles = improved_tiles<Tile>(item, voxel, moves, cache);
    if (tiles != 0) atomicOr(&improved[0], tiles);
  }
  __syncthreads();
  if (first < 27 && (improved[0] >> first & 1) != 0) {
    const int64_t tile[3] = {place.tile[0] + first / 9 - 1, place.tile[1] + first / 3 % 3 - 1,
                             place.tile[2] + first % 3 - 1};
    const int64_t row = (place.item * g.tiles[0] + tile[0]) * g.tiles[1] + tile[1];
    enqueue(queue, row * g.tiles[2] + tile[2], round + 1);
  }
  __syncthreads();  // before the next tile takes the shared memory
}

template <class Tile, class Front>
MEDKERN_DEVICE_INLINE void visit_queued_tiles(const Front& front, const TileGrid& g,
                                              const TileQueue& queue, int round) {
  const unsigned count = queue.counts[round % 3];
  if (blockIdx.x == 0 && threadIdx.x == 0) {
    queue.counts[(round + 2) % 3] = 0;
    if (count > 0) queue.counts[3] = static_cast<unsigned>(round) + 1;
  }
  for (unsigned i = blockIdx.x; i < count; i += gridDim.x) {
    visit_tile<Tile>(front, g, queue, queue.list[round % 2][i], round);
  }
}

// Writes start(item, voxel) into every field, and queues the tiles that have something to do.
template <class Tile, class Front>
MEDKERN_DEVICE_INLINE void start_tiles(const Front& front, const TileGrid& g,
                                       const TileQueue& queue, int64_t items) {
  for (int64_t index = blockIdx.x; index < items * g.per_item(); index += gridDim.x) {
    const auto place = TilePlace::of<Tile>(g, index);
    bool starts = false;
    for (int i = static_cast<int>(threadIdx.x); i < Tile::voxels; i += kThreads) {
      const auto voxel = TileVoxel::own<Tile>(g, place, i);
      if (!voxel.inside) continue;
      const auto value = front.start(place.item, voxel.index);
      front.values(place.item)[voxel.index] = value;
      starts = starts || front.stirs(place.item, voxel.index, value);
    }
    starts = __syncthreads_or(starts);
    if (threadIdx.x != 0) continue;
    queue.queued[index] = starts ? 0 : -1;
    if (starts) append(queue, index, 0);
  }
}

constexpr int kMostRoundsPerRead = 16;
// Blocks; each visits every so-manieth tile of the list. Few under emulation, where tests are
// small.
#if defined(MEDKERN_EMULATED)
constexpr int64_t kMostVisitors = 3;
#else
constexpr int64_t kMostVisitors = 4096;
#endif

inline unsigned visitors(int64_t tiles) {
  return static_cast<unsigned>(std::min(tiles, kMostVisitors));
}

// visit(round) launches one round, from round `first` on, until counts[round % 3] says that a round
// has left nothing to visit.
template <class Visit>
LaunchError visit_until_empty(int first, const unsigned* counts, Stream stream,
                              const Visit& visit) {
  for (int round = first, rounds = 1;; rounds = std::min(2 * rounds, kMostRoundsPerRead)) {
    for (const int end = round + rounds; round < end; ++round) {
      if (const LaunchError error = visit(round); !error.ok()) return error;
    }
    unsigned left = 0;
    const LaunchError error = read_device(left, &counts[round % 3], stream);
    if (!error.ok() || left == 0) return error;
  }
}

template <class Visit>
LaunchError visit_until_fixpoint(const TileQueue& queue, Stream stream, const Visit& visit) {
  return visit_until_empty(0, queue.counts, stream, visit);
}

}  // namespace medkern::MEDKERN_ISA
