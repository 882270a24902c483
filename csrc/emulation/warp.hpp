// Warp operations: the lanes named by a mask meet, the last to arrive computes every lane's result.
//
// Stricter than CUDA, in order to find mistakes: every lane of the mask must exist and still run,
// and all must call from the same place in the source.
#pragma once

#include <bit>

#include "block.hpp"

namespace medkern::emulation {

// Fills operation.output[lane] from operation.input for every lane of operation.mask.
using Combine = void (*)(const WarpOperation& operation);

MEDKERN_EMULATION_RUNTIME inline unsigned current_lane() {
  return current_thread->rank % kWarpSize;
}

MEDKERN_EMULATION_RUNTIME inline Warp& current_warp() {
  return current_block->warps[current_thread->rank / kWarpSize];
}

MEDKERN_EMULATION_RUNTIME inline void check_mask(const Warp& warp, uint32_t mask, const char* name,
                                                 Site site) {
  const bool has_me = (mask >> current_lane() & 1) != 0;
  const uint32_t gone = mask & warp.exited;
  if (has_me && gone == 0) return;
  const std::string who = std::string(name) + " with mask " + hexadecimal(mask);
  if (!has_me) fail(who + ": lane " + std::to_string(current_lane()) + " is not in it", site);
  fail(who + ": lanes " + hexadecimal(gone) + " returned or do not exist", site);
}

// An operation with another mask is no mistake as such: this lane may come to it later, or not be
// meant. It is one where each waits for the other.
MEDKERN_EMULATION_RUNTIME inline void check_other(const WarpOperation& other, uint32_t mask,
                                                  const char* name, Site site) {
  const bool waits_for_me = (other.mask >> current_lane() & 1) != 0;
  if (waits_for_me && (other.arrived & mask) != 0) {
    fail(std::string(name) + ": masks disagree, " + hexadecimal(mask) + " here and " +
             hexadecimal(other.mask) + " of lanes that wait at " + text(other.site),
         site);
  }
}

MEDKERN_EMULATION_RUNTIME inline WarpOperation& begin_operation(Warp& warp, uint32_t mask,
                                                                const char* name, Site site) {
  const int entry = std::countr_one(warp.under_way);
  const auto warp_index = static_cast<unsigned>(&warp - current_block->warps);
  SyncTag* const tags = current_block->memory->tags() + 2 + warp_index * kTagsPerWarp;
  warp.under_way |= 1u << entry;
  WarpOperation& operation = warp.operations[entry];
  operation.mask = mask;
  operation.arrived = 0;
  operation.name = name;
  operation.site = site;
  operation.tag = tags + warp.begun++ % kTagsPerWarp;
  return operation;
}

// The operation under way with this mask, or a new one.
MEDKERN_EMULATION_RUNTIME inline WarpOperation& join(Warp& warp, uint32_t mask, const char* name,
                                                     Site site) {
  WarpOperation* mine = nullptr;
  for (uint32_t rest = warp.under_way; rest != 0; rest &= rest - 1) {
    WarpOperation& operation = warp.operations[std::countr_zero(rest)];
    if (operation.mask == mask) {
      mine = &operation;
    } else {
      check_other(operation, mask, name, site);
    }
  }
  if (mine == nullptr) return begin_operation(warp, mask, name, site);
  if (!same_site(mine->site, site)) {
    fail(std::string(name) + ": other lanes of the mask wait in " + mine->name + " at " +
             text(mine->site),
         site);
  }
  return *mine;
}

MEDKERN_EMULATION_RUNTIME inline void end_operation(Warp& warp, const WarpOperation& operation) {
  warp.under_way &= ~(1u << (&operation - warp.operations));
}

MEDKERN_EMULATION_RUNTIME inline void wake(const WarpOperation& operation) {
  Thread* const lanes = current_block->threads + current_thread->rank / kWarpSize * kWarpSize;
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    if ((operation.mask >> lane & 1) == 0) continue;
    if (lanes[lane].state == State::in_warp_operation) lanes[lane].state = State::ready;
  }
}

