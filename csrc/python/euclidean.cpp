#include "core/euclidean.hpp"

#include "common.hpp"

namespace medkern {
namespace {

// labels: [B, K, *space], spacing: [B, ndim] float64 -> distance, and nearest if asked for.
py::object distance_of(const py::array& labels, const py::array_t<double>& spacing, bool is_signed,
                       bool wide, bool indices, int threads) {
  const int ndim = static_cast<int>(labels.ndim()) - 2;
  const char kind = labels.dtype().kind();
  require(ndim >= 1 && ndim <= 3, "labels must be [B, K, *space] of 1 to 3 axes");
  require(labels.flags() & py::array::c_style, "labels must be C-contiguous");
  require(kind == 'b' || kind == 'i' || kind == 'u', "labels must be integers or bool");
  require(spacing.ndim() == 2 && spacing.shape(0) == labels.shape(0) && spacing.shape(1) == ndim,
          "spacing must be [B, ndim]");
  const std::vector<py::ssize_t> shape(labels.shape(), labels.shape() + labels.ndim());
  py::array distance(wide ? py::dtype::of<double>() : py::dtype::of<float>(), shape);
  py::array_t<int64_t> nearest(indices ? shape : std::vector<py::ssize_t>{0});

  std::vector<double> rows(static_cast<size_t>(labels.shape(0)) * 3, 1.0);
  for (py::ssize_t b = 0; b < labels.shape(0); ++b) {
    for (int i = 0; i < ndim; ++i) {
      require(spacing.at(b, i) > 0 && std::isfinite(spacing.at(b, i)), "spacing must be positive");
      rows[static_cast<size_t>(b * 3 + 3 - ndim + i)] = spacing.at(b, i);
    }
  }
  EuclideanProblem p;
  p.volumes = labels.shape(0) * labels.shape(1);
  for (int i = 0; i < ndim; ++i) p.size[3 - ndim + i] = labels.shape(2 + i);
  p.labels = labels.data();
  p.label_bytes = static_cast<int>(labels.itemsize());
  p.spacing = rows.data();
  p.sets = labels.shape(1);
  p.both_sides = is_signed;
  p.wide = wide;
  p.distance = distance.mutable_data();
  if (indices) p.nearest = nearest.mutable_data();
  {
    py::gil_scoped_release release;
    euclidean_distance(p, OwnThreads(threads));
  }
  if (!indices) return distance;
  return py::make_tuple(distance, nearest);
}

}  // namespace

void bind_euclidean(py::module_& m) {
  using namespace pybind11::literals;
  m.def("euclidean_distance", &distance_of, "labels"_a, "spacing"_a, "signed"_a, "float64"_a,
        "indices"_a, "threads"_a);
}

}  // namespace medkern
