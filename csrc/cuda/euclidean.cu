// Launching the Euclidean distance transform, axis by axis.
#include "euclidean.cuh"

namespace medkern {

namespace MEDKERN_ISA {
namespace {

template <class Label, class T>
LaunchError launch_axes(const EuclideanArrays& a, Stream stream) {
  const int64_t work = a.volumes * a.grid.count();
  if (work == 0) return {};
  const int passes = 1 + (a.grid.size[1] > 1) + (a.grid.size[0] > 1);
  const int64_t strides[3] = {a.grid.index(1, 0, 0), a.grid.index(0, 1, 0), 1};
  EuclideanPass<Label, T> p{};
  p.labels = static_cast<const Label*>(a.labels);
  p.spacing = a.spacing;
  p.sets = a.sets;
  p.both_sides = a.both_sides;
  p.count = a.grid.count();
  // The two buffers take turns so that the last axis writes the result.
  int pass = 0;
  for (const int axis : {2, 1, 0}) {
    if (axis < 2 && a.grid.size[axis] == 1) continue;
    const bool to_result = (passes - 1 - pass) % 2 == 0;
    p.in = pass == 0 ? nullptr : p.out;
    p.out = static_cast<T*>(to_result ? a.distance : a.scratch);
    p.nearest_in = pass == 0 ? nullptr : p.nearest_out;
    p.nearest_out = a.nearest == nullptr ? nullptr : to_result ? a.nearest : a.nearest_scratch;
    p.length = a.grid.size[axis];
    p.stride = strides[axis];
    p.axis = axis;
    p.last = ++pass == passes;
    MEDKERN_LAUNCH((euclidean_fwd_axis_kernel<Label, T>), blocks_for(work), kThreads, 0, stream, p,
                   a.volumes);
    if (const LaunchError error = launch_error(); !error.ok()) return error;
  }
  return {};
}

template <class Label>
LaunchError launch_labels(const EuclideanArrays& a, Stream stream) {
  return a.wide ? launch_axes<Label, double>(a, stream) : launch_axes<Label, float>(a, stream);
}

}  // namespace
}  // namespace MEDKERN_ISA

LaunchError launch_euclidean(const EuclideanArrays& a, Stream stream) {
  using namespace MEDKERN_ISA;
  switch (a.label_bytes) {
    case 1:
      return launch_labels<uint8_t>(a, stream);
    case 2:
      return launch_labels<uint16_t>(a, stream);
    case 4:
      return launch_labels<uint32_t>(a, stream);
    default:
      return launch_labels<uint64_t>(a, stream);
  }
}

}  // namespace medkern
