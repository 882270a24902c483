// medkern._core: the kernels for NumPy arrays, without torch.
#include "common.hpp"
#include "isa/isa.hpp"

PYBIND11_MODULE(_core, m) {
  using namespace pybind11::literals;
  m.doc() = "medkern kernels on NumPy arrays; use them through medkern.numpy.";
  pybind11::register_exception_translator([](std::exception_ptr error) {
    try {
      std::rethrow_exception(error);
    } catch (const medkern::Interrupted&) {
      PyErr_SetNone(PyExc_KeyboardInterrupt);
    }
  });
<<<<<<< HEAD
  medkern::bind_geodesic(m);
=======
  medkern::bind_euclidean(m);
>>>>>>> euclid
  medkern::bind_haar(m);
  m.def("isas", &medkern_isas);
  m.def("active_isa", &medkern_active_isa);
  m.def("set_isa", &medkern_set_isa, "name"_a);
}
