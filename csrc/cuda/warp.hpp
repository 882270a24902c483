// Warping on a GPU. Arrays are contiguous.
#pragma once

#include "core/warp.hpp"
#include "launch.hpp"

namespace medkern {

enum class WarpOp { forward, slope, transpose };

struct WarpLaunch {
  WarpProblem problem;  // its displacement of `displacement_type`
  WarpMode mode = WarpMode::linear;
  FloatType type = FloatType::float32;               // of image, grad and out
  FloatType displacement_type = FloatType::float32;  // and of what slope writes
  const void* image = nullptr;                       // [batch, channels, *size]
  const void* grad = nullptr;                        // [batch, channels, *out]
  void* out = nullptr;
};

// forward and slope: mode linear or cubic. transpose: workspace of warp_sums_bytes(call) bytes for
// each of `planes` planes (voxels of one channel), which are summed at a time.
LaunchError launch_warp(WarpOp op, const WarpLaunch& call, void* workspace, int64_t planes,
                        Stream stream);

// forward with mode nearest; `bytes` per value, `lost` stands for one without a position.
LaunchError launch_warp_copy(const WarpLaunch& call, int bytes, bool float64, uint64_t lost,
                             Stream stream);

inline int64_t warp_sums_bytes(const WarpLaunch& call) {
  return call.problem.voxels() * (call.type == FloatType::float64 ? 20 : 12);
}

}  // namespace medkern