// Input and output stay the lane's own memory: a later operation cannot overwrite a result that its
// lane has not read yet.
MEDKERN_EMULATION_RUNTIME inline void meet(const char* name, uint32_t mask, const void* input,
                                           void* output, Combine combine, Site site) {
  Warp& warp = current_warp();
  check_mask(warp, mask, name, site);
  WarpOperation& operation = join(warp, mask, name, site);
  const unsigned lane = current_lane();
  operation.input[lane] = input;
  operation.output[lane] = output;
  operation.arrived |= 1u << lane;
  SyncTag* const tag = operation.tag;
  tsan::release(tag);
  if (operation.arrived == mask) {
    combine(operation);
    wake(operation);
    end_operation(warp, operation);
  } else {
    suspend(State::in_warp_operation, name, site);
  }
  tsan::acquire(tag);
}

template <class T>
struct ShuffleInput {
  T value;
  unsigned source;  // 32 and above: no lane, hence an undefined value
};

template <class T>
MEDKERN_EMULATION_RUNTIME void combine_shuffle(const WarpOperation& operation) {
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    if ((operation.mask >> lane & 1) == 0) continue;
    const unsigned source = static_cast<const ShuffleInput<T>*>(operation.input[lane])->source;
    auto* const output = static_cast<unsigned char*>(operation.output[lane]);
    const unsigned char* value = nullptr;
    if (source < kWarpSize && (operation.mask >> source & 1) != 0) {
      value = reinterpret_cast<const unsigned char*>(
          &static_cast<const ShuffleInput<T>*>(operation.input[source])->value);
    }
    for (size_t i = 0; i < sizeof(T); ++i) output[i] = value == nullptr ? 0xff : value[i];
  }
}

template <class T>
T shuffle(const char* name, uint32_t mask, T value, unsigned source, Site site) {
  static_assert(std::is_arithmetic_v<T> && sizeof(T) >= 4 && sizeof(T) <= 8,
                "CUDA shuffles 4- and 8-byte numbers");
  const ShuffleInput<T> input{value, source};
  T output;
  meet(name, mask, &input, &output, combine_shuffle<T>, site);
  return output;
}

inline void check_width(int width, Site site) {
  if (width < 1 || width > static_cast<int>(kWarpSize) ||
      !std::has_single_bit(static_cast<unsigned>(width))) {
    fail("shuffle of width " + std::to_string(width), site);
  }
}

// First lane of this lane's group of `width`.
inline unsigned group_start(int width) {
  return current_lane() & ~(static_cast<unsigned>(width) - 1);
}

MEDKERN_EMULATION_RUNTIME inline void combine_ballot(const WarpOperation& operation) {
  uint32_t ballot = 0;
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    if ((operation.mask >> lane & 1) == 0) continue;
    if (*static_cast<const bool*>(operation.input[lane])) ballot |= 1u << lane;
  }
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    if ((operation.mask >> lane & 1) != 0) *static_cast<uint32_t*>(operation.output[lane]) = ballot;
  }
}

inline uint32_t ballot(const char* name, uint32_t mask, bool predicate, Site site) {
  uint32_t result;
  meet(name, mask, &predicate, &result, combine_ballot, site);
  return result;
}

template <class T>
MEDKERN_EMULATION_RUNTIME void combine_match(const WarpOperation& operation) {
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    if ((operation.mask >> lane & 1) == 0) continue;
    uint32_t equal = 0;
    for (unsigned other = 0; other < kWarpSize; ++other) {
      if ((operation.mask >> other & 1) == 0) continue;
      const bool same = *static_cast<const T*>(operation.input[lane]) ==
                        *static_cast<const T*>(operation.input[other]);
      if (same) equal |= 1u << other;
    }
    *static_cast<uint32_t*>(operation.output[lane]) = equal;
  }
}

