// Launching the sums of segmentation losses, and the choice by dtype.
#include "for_float_type.cuh"
#include "segmentation.cuh"
#include "segmentation.hpp"

namespace medkern {

namespace MEDKERN_ISA {

template <class S, bool softmax>
struct SegmentationKind {
  using Logit = S;
  static constexpr bool kSoftmax = softmax;
};

// Calls run(SegmentationKind<S, softmax>).
template <class Run>
LaunchError for_segmentation_kind(const SegmentationArrays& a, Run run) {
  return for_float_type(a.logit_type, [&](auto zero) {
    using S = decltype(zero);
    return a.softmax ? run(SegmentationKind<S, true>{}) : run(SegmentationKind<S, false>{});
  });
}

}  // namespace MEDKERN_ISA

LaunchError launch_segmentation_forward(const SegmentationArrays& a, double* partial, double* sums,
                                        Stream stream) {
  using namespace MEDKERN_ISA;
  if (a.batch == 0) return {};
  const int64_t parts = segmentation_parts(a.pixels);
  if (a.batch * parts > INT32_MAX || a.batch * a.classes > INT32_MAX)
    return LaunchError("the batch exceeds 2^31 blocks");
  const LaunchError error = for_segmentation_kind(a, [&](auto kind) {
    using Kind = decltype(kind);
    if (parts == 0) return LaunchError();
    MEDKERN_LAUNCH((segmentation_fwd_parts_kernel<typename Kind::Logit, Kind::kSoftmax>),
                   static_cast<unsigned>(a.batch * parts), kThreads, 0, stream, a, parts, partial);
    return launch_error();
  });
  if (!error.ok()) return error;
  MEDKERN_LAUNCH(segmentation_fwd_total_kernel, static_cast<unsigned>(a.batch * a.classes),
                 kThreads, 0, stream, partial, a.classes, parts, sums);
  return launch_error();
}

LaunchError launch_segmentation_backward(const SegmentationArrays& a, const double* weights,
                                         void* grad, Stream stream) {
  using namespace MEDKERN_ISA;
  const int64_t count = a.batch * a.pixels;
  if (count == 0) return {};
  return for_segmentation_kind(a, [&](auto kind) {
    using Kind = decltype(kind);
    using S = typename Kind::Logit;
    MEDKERN_LAUNCH((segmentation_bwd_kernel<S, Kind::kSoftmax>), blocks_for(count), kThreads, 0,
                   stream, a, weights, static_cast<S*>(grad));
    return launch_error();
  });
}

}  // namespace medkern
