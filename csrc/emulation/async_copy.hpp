// cp.async: copies from global to shared memory that land no earlier than their thread waits for
// them, so that a forgotten wait shows as NaN.
#pragma once

#include "block.hpp"

namespace medkern::emulation {

MEDKERN_EMULATION_RUNTIME inline void reserve_copy(AsyncCopies& copies) {
  if (copies.count < copies.capacity) return;
  const unsigned capacity = 2 * copies.capacity + 8;
  auto* items = static_cast<AsyncCopy*>(std::malloc(capacity * sizeof(AsyncCopy)));
  if (items == nullptr) throw std::bad_alloc();
  for (unsigned i = 0; i < copies.count; ++i) items[i] = copies.items[i];
  std::free(copies.items);
  copies.items = items;
  copies.capacity = capacity;
}

MEDKERN_EMULATION_RUNTIME inline void start_copy(void* target, const void* source, unsigned width,
                                                 bool valid, Site site) {
  check_aligned(target, width, site);
  check_aligned(source, width, site);
  AsyncCopies& copies = current_thread->copies;
  reserve_copy(copies);
  copies.items[copies.count++] = {target, source, valid ? width : 0, width, copies.group};
}

MEDKERN_EMULATION_RUNTIME inline void commit_copies() { ++current_thread->copies.group; }

// The thread's own access to memory: here the sanitizers must look.
inline void perform(AsyncCopy copy) {
  std::memset(copy.target, 0, copy.width);
  std::memcpy(copy.target, copy.source, copy.bytes);
}

// Copies of every closed group but the `pending` newest.
MEDKERN_EMULATION_RUNTIME inline void wait_copies(unsigned pending) {
  AsyncCopies& copies = current_thread->copies;
  unsigned done = 0;
  while (done < copies.count && copies.items[done].group + pending < copies.group) {
    perform(copies.items[done++]);
  }
  copies.count -= done;
  for (unsigned i = 0; i < copies.count; ++i) copies.items[i] = copies.items[i + done];
}

}  // namespace medkern::emulation
