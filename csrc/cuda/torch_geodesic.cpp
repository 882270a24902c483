#include "binding/geodesic.hpp"
#include "cuda/device_tensors.hpp"
#include "cuda/geodesic.hpp"

namespace medkern {
namespace {

void check_edges(const GeodesicProblem& p) {
  STD_TORCH_CHECK(
      p.lam >= 0 && std::isfinite(p.lam) && (p.lam <= 1 || p.metric == GeodesicMetric::geos),
      "lam must be in [0, 1], or finite and not negative for geos");
  STD_TORCH_CHECK(uses_channels(p.metric) || p.channels == 1,
                  "metric mcp and node need one channel");
}

// A problem on the device, and the rows of its spacing there.
class DeviceProblem {
 public:
  DeviceProblem(const Tensor& image, const Tensor& starts, const std::optional<Tensor>& mask,
                const Tensor& spacing, double lam, const std::string& metric,
                const std::string& channel_norm, int64_t connectivity)
      : input_(image, starts, mask, host_copy(spacing), lam, metric, channel_norm, connectivity),
        rows_(device_spacing(spacing, image, image.dim() - 2)),
        connectivity_(static_cast<int>(connectivity)) {
    check_edges(input_.problem);
  }

  bool empty() const { return input_.empty(); }
  bool float64() const { return input_.float64(); }

  GeodesicArrays arrays(void* distance, double limit) const {
    const GeodesicProblem& p = input_.problem;
    return {p.image,  p.starts,      p.mask,     static_cast<const double*>(rows_.data_ptr()),
            distance, p.batch,       p.channels, p.classes,
            p.grid,   connectivity_, p.metric,   p.norm,
            p.lam,    limit};
  }

 private:
  const GeodesicInput input_;
  const Tensor rows_;
  const int connectivity_;
};

Tensor solve(const Tensor& image, const Tensor& starts, const std::optional<Tensor>& mask,
             const Tensor& spacing, double lam, const std::string& metric,
             const std::string& channel_norm, int64_t connectivity, double limit,
             const std::string& method, unsigned* rounds) {
  STD_TORCH_CHECK(limit >= 0, "limit must not be negative or NaN");
  STD_TORCH_CHECK(parse_geodesic_method(method) != GeodesicMethod::raster,
                  "method must not be raster on a GPU, where all methods are one, and exact");
  const DeviceScope scope(image);
  const DeviceProblem problem(image, starts, mask, spacing, lam, metric, channel_norm,
                              connectivity);
  const Tensor out = empty_of(starts, starts.scalar_type());
  if (problem.empty()) return out;
  const GeodesicArrays arrays = problem.arrays(out.data_ptr(), limit);
  const Tensor workspace = device_bytes(out, geodesic_workspace_bytes(arrays));
  check_launch(
      launch_geodesic(arrays, problem.float64(), workspace.data_ptr(), scope.stream(), rounds));
  return out;
}

Tensor distance(const Tensor& image, const Tensor& starts, const std::optional<Tensor>& mask,
                const Tensor& spacing, double lam, const std::string& metric,
                const std::string& channel_norm, int64_t connectivity, double limit,
                const std::string& method, int64_t) {
  return solve(image, starts, mask, spacing, lam, metric, channel_norm, connectivity, limit, method,
               nullptr);
}

// Rounds are those of the whole batch, which is solved at once.
std::tuple<Tensor, Tensor> info(const Tensor& image, const Tensor& starts,
                                const std::optional<Tensor>& mask, const Tensor& spacing,
                                double lam, const std::string& metric,
                                const std::string& channel_norm, int64_t connectivity, double limit,
                                const std::string& method, int64_t) {
  unsigned rounds = 0;
  const Tensor out = solve(image, starts, mask, spacing, lam, metric, channel_norm, connectivity,
                           limit, method, &rounds);
  const int64_t code =
      static_cast<int64_t>(GeodesicMethod::tiles) - static_cast<int64_t>(GeodesicMethod::bucket);
  const double row[4] = {static_cast<double>(code), static_cast<double>(rounds), 1, 0};
  Tensor info = empty_strided(starts, {starts.size(0), starts.size(1), 4},
                              {4 * starts.size(1), 4, 1}, ScalarType::Double);
  for (int64_t k = 0; k < 4; ++k) {
    Tensor column = torch::stable::select(info, 2, k);
    torch::stable::fill_(column, row[k]);
  }
  return {out, info};
}

Tensor parents(const Tensor& distance, const Tensor& image, const Tensor& starts,
               const std::optional<Tensor>& mask, const Tensor& spacing, double lam,
               const std::string& metric, const std::string& channel_norm, int64_t connectivity) {
  STD_TORCH_CHECK(GeodesicInput::shape_of(distance) == GeodesicInput::shape_of(starts) &&
                      distance.scalar_type() == starts.scalar_type(),
                  "distance must have the shape and dtype of starts");
  const DeviceScope scope(image);
  const DeviceProblem problem(image, starts, mask, spacing, lam, metric, channel_norm,
                              connectivity);
  const Tensor out = empty_of(starts, ScalarType::Long);
  if (problem.empty()) return out;
  const Tensor read = torch::stable::contiguous(distance);
  const GeodesicArrays arrays = problem.arrays(read.data_ptr(), 0);
  const Tensor workspace = device_bytes(out, geodesic_parents_workspace_bytes(arrays));
  check_launch(launch_geodesic_parents(arrays, static_cast<int64_t*>(out.data_ptr()),
                                       problem.float64(), workspace.data_ptr(), scope.stream()));
  return out;
}

Tensor pull(const Tensor& flow, const Tensor& parents, const Tensor& image, const Tensor& spacing,
            double lam, const std::string& metric, const std::string& channel_norm) {
  const DeviceScope scope(image);
  PullInput input(flow, parents, image, host_copy(spacing), lam, metric, channel_norm);
  const Tensor out = empty_of(image, image.scalar_type());
  if (out.numel() == 0) return out;
  const Tensor rows = device_spacing(spacing, image, image.dim() - 2);
  input.problem.spacing = static_cast<const double*>(rows.data_ptr());
  input.problem.grad = out.data_ptr();
  check_launch(launch_geodesic_pull(input.problem, input.float64(), scope.stream()));
  return out;
}

struct DeviceTrees {
  template <class T>
  static void tree(TreeOp op, const void* values, const int64_t* parents, const Tensor& out,
                   int64_t samples, int64_t voxels) {
    const DeviceScope scope(out);
    const bool float64 = sizeof(T) == 8;
    const Tensor workspace = device_bytes(out, tree_workspace_bytes(op, samples, voxels, float64));
    check_launch(launch_trees(op, values, parents, out.data_ptr(), samples, voxels, float64,
                              workspace.data_ptr(), scope.stream()));
  }
};

}  // namespace
}  // namespace medkern

MEDKERN_DEVICE_LIBRARY(m) {
  using namespace medkern;
  m.impl("geodesic_distance", TORCH_BOX(&distance));
  m.impl("_geodesic_info", TORCH_BOX(&info));
  m.impl("_geodesic_parents", TORCH_BOX(&parents));
  m.impl("_geodesic_pull", TORCH_BOX(&pull));
  m.impl("_tree_paths", TORCH_BOX(&GeodesicOps<DeviceTrees>::tree_paths));
  m.impl("_tree_subtrees", TORCH_BOX(&GeodesicOps<DeviceTrees>::tree_subtrees));
  m.impl("_tree_roots", TORCH_BOX(&GeodesicOps<DeviceTrees>::tree_roots));
}
