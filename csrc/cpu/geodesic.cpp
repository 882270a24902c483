#include "binding/geodesic.hpp"

#include "binding/threads.hpp"

namespace medkern {
namespace {

struct Cpu {
  template <class T>
  static void solve(const GeodesicProblem& p) {
    geodesic_solve<T>(p, TorchThreads());
  }

  template <class T>
  static void parents(const GeodesicProblem& p) {
    geodesic_parents<T>(p, TorchThreads());
  }

  template <class T>
  static void pull(const PullProblem& p) {
    geodesic_pull<T>(p, TorchThreads());
  }

  template <class T>
  static void tree(TreeOp op, const void* values, const int64_t* parents, const Tensor& out,
                   int64_t samples, int64_t voxels) {
    run_trees(op, static_cast<const T*>(values), parents, out.data_ptr(), samples, voxels,
              TorchThreads());
  }
};

}  // namespace
}  // namespace medkern

STABLE_TORCH_LIBRARY_IMPL(medkern, CPU, m) {
  using medkern::Cpu;
  using medkern::GeodesicOps;
  MEDKERN_REGISTER_GEODESIC(m, Cpu);
}
