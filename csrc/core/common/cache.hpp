// When to write past the caches.
#pragma once

#include <algorithm>
#include <cstdint>

#if defined(__linux__)
#include <unistd.h>
#endif

namespace medkern {

// Outputs of at least this many bytes do not stay in the last-level cache until they are read, so
// non-temporal stores save fetching the lines that they overwrite: a third of a pass's traffic.
inline int64_t streaming_bytes() {
#if defined(__linux__) && defined(_SC_LEVEL3_CACHE_SIZE)
  // Virtual machines report the cache of the whole host, of which a process has a share.
  static const int64_t cache = std::min<int64_t>(sysconf(_SC_LEVEL3_CACHE_SIZE), 32 << 20);
  if (cache > 0) return cache / 2;
#endif
  return int64_t{8} << 20;
}

}  // namespace medkern
