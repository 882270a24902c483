// Runs CUDA C++ kernels on the CPU, for tests: correct where CUDA is, and an exception, a NaN or a
// sanitizer report where a kernel relies on what CUDA does not promise.
//
// One fiber per CUDA thread, blocks one after another. Found without a sanitizer: deadlocks,
// divergent barriers, wrong warp masks, misaligned vectors, launch limits, unset shared memory.
// AddressSanitizer adds accesses out of bounds, ThreadSanitizer races within and between blocks.
// Not emulated: blocks that wait for each other, clocks, textures, dynamic parallelism.
#pragma once

#include "async_copy.hpp"
#include "atomics.hpp"
#include "block.hpp"
#include "intrinsics.hpp"
#include "launch.hpp"
#include "types.hpp"
#include "warp.hpp"

namespace medkern {
using namespace emulation::cuda;
}
