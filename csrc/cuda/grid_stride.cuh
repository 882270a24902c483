// Work spread over all threads of a launch, and the index maths of it.
#pragma once

#include <algorithm>

#include "core/common/inline.hpp"
#include "portable.cuh"

namespace medkern::MEDKERN_ISA {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = INT32_MAX;

inline unsigned blocks_for(int64_t count) {
  return static_cast<unsigned>(std::min((count + kThreads - 1) / kThreads, kMostBlocks));
}

// index = unit * lanes + lane; 32-bit division where it fits, which is several times cheaper on a
// GPU.
MEDKERN_DEVICE_INLINE void split(int64_t index, int64_t lanes, int64_t& unit, int64_t& lane) {
  if (index <= INT32_MAX && lanes <= INT32_MAX) {
    unit = static_cast<uint32_t>(index) / static_cast<uint32_t>(lanes);
    lane =
        static_cast<uint32_t>(index) - static_cast<uint32_t>(unit) * static_cast<uint32_t>(lanes);
  } else {
    unit = index / lanes;
    lane = index - unit * lanes;
  }
}

// Index of the first work item of this thread, and the step to its next one.
#define MEDKERN_GRID_STRIDE(index, count)                                           \
  for (int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; \
       index < (count); index += static_cast<int64_t>(gridDim.x) * blockDim.x)

}  // namespace medkern::MEDKERN_ISA
