// Launching the sums of correlation coefficients: no torch, no device code.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "core/correlation.hpp"
#include "launch.hpp"

namespace medkern {

// Blocks that share an image: a function of its size alone, so that the order of the sums, hence
// the bits, are the same on every device and in every batch.
inline int64_t correlation_parts(const CorrelationProblem& p) {
  const int64_t elements = p.axes > 0 ? 2 * p.rows * p.columns : p.elements;
  return std::clamp<int64_t>(elements / 4096, 1, 256);
}

// Bytes of workspace: of spectra the ring and the weight of every frequency, and, forward, the sums
// of the parts.
size_t correlation_workspace(const CorrelationProblem& p, bool forward);

// sums: [images, rows of sums, 3] in the compute type.
LaunchError launch_correlation_sums(const CorrelationProblem& p, void* workspace, void* sums,
                                    Stream stream);

// p.weights to p.grad.
LaunchError launch_correlation_gradient(const CorrelationProblem& p, void* workspace,
                                        Stream stream);

}  // namespace medkern
