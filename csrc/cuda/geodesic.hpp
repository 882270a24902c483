// Launching the exact geodesic distance, its predecessors and gradients: no torch, no device code.
#pragma once

#include <cstdint>

#include "core/geodesic_pull.hpp"
#include "core/geodesic_tree.hpp"
#include "core/grid.hpp"
#include "launch.hpp"

namespace medkern {

// One problem; arrays are contiguous, on the device, float or double throughout. The edge from q to
// p of length len, with d a norm over channels of I_q - I_p, weighs
//   l1 (1-lam) d + lam len          fastgeodis (1-lam) len + lam d    mcp len (I_q + I_p) / 2
//   l2 sqrt((1-lam) d^2 + lam len^2)   geos sqrt(len^2 + lam^2 d^2)   node I_p
//   geodistk len / ((1-lam) + lam / (d + 1e-5)), d always the l2 norm
struct GeodesicArrays {
  const void* image;      // [batch, channels, D, H, W]; NaN: a wall
  const void* starts;     // [batch, classes, D, H, W]: start costs; inf: no seed
  const bool* mask;       // [batch, D, H, W] or null; false: a wall
  const double* spacing;  // [batch, 3]
  void* distance;         // [batch, classes, D, H, W]
  int64_t batch, channels, classes;
  Grid grid;
  int connectivity;
  GeodesicMetric metric;
  ChannelNorm norm;
  double lam;
  double limit;  // distances above it come back as inf
};

int64_t geodesic_workspace_bytes(const GeodesicArrays& a);

// Fills a.distance with the exact distances. Waits for the stream once in a while, to learn whether
// anything is left to do, and for `rounds`, where it is given: those in which tiles were visited.
// The caller has checked lam and spacing; an edge of negative weight, which only the device can
// see, counts as zero.
LaunchError launch_geodesic(const GeodesicArrays& a, bool float64, void* workspace, Stream stream,
                            unsigned* rounds = nullptr);

int64_t geodesic_parents_workspace_bytes(const GeodesicArrays& a);

// Fills parents [batch, classes, D, H, W], from the exact distances that a.distance holds, with the
// predecessors that core/geodesic.hpp defines. Waits for the stream once, and then once in a while
// where edges cost nothing.
LaunchError launch_geodesic_parents(const GeodesicArrays& a, int64_t* parents, bool float64,
                                    void* workspace, Stream stream);

// Fills p.grad; every pointer of p is the device's.
LaunchError launch_geodesic_pull(const PullProblem& p, bool float64, Stream stream);

// run_trees on the device. Sums over subtrees have its bits; those along paths are added in
// another order. Parents that are no forest leave the outputs of their trees undefined.
int64_t tree_workspace_bytes(TreeOp op, int64_t samples, int64_t voxels, bool float64);
LaunchError launch_trees(TreeOp op, const void* values, const int64_t* parents, void* out,
                         int64_t samples, int64_t voxels, bool float64, void* workspace,
                         Stream stream);

}  // namespace medkern