struct Add {
  static constexpr unsigned apply(unsigned a, unsigned b) { return a + b; }
};
struct Min {
  template <class T>
  static constexpr T apply(T a, T b) {
    return b < a ? b : a;
  }
};
struct Max {
  template <class T>
  static constexpr T apply(T a, T b) {
    return a < b ? b : a;
  }
};

template <class T, class Operation>
MEDKERN_EMULATION_RUNTIME void combine_reduce(const WarpOperation& operation) {
  T total = *static_cast<const T*>(operation.input[std::countr_zero(operation.mask)]);
  for (unsigned lane = std::countr_zero(operation.mask) + 1u; lane < kWarpSize; ++lane) {
    if ((operation.mask >> lane & 1) == 0) continue;
    total = static_cast<T>(Operation::apply(total, *static_cast<const T*>(operation.input[lane])));
  }
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    if ((operation.mask >> lane & 1) != 0) *static_cast<T*>(operation.output[lane]) = total;
  }
}

template <class Operation, class T>
T reduce(const char* name, uint32_t mask, T value, Site site) {
  static_assert(std::is_same_v<T, int> || std::is_same_v<T, unsigned>);
  T result;
  meet(name, mask, &value, &result, combine_reduce<T, Operation>, site);
  return result;
}

MEDKERN_EMULATION_RUNTIME inline void combine_nothing(const WarpOperation&) {}

namespace cuda {

inline void __syncwarp(unsigned mask = 0xffffffffu, Site site = Site::current()) {
  meet("__syncwarp", mask, nullptr, nullptr, combine_nothing, site);
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, Site site = Site::current()) {
  check_width(width, site);
  const unsigned within = static_cast<unsigned>(source) & (static_cast<unsigned>(width) - 1);
  return shuffle("__shfl_sync", mask, value, group_start(width) + within, site);
}

// Lanes whose source falls outside their group get their own value.
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 Site site = Site::current()) {
  check_width(width, site);
  const unsigned lane = current_lane();
  const bool inside = delta <= lane - group_start(width);
  return shuffle("__shfl_up_sync", mask, value, inside ? lane - delta : lane, site);
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   Site site = Site::current()) {
  check_width(width, site);
  const unsigned lane = current_lane();
  const bool inside = delta < group_start(width) + static_cast<unsigned>(width) - lane;
  return shuffle("__shfl_down_sync", mask, value, inside ? lane + delta : lane, site);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, Site site = Site::current()) {
  check_width(width, site);
  const unsigned lane = current_lane();
  const unsigned source = lane ^ static_cast<unsigned>(bits);
  const bool inside = source < group_start(width) + static_cast<unsigned>(width);
  return shuffle("__shfl_xor_sync", mask, value, inside ? source : lane, site);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, Site site = Site::current()) {
  return ballot("__ballot_sync", mask, predicate != 0, site);
}

inline int __any_sync(unsigned mask, int predicate, Site site = Site::current()) {
  return ballot("__any_sync", mask, predicate != 0, site) != 0;
}

inline int __all_sync(unsigned mask, int predicate, Site site = Site::current()) {
  return ballot("__all_sync", mask, predicate != 0, site) == mask;
}

template <class T>
unsigned __match_any_sync(unsigned mask, T value, Site site = Site::current()) {
  uint32_t result;
  meet("__match_any_sync", mask, &value, &result, combine_match<T>, site);
  return result;
}

template <class T>
T __reduce_add_sync(unsigned mask, T value, Site site = Site::current()) {
  return reduce<Add>("__reduce_add_sync", mask, value, site);
}

template <class T>
T __reduce_min_sync(unsigned mask, T value, Site site = Site::current()) {
  return reduce<Min>("__reduce_min_sync", mask, value, site);
}

template <class T>
T __reduce_max_sync(unsigned mask, T value, Site site = Site::current()) {
  return reduce<Max>("__reduce_max_sync", mask, value, site);
}

// CUDA promises no more than that the caller itself is active.
inline unsigned __activemask() { return 1u << current_lane(); }

}  // namespace cuda

}  // namespace medkern::emulation
