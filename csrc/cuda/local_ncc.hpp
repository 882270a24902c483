// Launching the local normalised cross-correlation: no torch, no device code.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/local_ncc.hpp"
#include "launch.hpp"

namespace medkern {

// How a volume is cut: the tile of a block, and its frame, which is the tile with a halo of
// `reach`. Functions of the size and window alone, so that the order of the sums, hence the bits,
// are the same on every device and in every batch.
struct LocalNccFrames {
  int64_t tile[3], count[3], reach[3];  // z, y, x
  int64_t rows, columns, pitch;         // of a frame's y-x face

  explicit LocalNccFrames(const LocalNccProblem& p) {
    constexpr int64_t least[3] = {16, 16, 32};
    const bool fits = std::max({p.window[0], p.window[1], p.window[2]}) <= 17;
    for (int i = 0; i < 3; ++i) {
      const int64_t wide = std::max(least[i], fits ? 0 : 2 * p.window[i]);
      tile[i] = std::min(p.size[i], wide);
      count[i] = (p.size[i] + tile[i] - 1) / tile[i];
      reach[i] = std::min(p.window[i] / 2, p.size[i] - 1);
    }
    rows = tile[1] + 2 * reach[1];
    columns = tile[2] + 2 * reach[2];
    pitch = columns | 1;  // neighbouring rows start in other banks
  }

  int64_t per_volume() const { return count[0] * count[1] * count[2]; }
  int64_t bytes(int64_t sums) const {
    return sums * (rows + tile[1]) * pitch * static_cast<int64_t>(sizeof(double));
  }
  // The sums of a block are held in shared memory where they fit.
  bool shared() const { return bytes(5) <= 98 * 1024; }
  int64_t workspace_bytes(int64_t volumes) const {
    return shared() ? 0 : volumes * per_volume() * bytes(5);
  }
};

// The kernels of core/local_ncc.hpp on volumes [p.first_volume, p.first_volume + volumes), every
// pointer but p.centre, which is not used, on the device. Workspace: of workspace_bytes(volumes).

// means [p.volumes]: of the correlation, in the compute type; or p.map. p.sums: one per tile.
LaunchError launch_local_ncc(const LocalNccProblem& p, void* means, void* workspace, Stream stream);

// Fills p.coefficients, then p.grads from them.
LaunchError launch_local_ncc_backward(const LocalNccProblem& p, int64_t volumes, void* workspace,
                                      Stream stream);

}  // namespace medkern
