#include "core/haar_kernels.hpp"
#include "isa/selector.hpp"

namespace medkern {
namespace {

// The widest variant, of those allowed, whose vectors of `compute_bytes` fit into a row.
[[maybe_unused]] Isa fitting_isa(int64_t row, int compute_bytes) {
  const Isa isa = active_isa();
  if (isa == Isa::avx512 && row >= 64 / compute_bytes) return Isa::avx512;
  if (isa != Isa::baseline && row >= 32 / compute_bytes) return Isa::avx2;
  return Isa::baseline;
}

[[maybe_unused]] int compute_bytes(HaarDType dtype) {
  if (dtype == HaarDType::uint8) return 2;
  return dtype == HaarDType::float64 ? 8 : 4;
}

}  // namespace
}  // namespace medkern

MEDKERN_SELECTOR_OF(fitting_isa(row, compute_bytes(dtype)), HaarKernel, haar_kernel,
                    (HaarMode mode, bool adjoint, HaarDType dtype, int ndim, int64_t row),
                    (HaarMode mode, bool adjoint, HaarDType dtype, int ndim),
                    (mode, adjoint, dtype, ndim))
