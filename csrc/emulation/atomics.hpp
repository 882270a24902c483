// CUDA's atomics, as relaxed atomics of the CPU; and memory fences.
#pragma once

#include <concepts>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "block.hpp"

namespace medkern::emulation {

// Replaces *address by change(*address) and returns what was there.
template <class T, class Change>
T atomic_update(T* address, Change change, Site site) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  using Bits = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
  check_aligned(address, sizeof(T), site);
  Bits* const cell = reinterpret_cast<Bits*>(address);
  Bits seen = __atomic_load_n(cell, __ATOMIC_RELAXED), wanted;
  T old;
  do {
    std::memcpy(&old, &seen, sizeof(T));
    const T changed = change(old);
    std::memcpy(&wanted, &changed, sizeof(T));
  } while (
      !__atomic_compare_exchange_n(cell, &seen, wanted, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return old;
}

template <class T, class... Types>
concept one_of = (std::same_as<T, Types> || ...);

template <class T>
concept atomic_integer = one_of<T, int, unsigned, long long, unsigned long long>;
template <class T>
concept atomic_addend = one_of<T, int, unsigned, unsigned long long, float, double>;

namespace cuda {

// The value's type follows from the address alone, as in CUDA's overloads.
template <class T>
using Value = std::type_identity_t<T>;

template <atomic_addend T>
T atomicAdd(T* address, Value<T> value, Site site = Site::current()) {
  return atomic_update(address, [=](T old) { return static_cast<T>(old + value); }, site);
}

template <one_of<int, unsigned> T>
T atomicSub(T* address, Value<T> value, Site site = Site::current()) {
  return atomic_update(address, [=](T old) { return static_cast<T>(old - value); }, site);
}

template <atomic_integer T>
T atomicMin(T* address, Value<T> value, Site site = Site::current()) {
  return atomic_update(address, [=](T old) { return value < old ? value : old; }, site);
}

template <atomic_integer T>
T atomicMax(T* address, Value<T> value, Site site = Site::current()) {
  return atomic_update(address, [=](T old) { return value > old ? value : old; }, site);
}

template <atomic_integer T>
T atomicAnd(T* address, Value<T> value, Site site = Site::current()) {
  return atomic_update(address, [=](T old) { return static_cast<T>(old & value); }, site);
}

template <atomic_integer T>
T atomicOr(T* address, Value<T> value, Site site = Site::current()) {
  return atomic_update(address, [=](T old) { return static_cast<T>(old | value); }, site);
}

template <atomic_integer T>
T atomicXor(T* address, Value<T> value, Site site = Site::current()) {
  return atomic_update(address, [=](T old) { return static_cast<T>(old ^ value); }, site);
}

template <one_of<int, unsigned, unsigned long long, float> T>
T atomicExch(T* address, Value<T> value, Site site = Site::current()) {
  return atomic_update(address, [=](T) { return value; }, site);
}

template <one_of<int, unsigned, unsigned long long> T>
T atomicCAS(T* address, Value<T> expected, Value<T> value, Site site = Site::current()) {
  return atomic_update(address, [=](T old) { return old == expected ? value : old; }, site);
}

// Counts up to `limit`, then starts again at 0.
inline unsigned atomicInc(unsigned* address, unsigned limit, Site site = Site::current()) {
  return atomic_update(address, [=](unsigned old) { return old >= limit ? 0 : old + 1; }, site);
}

// ThreadSanitizer does not know fences. Any two threads that both passed one count as ordered,
// which is more than CUDA promises, so a missing atomic between two fences goes unseen.
MEDKERN_EMULATION_RUNTIME inline void __threadfence() {
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  tsan::release(current_block->fence_tag);
  tsan::acquire(current_block->fence_tag);
}

inline void __threadfence_block() { __threadfence(); }
inline void __threadfence_system() { __threadfence(); }

}  // namespace cuda

}  // namespace medkern::emulation
