#include "binding/haar.hpp"

#include "core/common/cache.hpp"

namespace medkern {
namespace {

struct Cpu {
  static void run(HaarProblem& p, HaarMode mode, bool adjoint, HaarDType dtype, int ndim,
                  const Tensor& out) {
    p.streams = out.numel() * static_cast<int64_t>(out.element_size()) >= streaming_bytes();
    const HaarKernel kernel = haar_kernel(mode, adjoint, dtype, ndim, haar_row(p));
    const int64_t per_unit = p.size[2] * (p.channels_last ? p.channels : 1) << (ndim - 1);
    parallel_units(haar_units(p), per_unit,
                   [&](int64_t begin, int64_t end) { kernel(p, begin, end); });
  }
};

}  // namespace
}  // namespace medkern

STABLE_TORCH_LIBRARY_IMPL(medkern, CPU, m) {
  using medkern::Cpu;
  using medkern::HaarOps;
  MEDKERN_REGISTER_HAAR(m, Cpu);
}
