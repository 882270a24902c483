// Shortest paths by bucket queues, one per tile of the grid.
//
// Every tile has a block of its own and one owner at a time. Distances rise in bands: all tiles
// with entries below the band's end drain them in rounds, in parallel. A tile's halo holds the best
// it has offered to its neighbours; entries of halo voxels, when their turn comes, go to an outbox
// that the neighbour reads in the next round. There is one barrier a round and no shared write.
// A grid of one tile is the plain bucket queue.
#pragma once

#include <cstring>

#include "geodesic_block.hpp"
#include "geodesic_queue.hpp"
#include "geodesic_workers.hpp"

namespace medkern::MEDKERN_ISA {

template <class T>
class Outbox {
 public:
  void clear() { size_ = 0; }
  bool empty() const { return size_ == 0; }
  const Entry<T>* begin() const { return entries_; }
  const Entry<T>* end() const { return entries_ + size_; }

  Outbox() = default;
  Outbox(const Outbox&) = delete;
  Outbox& operator=(const Outbox&) = delete;
  ~Outbox() { delete[] entries_; }

  void push(Entry<T> entry) {
    if (size_ == capacity_) grow();
    entries_[size_++] = entry;
  }

 private:
  void grow() {
    const int64_t capacity = capacity_ ? 2 * capacity_ : 32;
    Entry<T>* const wider = new Entry<T>[static_cast<size_t>(capacity)];
    std::copy_n(entries_, size_, wider);
    delete[] entries_;
    entries_ = wider;
    capacity_ = capacity;
  }

  Entry<T>* entries_ = nullptr;
  int64_t size_ = 0, capacity_ = 0;
};

constexpr int kDirections = 27;  // (dz + 1) * 9 + (dy + 1) * 3 + dx + 1
constexpr int kHere = 13;

template <class T>
struct Tile : Block<T> {
  BucketQueue<T> queue;
  Outbox<T> outbox[2][kDirections];  // of even and odd rounds: one is filled, the other one read
  const Outbox<T>* inbox[kDirections] = {};
  int64_t next = BucketQueue<T>::kEmpty;  // the smallest key
  bool queued = false;                    // for the coming round
};

template <class Edge, int Rows>
class TileSolver {
 public:
  using T = typename Edge::Value;

  TileSolver(const Edge& edge, const Stencil<T, Rows>& stencil, const BlockShape& shape,
             const BucketScale<T>& scale, int64_t band, const GeodesicItem<T>& item,
             const Workers& workers)
      : edge_(edge),
        stencil_(stencil),
        shape_(shape),
        scale_(scale),
        band_(band),
        item_(item),
        workers_(workers) {
    count_ = 1;
    for (int a = 0; a < 3; ++a) {
      tiles_[a] = (item.grid.size[a] + shape.size[a] - 1) / shape.size[a];
      count_ *= tiles_[a];
    }
  }

  // Returns the number of rounds.
  int64_t run() {
    const Array<T> memory(count_ * block_words());
    const Array<Tile<T>> tiles(count_);
    const Array<uint8_t> directions(count_ > 1 ? shape_.count : 0);
    memory_ = memory.get();
    tile_ = tiles.get();
    if (count_ > 1) {
      fill_directions(directions.get());
      direction_ = directions.get();
    }
    workers_.each(count_, [&](int64_t t) { load(t); });
    const int64_t rounds = run_bands();
    workers_.each(count_, [&](int64_t t) { tile_[t].store(shape_, item_); });
    return rounds;
  }

 private:
  int64_t block_words() const { return (1 + item_.channels) * shape_.count; }

  void load(int64_t t) {
    Tile<T>& tile = tile_[t];
    tile.distance = memory_ + t * block_words();
    tile.image = tile.distance + shape_.count;
    tile.origin[0] = t / (tiles_[2] * tiles_[1]) * shape_.size[0];
    tile.origin[1] = t / tiles_[2] % tiles_[1] * shape_.size[1];
    tile.origin[2] = t % tiles_[2] * shape_.size[2];
    tile.load(shape_, item_);
    tile.place_seeds(shape_, item_, [&](int64_t voxel, T start) { insert(tile, voxel, start); });
    tile.next = tile.queue.first();
  }

  void insert(Tile<T>& tile, int64_t voxel, T distance) {
    tile.queue.insert(scale_.key(distance), {distance, static_cast<uint32_t>(voxel)});
  }

  // Which tile, seen from its own, a voxel of a block belongs to.
  void fill_directions(uint8_t* direction) const {
    const auto side = [](int64_t at, int64_t size) { return at < 0 ? 0 : at < size ? 1 : 2; };
    direction[shape_.count - 1] = kHere;
    for (int64_t z = -shape_.halo_z; z < shape_.size[0] + shape_.halo_z; ++z) {
      for (int64_t y = -1; y <= shape_.size[1]; ++y) {
        for (int64_t x = -1; x <= shape_.size[2]; ++x) {
          direction[shape_.index(z, y, x)] = static_cast<uint8_t>(
              9 * side(z, shape_.size[0]) + 3 * side(y, shape_.size[1]) + side(x, shape_.size[2]));
        }
      }
    }
  }

