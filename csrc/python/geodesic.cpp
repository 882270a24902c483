#include "core/geodesic.hpp"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common.hpp"
#include "core/geodesic_tree.hpp"

namespace medkern {
namespace {

bool is(const py::array& a, char kind, int bytes) {
  return a.dtype().kind() == kind && a.itemsize() == bytes && (a.flags() & py::array::c_style);
}

bool is_float(const py::array& a) { return is(a, 'f', 4) || is(a, 'f', 8); }

std::vector<py::ssize_t> shape_of(const py::array& a) { return {a.shape(), a.shape() + a.ndim()}; }

bool fits(const py::array& a, const py::array& image) {
  if (a.ndim() != image.ndim()) return false;
  for (int i = 0; i < a.ndim(); ++i) {
    if (i != 1 && a.shape(i) != image.shape(i)) return false;
  }
  return true;
}

// image: [B, C, *space], starts: [B, K, *space], mask: [B, 1, *space], spacing: [B, ndim];
// C-contiguous. Keeps the neighbours that the problem points to.
struct Input {
  GeodesicProblem problem;
  std::vector<Neighbour> neighbours;
  bool float64;

  Input(const py::array& image, const py::array& starts, const std::optional<py::array>& mask,
        const py::array& spacing, double lam, const std::string& metric,
        const std::string& channel_norm, int connectivity) {
    const int ndim = static_cast<int>(image.ndim()) - 2;
    require(ndim >= 1 && ndim <= 3, "image must be [B, C, *space] of 1 to 3 axes");
    require(is_float(image), "image must be C-contiguous float32 or float64");
    require(is(starts, 'f', static_cast<int>(image.itemsize())) && fits(starts, image),
            "starts must be C-contiguous, of the dtype of image, and fit it");
    require(is(spacing, 'f', 8) && spacing.ndim() == 2 && spacing.shape(0) == image.shape(0) &&
                spacing.shape(1) == ndim,
            "spacing must be float64 [B, ndim]");
    require(image.shape(1) > 0, "image must have a channel");
    for (int i = 0; i < ndim; ++i) {
      require(image.shape(2 + i) > 0, "spatial axes must not be empty");
      problem.grid.size[3 - ndim + i] = image.shape(2 + i);
    }
    require(connectivity >= 1 && connectivity <= ndim,
            "connectivity must be 1 to the number of axes");
    problem.batch = image.shape(0);
    problem.channels = image.shape(1);
    problem.classes = starts.shape(1);
    problem.metric = parse_geodesic_metric(metric);
    problem.norm = parse_channel_norm(channel_norm);
    problem.lam = lam;
    problem.image = image.data();
    problem.starts = starts.data();
    float64 = image.itemsize() == 8;
    if (mask) {
      require(is(*mask, 'b', 1) && fits(*mask, image) && mask->shape(1) == 1,
              "mask must be C-contiguous bool [B, 1, *space]");
      problem.mask = static_cast<const bool*>(mask->data());
    }
    neighbours = batch_neighbours(problem.grid, connectivity,
                                  static_cast<const double*>(spacing.data()), problem.batch, ndim);
    set_neighbours(problem, neighbours);
  }

