#include "binding/barrier.hpp"

#include "binding/threads.hpp"
#include "core/barrier_run.hpp"

namespace medkern {
namespace {

template <class T>
T* data(const Tensor& t) {
  return static_cast<T*>(t.data_ptr());
}

using Mask = std::optional<Tensor>;

BarrierNorm parse_norm(const std::string& norm) {
  if (norm == "l1") return BarrierNorm::l1;
  if (norm == "l2") return BarrierNorm::l2;
  STD_TORCH_CHECK(norm == "linf", "norm must be l1, l2 or linf, got ", norm);
  return BarrierNorm::linf;
}

Tensor minimum_barrier_distance(const Tensor& image, const Tensor& seeds, const Mask& mask,
                                int64_t connectivity) {
  const BarrierInputs inputs(image, seeds, mask, connectivity, false);
  const Tensor distance = inputs.allocate(inputs.value_type());
  inputs.dispatch([&]<class T>(const BarrierProblem<T>& problem) {
    minimum_barrier(problem, data<BarrierValue<T>>(distance), TorchThreads());
  });
  return distance;
}

Tensor barrier_witness_pairs(const Tensor& image, const Tensor& seeds, const Mask& mask,
                             int64_t connectivity) {
  const BarrierInputs inputs(image, seeds, mask, connectivity, false);
  const Tensor pairs = inputs.allocate_pairs(ScalarType::Long);
  inputs.dispatch([&](const auto& problem) {
    barrier_witnesses(problem, data<int64_t>(pairs), TorchThreads());
  });
  return pairs;
}

Tensor max_distance_along_path(const Tensor& image, const Tensor& seeds, const Mask& mask,
                               int64_t connectivity) {
  const BarrierInputs inputs(image, seeds, mask, connectivity, false);
  const Tensor distance = inputs.allocate(inputs.value_type());
  inputs.dispatch([&]<class T>(const BarrierProblem<T>& problem) {
    bottleneck_distance(problem, data<BarrierValue<T>>(distance), TorchThreads());
  });
  return distance;
}

Tensor bottleneck_voxel(const Tensor& image, const Tensor& seeds, const Mask& mask,
                        int64_t connectivity) {
  const BarrierInputs inputs(image, seeds, mask, connectivity, false);
  const Tensor highest = inputs.allocate(ScalarType::Long);
  inputs.dispatch([&](const auto& problem) {
    bottleneck_witness(problem, data<int64_t>(highest), TorchThreads());
  });
  return highest;
}

std::tuple<Tensor, Tensor> barrier_raster(const Tensor& image, const Tensor& seeds,
                                          const Mask& mask, int64_t connectivity, int64_t most) {
  const BarrierInputs inputs(image, seeds, mask, connectivity, false);
  const Tensor distance = inputs.allocate(inputs.value_type());
  const Tensor scans = inputs.allocate_per_set(inputs.value_type());
  inputs.dispatch([&]<class T>(const BarrierProblem<T>& problem) {
    using Value = BarrierValue<T>;
    raster_barrier(problem, most, data<Value>(distance), data<Value>(scans), TorchThreads());
  });
  return {distance, scans};
}

Tensor barrier_vectorial(const Tensor& image, const Tensor& seeds, const Mask& mask,
                         int64_t connectivity, const std::string& norm) {
  const BarrierInputs inputs(image, seeds, mask, connectivity, true);
  const BarrierNorm parsed = parse_norm(norm);
  const Tensor distance = inputs.allocate(inputs.value_type());
  inputs.dispatch([&]<class T>(const BarrierProblem<T>& problem) {
    vectorial_barrier(problem, parsed, data<BarrierValue<T>>(distance), TorchThreads());
  });
  return distance;
}

}  // namespace
}  // namespace medkern

STABLE_TORCH_LIBRARY_IMPL(medkern, CPU, m) {
  m.impl("minimum_barrier_distance", TORCH_BOX(&medkern::minimum_barrier_distance));
  m.impl("_barrier_witnesses", TORCH_BOX(&medkern::barrier_witness_pairs));
  m.impl("max_distance_along_path", TORCH_BOX(&medkern::max_distance_along_path));
  m.impl("_bottleneck_witness", TORCH_BOX(&medkern::bottleneck_voxel));
  m.impl("_barrier_raster", TORCH_BOX(&medkern::barrier_raster));
  m.impl("_barrier_vectorial", TORCH_BOX(&medkern::barrier_vectorial));
}