  struct Step {
    int64_t tile;   // in the array of tiles
    int64_t voxel;  // from a voxel's index in a block to its index in that tile's block
  };
  Step step_to(int direction) const {
    const int64_t dz = direction / 9 - 1, dy = direction / 3 % 3 - 1, dx = direction % 3 - 1;
    return {(dz * tiles_[1] + dy) * tiles_[2] + dx,
            -(dz * shape_.size[0] * shape_.plane + dy * shape_.size[1] * shape_.pitch +
              dx * shape_.size[2])};
  }

  int64_t run_bands() {
    const Array<int64_t> active(count_), receivers(count_);
    int64_t rounds = 0;
    while (workers_.stop().keep_going()) {
      int64_t low = BucketQueue<T>::kEmpty;
      for (int64_t t = 0; t < count_; ++t) low = std::min(low, tile_[t].next);
      if (low == BucketQueue<T>::kEmpty) break;
      const int64_t high = low + band_;
      int64_t n = 0;
      for (int64_t t = 0; t < count_; ++t) {
        if (tile_[t].next < high) active[n++] = t;
      }
      for (; n > 0 && workers_.stop().keep_going(); ++rounds) {
        workers_.each(n, [&](int64_t i) { run_tile(tile_[active[i]], low, high, rounds % 2); });
        n = deliver(active.get(), n, rounds % 2, receivers.get());
        std::copy_n(receivers.get(), n, active.get());
      }
    }
    return rounds;
  }

  void run_tile(Tile<T>& tile, int64_t low, int64_t high, int parity) {
    tile.queue.open(low, high, scale_);
    for (int d = 0; d < kDirections && direction_; ++d) {
      tile.outbox[parity][d].clear();
      read_inbox(tile, d);
    }
    int64_t generations = 0;
    tile.queue.drain(
        high, [&](Entry<T> entry) { settle(tile, entry, parity); },
        [&] { return ++generations % 128 || workers_.stop().keep_going(); });
    tile.next = tile.queue.first();
  }

  void read_inbox(Tile<T>& tile, int direction) {
    if (!tile.inbox[direction]) return;
    for (const Entry<T>& offer : *tile.inbox[direction]) {
      if (!(offer.distance < tile.distance[offer.voxel])) continue;
      tile.distance[offer.voxel] = offer.distance;
      insert(tile, offer.voxel, offer.distance);
    }
    tile.inbox[direction] = nullptr;
  }

  // Hands the outboxes of a round to their receivers; returns how many tiles have mail.
  int64_t deliver(const int64_t* senders, int64_t n, int parity, int64_t* receivers) {
    int64_t found = 0;
    for (int64_t i = 0; i < n && direction_; ++i) {
      for (int d = 0; d < kDirections; ++d) {
        const Outbox<T>& box = tile_[senders[i]].outbox[parity][d];
        if (box.empty()) continue;
        const int64_t to = senders[i] + step_to(d).tile;
        tile_[to].inbox[d] = &box;
        if (!tile_[to].queued) receivers[found++] = to;
        tile_[to].queued = true;
      }
    }
    for (int64_t i = 0; i < found; ++i) tile_[receivers[i]].queued = false;
    return found;
  }

  MEDKERN_INLINE void settle(Tile<T>& tile, Entry<T> entry, int parity) {
    if (entry.distance > tile.distance[entry.voxel]) return;  // improved since
    if (direction_ && direction_[entry.voxel] != kHere) {
      const int d = direction_[entry.voxel];
      entry.voxel += static_cast<uint32_t>(step_to(d).voxel);
      tile.outbox[parity][d].push(entry);
      return;
    }
    relax(tile, entry);
  }

  // Offers paths through a voxel to its neighbours, a row of them at a time. Few offers succeed,
  // so that all are compared first, and one loop takes the successes.
  MEDKERN_INLINE void relax(Tile<T>& tile, Entry<T> entry) {
    const int64_t channels = Edge::one_channel ? 1 : item_.channels;
    T* const distance = tile.distance + entry.voxel;
    const T* const image = tile.image + entry.voxel;
    const auto from = [&](int64_t c) { return Quad<T>{} + image[c * shape_.count]; };
    alignas(64) T offers[4 * Rows];
    uint64_t better = 0;
    for (int r = 0; r < Rows; ++r) {
      const T* const row = image + stencil_.offset[r];
      const auto to = [&](int64_t c) { return load_raw<Quad<T>>(row + c * shape_.count); };
      const Quad<T> weight = edge_(from, to, channels, load_raw<Quad<T>>(stencil_.step[r]));
      const Quad<T> offer = weight + entry.distance;
      std::memcpy(offers + 4 * r, &offer, sizeof(offer));
      better |=
          static_cast<uint64_t>(mask_of(offer < load_raw<Quad<T>>(distance + stencil_.offset[r])))
          << (4 * r);
    }
    for (; better; better &= better - 1) {
      const int k = __builtin_ctzll(better);
      const int64_t step = stencil_.offset[k / 4] + k % 4;
      const T offer = offers[k];
      distance[step] = offer;
      tile.queue.push(scale_.key(offer), {offer, static_cast<uint32_t>(entry.voxel + step)});
    }
  }

  const Edge& edge_;
  const Stencil<T, Rows>& stencil_;
  const BlockShape& shape_;
  const BucketScale<T> scale_;
  const int64_t band_;
  const GeodesicItem<T>& item_;
  const Workers& workers_;
  int64_t tiles_[3], count_;
  T* memory_ = nullptr;
  Tile<T>* tile_ = nullptr;
  const uint8_t* direction_ = nullptr;
};

}  // namespace medkern::MEDKERN_ISA
