// Finite differences of fields on a GPU; problem.spacing is [batch, axes] on the device.
#pragma once

#include "core/field.hpp"
#include "launch.hpp"

namespace medkern {

// Blocks that share `count` values of a sample.
inline int64_t field_parts(int64_t count) {
  constexpr int64_t kPerBlock = 2048, kMost = 4096;
  const int64_t parts = (count + kPerBlock - 1) / kPerBlock;
  return parts < 1 ? 1 : parts < kMost ? parts : kMost;
}

// jacobian: problem.folds is [batch], or null. smoothness: problem.sums is a workspace of 3 doubles
// per part (of channels * voxels) and sample.
LaunchError launch_field(FieldTask task, const FieldProblem& p, FloatType type, Stream stream);

}  // namespace medkern
