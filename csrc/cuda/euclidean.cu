// Launching the Euclidean distance transform, axis by axis.
#include "euclidean.cuh"

namespace medkern {

namespace MEDKERN_ISA {
namespace {

template <class T>
LaunchError launch_axes(const EuclideanArrays<T>& a, Stream stream) {
  const int64_t work = a.batch * a.grid.count();
  if (work == 0) return {};
  const int passes = 1 + (a.grid.size[1] > 1) + (a.grid.size[0] > 1);
  const int64_t strides[3] = {a.grid.index(1, 0, 0), a.grid.index(0, 1, 0), 1};
  EuclideanPass<T> p{};
  p.labels = a.labels;
  p.spacing = a.spacing;
  p.count = a.grid.count();
  // The two buffers take turns so that the last axis writes the result.
  int pass = 0;
  for (const int axis : {2, 1, 0}) {
    if (axis < 2 && a.grid.size[axis] == 1) continue;
    const bool to_result = (passes - 1 - pass) % 2 == 0;
    p.in = pass == 0 ? nullptr : p.out;
    p.out = to_result ? a.distance : a.scratch;
    p.nearest_in = pass == 0 ? nullptr : p.nearest_out;
    p.nearest_out = a.nearest == nullptr ? nullptr : to_result ? a.nearest : a.nearest_scratch;
    p.length = a.grid.size[axis];
    p.stride = strides[axis];
    p.axis = axis;
    p.last = ++pass == passes;
    MEDKERN_LAUNCH(euclidean_fwd_axis_kernel<T>, blocks_for(work), kThreads, 0, stream, p, a.batch);
    if (const LaunchError error = launch_error(); !error.ok()) return error;
  }
  return {};
}

}  // namespace
}  // namespace MEDKERN_ISA

LaunchError launch_euclidean(const EuclideanArrays<float>& arrays, Stream stream) {
  return MEDKERN_ISA::launch_axes(arrays, stream);
}

LaunchError launch_euclidean(const EuclideanArrays<double>& arrays, Stream stream) {
  return MEDKERN_ISA::launch_axes(arrays, stream);
}

}  // namespace medkern
