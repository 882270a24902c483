// Launching the joint histogram, and the choice by dtype.
#include "for_float_type.cuh"
#include "joint_histogram.cuh"

namespace medkern {

namespace MEDKERN_ISA {

// Calls run(threads, shared bytes) once the kernel may have them.
template <class Kernel, class Run>
LaunchError with_memory(Kernel kernel, const JointHistogramProblem& p,
                        const JointHistogramLayout& layout, Run run) {
  if (p.batch * layout.parts > INT32_MAX) return LaunchError("the batch exceeds 2^31 blocks");
  const size_t bytes = layout.shared ? static_cast<size_t>(layout.bytes()) : 0;
  if (bytes > 48 * 1024) {
    const LaunchError refused = allow_dynamic_shared(kernel, bytes);
    if (!refused.ok()) return refused;
  }
  run(static_cast<unsigned>(layout.warps * kLanes), bytes);
  return launch_error();
}

inline double scale_of(const JointHistogramProblem& p) {
  return 1 / static_cast<double>(std::max<int64_t>(p.voxels, 1));
}

}  // namespace MEDKERN_ISA

LaunchError launch_joint_histogram(const JointHistogramProblem& p, void* out, void* workspace,
                                   Stream stream) {
  using namespace MEDKERN_ISA;
  if (p.batch == 0) return {};
  const JointHistogramLayout layout(p, false);
  return for_float_type(p.type, [&](auto zero) {
    using S = decltype(zero);
    const auto kernel = joint_histogram_fwd_kernel<S>;
    const auto run = [&](unsigned threads, size_t bytes) {
      MEDKERN_LAUNCH(kernel, static_cast<unsigned>(p.batch * layout.parts), threads, bytes, stream,
                     p, layout, layout.shared ? nullptr : static_cast<double*>(workspace));
    };
    const LaunchError error = with_memory(kernel, p, layout, run);
    if (!error.ok()) return error;
    MEDKERN_LAUNCH(joint_histogram_fwd_total_kernel<Compute<S>>,
                   blocks_for(p.batch * p.window.bins * p.window.bins), kThreads, 0, stream, p,
                   layout.parts, layout.pitch, scale_of(p), static_cast<Compute<S>*>(out));
    return launch_error();
  });
}

LaunchError launch_joint_histogram_backward(const JointHistogramProblem& p, const void* pulls,
                                            void* workspace, Stream stream) {
  using namespace MEDKERN_ISA;
  if (p.batch * p.voxels == 0) return {};
  const JointHistogramLayout layout(p, true);
  return for_float_type(p.type, [&](auto zero) {
    using S = decltype(zero);
    const auto kernel = joint_histogram_bwd_kernel<S>;
    return with_memory(kernel, p, layout, [&](unsigned threads, size_t bytes) {
      MEDKERN_LAUNCH(kernel, static_cast<unsigned>(p.batch * layout.parts), threads, bytes, stream,
                     p, layout, static_cast<const Compute<S>*>(pulls), scale_of(p),
                     layout.shared ? nullptr : static_cast<double*>(workspace));
    });
  });
}

}  // namespace medkern
