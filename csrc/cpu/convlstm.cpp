#include "binding/convlstm.hpp"

namespace medkern {
namespace {

struct OnCpu {
  static void run(const ConvLSTMGates& p, bool backward, FloatType type, const Tensor&) {
    const ConvLSTMKernel kernel = convlstm_gates_kernel(backward, type);
    const int64_t length = p.along_channels() ? p.hidden : p.voxels;
    parallel_units(convlstm_rows(p), 10 * length,
                   [&](int64_t begin, int64_t end) { kernel(p, begin, end); });
  }
};

}  // namespace
}  // namespace medkern

STABLE_TORCH_LIBRARY_IMPL(medkern, CPU, m) { medkern::ConvLSTMOps<medkern::OnCpu>::register_in(m); }
