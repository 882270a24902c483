// Planar values of storage type S, and the same grouped, [voxel][G], in the compute type.
#pragma once

#include "common/simd.hpp"

namespace medkern::MEDKERN_ISA {

template <class S, int G>
struct WarpLayout {
  using C = Compute<S>;
  using Four = Vec<C, 4>;

  static void group(const void* planar, int64_t plane, int64_t count, void* grouped, int64_t begin,
                    int64_t end) {
    const S* from = static_cast<const S*>(planar);
    C* to = static_cast<C*>(grouped);
    int64_t k = begin;
    for (; G > 1 && k + 4 <= end; k += 4) {
      for (int64_t c = 0; c < G; c += 4) {
        Four rows[4];
        for (int64_t i = 0; i < 4; ++i) {
          rows[i] = c + i < count ? load_four(from + (c + i) * plane + k) : Four{};
        }
        transpose(rows);
        for (int64_t i = 0; i < 4; ++i) std::memcpy(to + (k + i) * G + c, &rows[i], sizeof(Four));
      }
    }
    for (; k < end; ++k) {
      for (int64_t c = 0; c < G; ++c) {
        to[k * G + c] = c < count ? load_one<C>(from + c * plane + k) : C{};
      }
    }
  }

  static void ungroup(const void* grouped, int64_t plane, int64_t count, void* planar,
                      int64_t begin, int64_t end) {
    const C* from = static_cast<const C*>(grouped);
    S* to = static_cast<S*>(planar);
    int64_t k = begin;
    for (; G > 1 && k + 4 <= end; k += 4) {
      for (int64_t c = 0; c < count; c += 4) {
        Four columns[4];
        for (int64_t i = 0; i < 4; ++i) columns[i] = load_raw<Four>(from + (k + i) * G + c);
        transpose(columns);
        for (int64_t i = 0; i < 4 && c + i < count; ++i) {
          store_four(to + (c + i) * plane + k, columns[i]);
        }
      }
    }
    for (; k < end; ++k) {
      for (int64_t c = 0; c < count; ++c) store_one(to + c * plane + k, from[k * G + c]);
    }
  }

 private:
  static MEDKERN_INLINE Four load_four(const S* from) {
    if constexpr (std::is_same_v<S, C>) {
      return load_raw<Four>(from);
    } else {
      return Four{load_one<C>(from), load_one<C>(from + 1), load_one<C>(from + 2),
                  load_one<C>(from + 3)};
    }
  }

  static MEDKERN_INLINE void store_four(S* to, Four values) {
    if constexpr (std::is_same_v<S, C>) {
      std::memcpy(to, &values, sizeof(values));
    } else {
      for (int i = 0; i < 4; ++i) store_one(to + i, values[i]);
    }
  }

  static MEDKERN_INLINE void transpose(Four (&v)[4]) {
    Four a, b, c, d;
    interleave(v[0], v[2], a, b);
    interleave(v[1], v[3], c, d);
    interleave(a, c, v[0], v[1]);
    interleave(b, d, v[2], v[3]);
  }
};

}  // namespace medkern::MEDKERN_ISA
