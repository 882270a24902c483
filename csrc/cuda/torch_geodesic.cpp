// Only the distances: predecessors and their trees are the reference's on a GPU.
#include "binding/geodesic.hpp"
#include "cuda/device_tensors.hpp"
#include "cuda/geodesic.hpp"

namespace medkern {
namespace {

void check_solver(const GeodesicProblem& p, double limit, const std::string& method) {
  STD_TORCH_CHECK(
      p.lam >= 0 && std::isfinite(p.lam) && (p.lam <= 1 || p.metric == GeodesicMetric::geos),
      "lam must be in [0, 1], or finite and not negative for geos");
  STD_TORCH_CHECK(limit >= 0, "limit must not be negative or NaN");
  STD_TORCH_CHECK(uses_channels(p.metric) || p.channels == 1,
                  "metric mcp and node need one channel");
  STD_TORCH_CHECK(parse_geodesic_method(method) != GeodesicMethod::raster,
                  "method must not be raster on a GPU, where all methods are one, and exact");
}

Tensor distance(const Tensor& image, const Tensor& starts, const std::optional<Tensor>& mask,
                const Tensor& spacing, double lam, const std::string& metric,
                const std::string& channel_norm, int64_t connectivity, double limit,
                const std::string& method, int64_t) {
  const GeodesicInput input(image, starts, mask, host_copy(spacing), lam, metric, channel_norm,
                            connectivity);
  const GeodesicProblem& p = input.problem;
  check_solver(p, limit, method);
  const Tensor out = empty_of(starts, starts.scalar_type());
  if (input.empty()) return out;
  const DeviceScope scope(out);
  const Tensor rows = device_spacing(spacing, image, image.dim() - 2);
  const GeodesicArrays arrays{p.image,
                              p.starts,
                              p.mask,
                              static_cast<const double*>(rows.data_ptr()),
                              out.data_ptr(),
                              p.batch,
                              p.channels,
                              p.classes,
                              p.grid,
                              static_cast<int>(connectivity),
                              static_cast<GeodesicArrays::Metric>(p.metric),
                              static_cast<GeodesicArrays::Norm>(p.norm),
                              p.lam,
                              limit};
  const Tensor workspace = device_bytes(out, geodesic_workspace_bytes(arrays));
  check_launch(launch_geodesic(arrays, input.float64(), workspace.data_ptr(), scope.stream()));
  return out;
}

}  // namespace
}  // namespace medkern

MEDKERN_DEVICE_LIBRARY(m) { m.impl("geodesic_distance", TORCH_BOX(&medkern::distance)); }
