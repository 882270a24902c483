#include "core/haar.hpp"

#include <string>

#include "common.hpp"
#include "core/common/cache.hpp"

namespace medkern {
namespace {

HaarDType haar_dtype(const py::array& a) {
  if (a.dtype().kind() == 'f') {
    if (a.itemsize() == 2) return HaarDType::float16;
    if (a.itemsize() == 4) return HaarDType::float32;
    if (a.itemsize() == 8) return HaarDType::float64;
  }
  throw std::invalid_argument("array must be float16, float32 or float64");
}

struct Lifting {
  HaarDType dtype;
  py::dtype fine, coarse;
};

Lifting lifting(bool bytes) {
  if (bytes) return {HaarDType::uint8, py::dtype::of<uint8_t>(), py::dtype::of<int16_t>()};
  return {HaarDType::int16, py::dtype::of<int16_t>(), py::dtype::of<int32_t>()};
}

bool is(const py::array& a, char kind, int bytes) {
  return a.dtype().kind() == kind && a.itemsize() == bytes;
}

// Strides, in elements, of a C-contiguous [batch, channel, (band,) D, H, W].
HaarView view_of(const py::array& a, int64_t channels, int64_t bands, const int64_t (&space)[3]) {
  HaarView view;
  view.data = const_cast<void*>(a.data());
  view.space[2] = 1;
  view.space[1] = space[2];
  view.space[0] = space[1] * space[2];
  view.band = space[0] * space[1] * space[2];
  view.channel = view.band * bands;
  view.batch = view.channel * channels;
  return view;
}

HaarProblem problem(int64_t batch, int64_t channels, const std::vector<int64_t>& size, int pad) {
  HaarProblem p;
  p.batch = batch;
  p.channels = channels;
  p.pad = static_cast<Pad>(pad);
  for (size_t i = 0; i < size.size(); ++i) {
    const size_t axis = 3 - size.size() + i;
    p.size[axis] = size[i];
    p.half[axis] = size[i] / 2 + size[i] % 2;
  }
  return p;
}

void run(HaarProblem& p, const py::array& out, HaarMode mode, bool adjoint, HaarDType dtype,
         int ndim, int threads) {
  p.streams = out.nbytes() >= streaming_bytes();
  const HaarKernel kernel = haar_kernel(mode, adjoint, dtype, ndim, haar_row(p));
  const int64_t units = haar_units(p);
  if (units == 0) return;
  py::gil_scoped_release release;
  OwnThreads(threads).run(units, 1, [&](int64_t begin, int64_t end) { kernel(p, begin, end); });
}

void check_input(const py::array& a, int64_t axes, int ndim) {
  require(ndim >= 1 && ndim <= 3, "ndim must be 1, 2 or 3");
  require(a.ndim() == axes, "array has the wrong number of axes");
  require(a.flags() & py::array::c_style, "array must be C-contiguous");
  for (int i = 0; i < ndim; ++i)
    require(a.shape(axes - 1 - i) > 0, "spatial axes must not be empty");
}

// x: [B, C, *size] -> [B, C, 2**ndim, *half]
py::array haar_dwt(const py::array& x, int ndim, int pad, int threads) {
  check_input(x, 2 + ndim, ndim);
  HaarProblem p = problem(x.shape(0), x.shape(1), shape_of(x, 2, ndim), pad);
  const int bands = 1 << ndim;
  const bool lift = is(x, 'u', 1) || is(x, 'i', 2);
  const Lifting integer = lifting(x.itemsize() == 1);
  std::vector<py::ssize_t> shape{x.shape(0), x.shape(1), bands};
  shape.insert(shape.end(), p.half + 3 - ndim, p.half + 3);
  py::array y(lift ? integer.coarse : x.dtype(), shape);
  p.x = view_of(x, p.channels, 1, p.size);
  p.y = view_of(y, p.channels, bands, p.half);
  const HaarDType dtype = lift ? integer.dtype : haar_dtype(x);
  run(p, y, lift ? HaarMode::lift : HaarMode::dwt, false, dtype, ndim, threads);
  return y;
}

// bands: [B, C, 2**ndim, *half] -> [B, C, *size]
py::array haar_idwt(const py::array& bands, const std::vector<int64_t>& size, int threads) {
  const int ndim = static_cast<int>(size.size());
  check_input(bands, 3 + ndim, ndim);
  HaarProblem p = problem(bands.shape(0), bands.shape(1), size, static_cast<int>(Pad::zero));
  require(shape_of(bands, 3, ndim) == std::vector<int64_t>(p.half + 3 - ndim, p.half + 3) &&
              bands.shape(2) == 1 << ndim,
          "bands do not fit the size");
  const bool lift = is(bands, 'i', 2) || is(bands, 'i', 4);
  const Lifting integer = lifting(bands.itemsize() == 2);
  std::vector<py::ssize_t> shape{bands.shape(0), bands.shape(1)};
  shape.insert(shape.end(), size.begin(), size.end());
  py::array x(lift ? integer.fine : bands.dtype(), shape);
  p.x = view_of(x, p.channels, 1, p.size);
  p.y = view_of(bands, p.channels, 1 << ndim, p.half);
  const HaarDType dtype = lift ? integer.dtype : haar_dtype(bands);
  run(p, x, lift ? HaarMode::lift : HaarMode::dwt, true, dtype, ndim, threads);
  return x;
}

HaarMode pool_mode(const std::string& mode) {
  if (mode == "ll") return HaarMode::ll;
  if (mode == "iewa") return HaarMode::iewa;
  if (mode == "all") return HaarMode::all;
  if (mode == "bands") return HaarMode::dwt;
  require(mode == "max_concat", "mode must be ll, iewa, all, bands or max_concat");
  return HaarMode::max_concat;
}

// x: [B, C, *size] -> [B, outputs * C, *half]
py::array haar_pool(const py::array& x, const std::string& mode_name, int ndim, int pad,
                    int threads) {
  check_input(x, 2 + ndim, ndim);
  const HaarMode mode = pool_mode(mode_name);
  HaarProblem p = problem(x.shape(0), x.shape(1), shape_of(x, 2, ndim), pad);
  const int outputs = haar_outputs(mode, ndim);
  std::vector<py::ssize_t> shape{x.shape(0), outputs * x.shape(1)};
  shape.insert(shape.end(), p.half + 3 - ndim, p.half + 3);
  py::array y(x.dtype(), shape);
  p.x = p.keys = view_of(x, p.channels, 1, p.size);
  p.y = view_of(y, outputs * p.channels, 1, p.half);
  p.y.band = p.channels * p.y.channel;
  run(p, y, mode, false, haar_dtype(x), ndim, threads);
  return y;
}

}  // namespace

void bind_haar(py::module_& m) {
  using namespace pybind11::literals;
  m.def("haar_dwt", &haar_dwt, "x"_a, "ndim"_a, "pad"_a, "threads"_a);
  m.def("haar_idwt", &haar_idwt, "bands"_a, "size"_a, "threads"_a);
  m.def("haar_pool", &haar_pool, "x"_a, "mode"_a, "ndim"_a, "pad"_a, "threads"_a);
}

}  // namespace medkern