  bool empty() const { return problem.batch * problem.classes == 0; }
};

// (distance [B, K, *space], info [B, K, 4]); see core/geodesic.hpp.
std::pair<py::array, py::array> geodesic_info(const py::array& image, const py::array& starts,
                                              const std::optional<py::array>& mask,
                                              const py::array& spacing, double lam,
                                              const std::string& metric,
                                              const std::string& channel_norm, int connectivity,
                                              double limit, const std::string& method,
                                              int64_t iterations, int threads) {
  Input input(image, starts, mask, spacing, lam, metric, channel_norm, connectivity);
  GeodesicProblem& p = input.problem;
  py::array distance(starts.dtype(), shape_of(starts));
  py::array_t<double> info(std::vector<py::ssize_t>{starts.shape(0), starts.shape(1), 4});
  p.limit = limit;
  p.method = parse_geodesic_method(method);
  p.iterations = iterations;
  p.distance = distance.mutable_data();
  p.info = info.mutable_data();
  if (input.empty()) return {distance, info};
  py::gil_scoped_release release;
  const OwnThreads own(threads);
  input.float64 ? geodesic_solve<double>(p, own) : geodesic_solve<float>(p, own);
  return {distance, info};
}

// int64 [B, K, *space].
py::array parents_of(const py::array& distance, const py::array& image, const py::array& starts,
                     const std::optional<py::array>& mask, const py::array& spacing, double lam,
                     const std::string& metric, const std::string& channel_norm, int connectivity,
                     int threads) {
  Input input(image, starts, mask, spacing, lam, metric, channel_norm, connectivity);
  require(is(distance, 'f', static_cast<int>(starts.itemsize())) &&
              shape_of(distance) == shape_of(starts),
          "distance must be C-contiguous, of the shape and dtype of starts");
  py::array_t<int64_t> parents(shape_of(starts));
  input.problem.distance = const_cast<void*>(distance.data());
  input.problem.parents = parents.mutable_data();
  if (input.empty()) return parents;
  py::gil_scoped_release release;
  const OwnThreads own(threads);
  input.float64 ? geodesic_parents<double>(input.problem, own)
                : geodesic_parents<float>(input.problem, own);
  return parents;
}

void run_tree(TreeOp op, const py::array* values, const py::array& parents, py::array& out,
              int threads) {
  require(is(parents, 'i', 8) && parents.ndim() >= 3,
          "parents must be C-contiguous int64 [B, K, *space]");
  if (parents.size() == 0) return;
  const int64_t samples = parents.shape(0) * parents.shape(1), voxels = parents.size() / samples;
  const auto* tree = static_cast<const int64_t*>(parents.data());
  const void* read = values ? values->data() : nullptr;
  void* write = out.mutable_data();
  const bool float64 = out.itemsize() == 8;
  py::gil_scoped_release release;
  const OwnThreads own(threads);
  if (float64) {
    run_trees(op, static_cast<const double*>(read), tree, write, samples, voxels, own);
  } else {
    run_trees(op, static_cast<const float*>(read), tree, write, samples, voxels, own);
  }
}

template <TreeOp Op>
py::array tree_sums(const py::array& values, const py::array& parents, int threads) {
  require(is_float(values) && shape_of(values) == shape_of(parents),
          "values must be C-contiguous float32 or float64 of the shape of parents");
  py::array out(values.dtype(), shape_of(values));
  run_tree(Op, &values, parents, out, threads);
  return out;
}

py::array tree_roots(const py::array& parents, int threads) {
  py::array out(py::dtype::of<int64_t>(), shape_of(parents));
  run_tree(TreeOp::roots, nullptr, parents, out, threads);
  return out;
}

}  // namespace

void bind_geodesic(py::module_& m) {
  using namespace pybind11::literals;
  m.def("geodesic_info", &geodesic_info, "image"_a, "starts"_a, "mask"_a, "spacing"_a, "lam"_a,
        "metric"_a, "channel_norm"_a, "connectivity"_a, "limit"_a, "method"_a, "iterations"_a,
        "threads"_a);
  m.def("geodesic_parents", &parents_of, "distance"_a, "image"_a, "starts"_a, "mask"_a, "spacing"_a,
        "lam"_a, "metric"_a, "channel_norm"_a, "connectivity"_a, "threads"_a);
  m.def("tree_paths", &tree_sums<TreeOp::paths>, "values"_a, "parents"_a, "threads"_a);
  m.def("tree_subtrees", &tree_sums<TreeOp::subtrees>, "values"_a, "parents"_a, "threads"_a);
  m.def("tree_roots", &tree_roots, "parents"_a, "threads"_a);
}

}  // namespace medkern
