#include <string>
#include <vector>

#include "common.hpp"
#include "core/barrier_run.hpp"

namespace medkern {
namespace {

// image [B, C, *space], seeds [B, K, *space] bool, mask [B, 1, *space] bool or None; C-contiguous.
class Inputs {
 public:
  Inputs(const py::array& image, const py::array& seeds, const py::object& mask, int connectivity)
      : image_(image), seeds_(seeds), connectivity_(connectivity) {
    require(image.ndim() >= 3 && image.ndim() <= 5, "image must be [B, C, *space]");
    require(image.flags() & py::array::c_style, "image must be C-contiguous");
    require(image.shape(1) > 0, "image must have a channel");
    const int ndim = static_cast<int>(image.ndim()) - 2;
    require(connectivity >= 1 && connectivity <= ndim, "connectivity must be 1 to ndim");
    for (int i = 0; i < ndim; ++i) {
      require(image.shape(2 + i) > 0, "spatial axes must not be empty");
      grid_.size[3 - ndim + i] = image.shape(2 + i);
    }
    check_flags(seeds);
    if (mask.is_none()) return;
    mask_ = py::reinterpret_borrow<py::array>(mask);
    require(py::isinstance<py::array>(mask), "mask must be an array");
    check_flags(mask_);
    require(mask_.shape(1) == 1, "mask must have one channel");
    masked_ = true;
  }

  int64_t channels() const { return image_.shape(1); }

  template <class T>
  BarrierProblem<T> problem() const {
    return {static_cast<const T*>(image_.data()),
            static_cast<const bool*>(seeds_.data()),
            masked_ ? static_cast<const bool*>(mask_.data()) : nullptr,
            image_.shape(0),
            seeds_.shape(1),
            channels(),
            grid_,
            connectivity_};
  }

  // body(problem) without the GIL, for the dtype of the image.
  template <class Body>
  void dispatch(const Body& body) const {
    const char kind = image_.dtype().kind();
    const auto bytes = image_.itemsize();
    const auto run = [&](const auto& problem) {
      py::gil_scoped_release release;
      body(problem);
    };
    if (kind == 'u' && bytes == 1) return run(problem<uint8_t>());
    if (kind == 'i' && bytes == 2) return run(problem<int16_t>());
    if (kind == 'u' && bytes == 2) return run(problem<uint16_t>());
    if (kind == 'f' && bytes == 4) return run(problem<float>());
    require(kind == 'f' && bytes == 8, "image must be uint8, int16, uint16, float32 or float64");
    run(problem<double>());
  }

  py::array allocate(py::ssize_t axes) const {
    std::vector<py::ssize_t> shape(image_.shape(), image_.shape() + axes);
    shape[1] = seeds_.shape(1);
    const bool wide = image_.dtype().kind() == 'f' && image_.itemsize() == 8;
    return py::array(wide ? py::dtype::of<double>() : py::dtype::of<float>(), shape);
  }
  py::array allocate() const { return allocate(image_.ndim()); }

 private:
  void check_flags(const py::array& a) const {
    require(a.dtype().kind() == 'b' && a.flags() & py::array::c_style,
            "seeds and mask must be C-contiguous bool");
    require(a.ndim() == image_.ndim(), "seeds and mask must have as many axes as image");
    for (py::ssize_t i = 0; i < a.ndim(); ++i) {
      require(i == 1 || a.shape(i) == image_.shape(i), "seeds and mask must fit image");
    }
  }

  py::array image_, seeds_, mask_;
  bool masked_ = false;
  int connectivity_;
  Grid grid_;
};

template <class T>
BarrierValue<T>* values(const BarrierProblem<T>&, void* data) {
  return static_cast<BarrierValue<T>*>(data);
}

py::array minimum_barrier_distance(const py::array& image, const py::array& seeds,
                                   const py::object& mask, int connectivity, int threads) {
  const Inputs inputs(image, seeds, mask, connectivity);
  require(inputs.channels() == 1, "image must have one channel");
  py::array distance = inputs.allocate();
  void* data = distance.mutable_data();
  const OwnThreads parallel(threads);
  inputs.dispatch([&](const auto& p) { minimum_barrier(p, values(p, data), parallel); });
  return distance;
}

py::array max_distance_along_path(const py::array& image, const py::array& seeds,
                                  const py::object& mask, int connectivity, int threads) {
  const Inputs inputs(image, seeds, mask, connectivity);
  require(inputs.channels() == 1, "image must have one channel");
  py::array distance = inputs.allocate();
  void* data = distance.mutable_data();
  const OwnThreads parallel(threads);
  inputs.dispatch([&](const auto& p) { bottleneck_distance(p, values(p, data), parallel); });
  return distance;
}

// (distance, half scans): see BarrierRaster::run.
py::tuple barrier_raster(const py::array& image, const py::array& seeds, const py::object& mask,
                         int connectivity, int64_t most, int threads) {
  const Inputs inputs(image, seeds, mask, connectivity);
  require(inputs.channels() == 1, "image must have one channel");
  py::array distance = inputs.allocate(), scans = inputs.allocate(2);
  void *to = distance.mutable_data(), *count = scans.mutable_data();
  const OwnThreads parallel(threads);
  inputs.dispatch(
      [&](const auto& p) { raster_barrier(p, most, values(p, to), values(p, count), parallel); });
  return py::make_tuple(distance, scans);
}

BarrierNorm parse_norm(const std::string& norm) {
  if (norm == "l1") return BarrierNorm::l1;
  if (norm == "l2") return BarrierNorm::l2;
  require(norm == "linf", "norm must be l1, l2 or linf");
  return BarrierNorm::linf;
}

py::array barrier_vectorial(const py::array& image, const py::array& seeds, const py::object& mask,
                            int connectivity, const std::string& norm, int threads) {
  const Inputs inputs(image, seeds, mask, connectivity);
  const BarrierNorm parsed = parse_norm(norm);
  py::array distance = inputs.allocate();
  void* data = distance.mutable_data();
  const OwnThreads parallel(threads);
  inputs.dispatch([&](const auto& p) { vectorial_barrier(p, parsed, values(p, data), parallel); });
  return distance;
}

}  // namespace

void bind_barrier(py::module_& m) {
  using namespace pybind11::literals;
  m.def("minimum_barrier_distance", &minimum_barrier_distance, "image"_a, "seeds"_a, "mask"_a,
        "connectivity"_a, "threads"_a);
  m.def("max_distance_along_path", &max_distance_along_path, "image"_a, "seeds"_a, "mask"_a,
        "connectivity"_a, "threads"_a);
  m.def("barrier_raster", &barrier_raster, "image"_a, "seeds"_a, "mask"_a, "connectivity"_a,
        "iterations"_a, "threads"_a);
  m.def("barrier_vectorial", &barrier_vectorial, "image"_a, "seeds"_a, "mask"_a, "connectivity"_a,
        "norm"_a, "threads"_a);
}

}  // namespace medkern
