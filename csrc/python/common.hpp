// What the bindings of every family need: threads, Ctrl-C, checks.
//
// medkern.numpy checks arguments, makes arrays C-contiguous and calls these functions. The GIL is
// released while they compute; threads are started per call, so that forked children are safe.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>

#include "core/common/parallel.hpp"

namespace medkern {

namespace py = pybind11;

// Threads of one call. Make it, and run kernels with it, on the thread that Python called.
class OwnThreads final : public Parallel {
 public:
  explicit OwnThreads(int threads) : threads_(std::max(threads, 1)) {}

  int threads() const override { return threads_; }

  void run(int64_t units, int64_t grain, const Body& body) const override {
    if (units <= 0) return;
    const int64_t most = std::max<int64_t>(units / std::max<int64_t>(grain, 1), 1);
    const int64_t workers = std::min<int64_t>(threads_, most);
    const auto share = [&](int64_t i) { body(units * i / workers, units * (i + 1) / workers); };
    std::vector<std::thread> pool;
    try {
      for (int64_t i = 1; i < workers; ++i) pool.emplace_back(share, i);
    } catch (const std::system_error&) {
      // No more threads to be had: this one does the rest.
    }
    share(0);
    for (int64_t i = static_cast<int64_t>(pool.size()) + 1; i < workers; ++i) share(i);
    for (std::thread& thread : pool) thread.join();
  }

  bool interrupted() const override {
    py::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() == 0) return false;
    PyErr_Clear();  // raised again, as KeyboardInterrupt, from Interrupted
    return true;
  }

 private:
  int threads_;
};

inline void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

inline std::vector<int64_t> shape_of(const py::array& a, int first, int ndim) {
  return {a.shape() + first, a.shape() + first + ndim};
}

// One function per family, in csrc/python/<family>.cpp.
<<<<<<< HEAD
void bind_geodesic(py::module_& m);
=======
void bind_euclidean(py::module_& m);
>>>>>>> euclid
void bind_haar(py::module_& m);

}  // namespace medkern
