// Launching the joint Parzen histogram: no torch, no device code.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/joint_histogram.hpp"
#include "launch.hpp"

namespace medkern {

// How a sample is cut: parts, one a block, of warps that each have memory of their own, a histogram
// (forward) and the weights of 32 voxels. A function of the problem alone, so that the order of the
// sums, hence the bits, are the same on every device and in every batch.
struct JointHistogramLayout {
  static constexpr int64_t kShared = 98 * 1024;
  int64_t pitch;            // of a row of a histogram: rows start in other banks
  int64_t histogram, taps;  // doubles: of a histogram; of one image's weights, or slopes
  int64_t warps, parts;     // of a block; of a sample
  bool shared;              // the memory of a block is shared memory, else a workspace

  JointHistogramLayout(const JointHistogramProblem& p, bool backward)
      : pitch(p.window.bins | 8),
        histogram(backward ? 0 : p.window.bins * pitch),
        taps(33 * p.window.taps),
        warps(4) {
    while (warps > 1 && bytes() > kShared) warps /= 2;
    shared = bytes() <= kShared;
    if (!shared) warps = 4;
    parts = std::clamp<int64_t>(p.voxels / 8192, 1, shared ? 256 : 16);
  }

  int64_t of_warp() const { return histogram + (histogram > 0 ? 2 : 4) * taps; }
  int64_t bytes() const { return warps * of_warp() * static_cast<int64_t>(sizeof(double)); }
  int64_t workspace_bytes(int64_t batch) const { return shared ? 0 : batch * parts * bytes(); }
};

// Every pointer of the problem is the device's; workspace: of layout.workspace_bytes(p.batch).

// p.parts: [batch, layout.parts, bins, pitch]; out: [batch, bins, bins] in the compute type.
LaunchError launch_joint_histogram(const JointHistogramProblem& p, void* out, void* workspace,
                                   Stream stream);

// pulls: [batch, bins, bins], the gradient of the histogram, in the compute type.
LaunchError launch_joint_histogram_backward(const JointHistogramProblem& p, const void* pulls,
                                            void* workspace, Stream stream);

}  // namespace medkern
