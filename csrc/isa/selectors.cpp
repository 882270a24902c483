// Every selector of kernels, in the variant for the instruction set in use.
//
// A family declares `Result selector(params)` in csrc/core/<family>.hpp, and defines it in
// namespace medkern::MEDKERN_ISA in what csrc/isa/<family>.cpp includes; the line here connects the
// two.
#include "core/boundary.hpp"
#include "core/convlstm.hpp"
#include "core/convlstm_winograd.hpp"
#include "core/correlation.hpp"
#include "core/euclidean.hpp"
#include "core/field.hpp"
#include "core/fourier.hpp"
#include "core/geodesic.hpp"
#include "core/haar.hpp"
#include "core/joint_histogram.hpp"
#include "core/joint_moments.hpp"
#include "core/local_ncc.hpp"
#include "core/segmentation.hpp"
#include "core/spectral.hpp"
#include "core/warp.hpp"
#include "isa/isa.hpp"

// `own` are the parameters of the variants, where they are not those of the selector.
#if defined(MEDKERN_X86)
#define MEDKERN_SELECTOR_OF(isa, Result, selector, params, own, args) \
  namespace baseline {                                                \
  Result selector own;                                                \
  }                                                                   \
  namespace avx2 {                                                    \
  Result selector own;                                                \
  }                                                                   \
  namespace avx512 {                                                  \
  Result selector own;                                                \
  }                                                                   \
  Result selector params {                                            \
    switch (isa) {                                                    \
      case Isa::avx512:                                               \
        return avx512::selector args;                                 \
      case Isa::avx2:                                                 \
        return avx2::selector args;                                   \
      default:                                                        \
        return baseline::selector args;                               \
    }                                                                 \
  }
#else
#define MEDKERN_SELECTOR_OF(isa, Result, selector, params, own, args) \
  namespace baseline {                                                \
  Result selector own;                                                \
  }                                                                   \
  Result selector params { return baseline::selector args; }
#endif
#define MEDKERN_SELECTOR(Result, selector, params, args) \
  MEDKERN_SELECTOR_OF(active_isa(), Result, selector, params, params, args)

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

MEDKERN_SELECTOR(BoundaryKernel, boundary_kernel, (bool backward, FloatType logits),
                 (backward, logits))
MEDKERN_SELECTOR(ConvLSTMKernel, convlstm_gates_kernel, (bool backward, FloatType type),
                 (backward, type))
MEDKERN_SELECTOR(WinogradKernels, winograd_kernels, (), ())
MEDKERN_SELECTOR(CorrelationKernel, correlation_kernel, (FloatType type), (type))
MEDKERN_SELECTOR(EuclideanKernels, euclidean_kernels, (int label_bytes, bool wide),
                 (label_bytes, wide))
MEDKERN_SELECTOR(FieldKernel, field_kernel, (FieldTask task, FloatType type), (task, type))
MEDKERN_SELECTOR(SpectrumKernels, spectrum_kernels, (bool float64, SpectrumLoss loss),
                 (float64, loss))
MEDKERN_SELECTOR(NoiseKernel, noise_kernel, (bool float64), (float64))
MEDKERN_SELECTOR(ModesKernels, modes_kernels, (bool float64), (float64))
MEDKERN_SELECTOR(GeodesicKernel, geodesic_parents_kernel, (bool float64), (float64))
MEDKERN_SELECTOR(GeodesicKernel, geodesic_solve_kernel, (bool float64), (float64))
MEDKERN_SELECTOR_OF(fitting_isa(row, compute_bytes(dtype)), HaarKernel, haar_kernel,
                    (HaarMode mode, bool adjoint, HaarDType dtype, int ndim, int64_t row),
                    (HaarMode mode, bool adjoint, HaarDType dtype, int ndim),
                    (mode, adjoint, dtype, ndim))
MEDKERN_SELECTOR(JointHistogramKernel, joint_histogram_kernel, (bool backward, FloatType type),
                 (backward, type))
MEDKERN_SELECTOR(JointMomentsKernel, joint_moments_kernel, (bool backward, FloatType type),
                 (backward, type))
MEDKERN_SELECTOR(LocalNccKernel, local_ncc_kernel, (LocalNccStage stage, FloatType type),
                 (stage, type))
MEDKERN_SELECTOR(SegmentationKernel, segmentation_kernel, (FloatType logits), (logits))
MEDKERN_SELECTOR(DftKernel, dft_kernel, (bool inverse, FloatType x), (inverse, x))
MEDKERN_SELECTOR(MixKernel, mix_kernel, (bool float64), (float64))
MEDKERN_SELECTOR(WarpCopyKernel, warp_copy_kernel, (int bytes, bool float64), (bytes, float64))
MEDKERN_SELECTOR(WarpKernels, warp_kernels, (WarpMode mode, FloatType type, int width),
                 (mode, type, width))

}  // namespace medkern
