// Only the distances: witnesses, raster scans and vectorial distances follow one order of visits,
// which one thread of the host does best (see OpSpec.host).
#include "binding/barrier.hpp"
#include "cuda/barrier.hpp"
#include "cuda/device_tensors.hpp"

namespace medkern {
namespace {

// Floods of so many levels at once fill a GPU, within this much memory. Emulated images are small.
#if defined(MEDKERN_EMULATED)
constexpr int64_t kMostLevels = 7, kMostFloodBytes = 1 << 20;
#else
constexpr int64_t kMostLevels = 256, kMostFloodBytes = 1 << 28;
#endif

// The distinct values, ascending; waits for the device.
Tensor distinct_values(const Tensor& t) {
  using torch::stable::detail::from;
  constexpr bool kSorted = true, kInverse = false, kCounts = false;
  std::array<StableIValue, 4> stack{from(t), from(kSorted), from(kInverse), from(kCounts)};
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::_unique2", "", stack.data(), TORCH_ABI_VERSION));
  for (size_t unused = 1; unused < 3; ++unused) torch::stable::detail::to<Tensor>(stack[unused]);
  return torch::stable::detail::to<Tensor>(stack[0]);
}

class DeviceBarrier {
 public:
  DeviceBarrier(const Tensor& image, const Tensor& seeds, const std::optional<Tensor>& mask,
                int64_t connectivity)
      : inputs_(image, seeds, mask, connectivity, false),
        out_(inputs_.allocate(inputs_.value_type())),
        bytes_(image.scalar_type() == ScalarType::Byte) {}

  Tensor barrier() {
    if (out_.scalar_type() == ScalarType::Double) {
      barriers<double>();
    } else {
      barriers<float>();
    }
    return out_;
  }

  Tensor bottleneck() {
    if (out_.scalar_type() == ScalarType::Double) {
      bottlenecks<double>();
    } else {
      bottlenecks<float>();
    }
    return out_;
  }

 private:
  template <class T>
  BarrierArrays<T> arrays(const Tensor& values) const {
    const BarrierProblem<T> p = inputs_.problem<T>();
    return {static_cast<const T*>(values.data_ptr()),
            p.seeds,
            p.mask,
            static_cast<T*>(out_.data_ptr()),
            p.batch,
            p.sets,
            p.grid,
            p.connectivity};
  }

  template <class T>
  void bottlenecks() {
    if (out_.numel() == 0) return;
    const DeviceScope scope(out_);
    const Tensor values = contiguous_as(inputs_.image(), out_.scalar_type());
    const BarrierArrays<T> a = arrays<T>(values);
    const Tensor workspace = device_bytes(out_, bottleneck_workspace_bytes(a));
    check_launch(launch_bottleneck(a, workspace.data_ptr(), scope.stream()));
  }

  // Samples of bytes have their levels in common; of other types each has its own.
  template <class T>
  void barriers() {
    if (out_.numel() == 0) return;
    const DeviceScope scope(out_);
    const Tensor values = contiguous_as(inputs_.image(), out_.scalar_type());
    BarrierArrays<T> a = arrays<T>(values);
    if (bytes_) return solve(a, values, scope);
    const int64_t batch = std::exchange(a.batch, 1), voxels = a.grid.count();
    for (int64_t sample = 0; sample < batch; ++sample) {
      solve(a, torch::stable::select(values, 0, sample), scope);
      a.image += voxels;
      a.seeds += a.sets * voxels;
      if (a.mask) a.mask += voxels;
      a.distance += a.sets * voxels;
    }
  }

  template <class T>
  void solve(const BarrierArrays<T>& a, const Tensor& values, const DeviceScope& scope) {
    const Tensor distinct = distinct_values(values);
    const int64_t flood = a.units() * a.grid.count() * static_cast<int64_t>(sizeof(T));
    const BarrierLevels<T> levels{static_cast<const T*>(distinct.data_ptr()), distinct.numel(),
                                  std::clamp<int64_t>(kMostFloodBytes / flood, 1, kMostLevels)};
    const Tensor workspace = device_bytes(out_, barrier_workspace_bytes(a, levels));
    check_launch(launch_barrier(a, levels, workspace.data_ptr(), scope.stream()));
  }

  BarrierInputs inputs_;
  Tensor out_;
  bool bytes_;
};

Tensor barrier(const Tensor& image, const Tensor& seeds, const std::optional<Tensor>& mask,
               int64_t connectivity) {
  return DeviceBarrier(image, seeds, mask, connectivity).barrier();
}

Tensor bottleneck(const Tensor& image, const Tensor& seeds, const std::optional<Tensor>& mask,
                  int64_t connectivity) {
  return DeviceBarrier(image, seeds, mask, connectivity).bottleneck();
}

}  // namespace
}  // namespace medkern

MEDKERN_DEVICE_LIBRARY(m) {
  m.impl("minimum_barrier_distance", TORCH_BOX(&medkern::barrier));
  m.impl("max_distance_along_path", TORCH_BOX(&medkern::bottleneck));
}
