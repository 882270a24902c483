// Launching the local normalised cross-correlation, and the choice by dtype.
#include "for_float_type.cuh"
#include "local_ncc.cuh"

namespace medkern {

namespace MEDKERN_ISA {

// Launches a kernel of tiles with the shared memory it needs, or its workspace.
template <class Kernel>
LaunchError launch_tiles(Kernel kernel, const LocalNccProblem& p, int64_t volumes, int sums,
                         void* workspace, Stream stream) {
  const LocalNccFrames f(p);
  const int64_t tiles = volumes * f.per_volume();
  if (tiles > INT32_MAX) return LaunchError("the images exceed 2^31 tiles");
  const size_t bytes = f.shared() ? static_cast<size_t>(f.bytes(sums)) : 0;
  if (bytes > 48 * 1024) {
    // Block sums come on top of it.
    const LaunchError refused = allow_dynamic_shared(kernel, bytes + 1024);
    if (!refused.ok()) return refused;
  }
  MEDKERN_LAUNCH(kernel, static_cast<unsigned>(tiles), kThreads, bytes, stream, p, f,
                 f.shared() ? nullptr : static_cast<double*>(workspace));
  return launch_error();
}

}  // namespace MEDKERN_ISA

LaunchError launch_local_ncc(const LocalNccProblem& p, void* means, void* workspace,
                             Stream stream) {
  using namespace MEDKERN_ISA;
  if (p.volumes == 0) return {};
  return for_float_type(p.type, [&](auto zero) {
    using S = decltype(zero);
    const LaunchError error =
        launch_tiles(local_ncc_fwd_kernel<S>, p, p.volumes, 5, workspace, stream);
    if (!error.ok() || p.map != nullptr) return error;
    MEDKERN_LAUNCH(local_ncc_fwd_mean_kernel<Compute<S>>, static_cast<unsigned>(p.volumes),
                   kThreads, 0, stream, p.sums, LocalNccFrames(p).per_volume(),
                   static_cast<double>(p.voxels()), static_cast<Compute<S>*>(means));
    return launch_error();
  });
}

LaunchError launch_local_ncc_backward(const LocalNccProblem& p, int64_t volumes, void* workspace,
                                      Stream stream) {
  using namespace MEDKERN_ISA;
  if (volumes == 0) return {};
  return for_float_type(p.type, [&](auto zero) {
    using S = decltype(zero);
    const LaunchError error =
        launch_tiles(local_ncc_bwd_coefficients_kernel<S>, p, volumes, 5, workspace, stream);
    if (!error.ok()) return error;
    return p.both ? launch_tiles(local_ncc_bwd_kernel<S, 5>, p, volumes, 5, workspace, stream)
                  : launch_tiles(local_ncc_bwd_kernel<S, 3>, p, volumes, 3, workspace, stream);
  });
}

}  // namespace medkern
