#include "binding/euclidean.hpp"

#include "binding/threads.hpp"

namespace medkern {
namespace {

struct Cpu {
  static void run(const EuclideanProblem& p) { euclidean_distance(p, TorchThreads()); }
};

}  // namespace
}  // namespace medkern

STABLE_TORCH_LIBRARY_IMPL(medkern, CPU, m) {
  using medkern::Cpu;
  using medkern::EuclideanOps;
  MEDKERN_REGISTER_EUCLIDEAN(m, Cpu);
}
