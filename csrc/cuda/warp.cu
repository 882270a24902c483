// Copies of nearest neighbours, and the choice by dtype. One file per storage type, so that they
// compile in parallel.
#include "warp_launch.cuh"

namespace medkern {

namespace MEDKERN_ISA {

LaunchError launch_warp_half(WarpOp, const WarpLaunch&, void*, int64_t, Stream);
LaunchError launch_warp_bfloat16(WarpOp, const WarpLaunch&, void*, int64_t, Stream);
LaunchError launch_warp_float(WarpOp, const WarpLaunch&, void*, int64_t, Stream);
LaunchError launch_warp_double(WarpOp, const WarpLaunch&, void*, int64_t, Stream);

template <class C, class B>
LaunchError launch_warp_copy_of(const WarpLaunch& call, uint64_t lost, Stream stream) {
  const WarpProblem& p = call.problem;
  const int64_t groups = warp_groups(p), count = p.batch * groups * p.out_voxels();
  if (count == 0) return {};
  return for_warp_axes<1>(call, [&](auto shape) {
    MEDKERN_LAUNCH((warp_copy_fwd_kernel<C, B, decltype(shape)::axes>), blocks_for(count), kThreads,
                   0, stream, call, groups, static_cast<B>(lost));
    return launch_error();
  });
}

}  // namespace MEDKERN_ISA

LaunchError launch_warp(WarpOp op, const WarpLaunch& call, void* workspace, int64_t planes,
                        Stream stream) {
  using namespace MEDKERN_ISA;
  switch (call.type) {
    case FloatType::float16:
      return launch_warp_half(op, call, workspace, planes, stream);
    case FloatType::bfloat16:
      return launch_warp_bfloat16(op, call, workspace, planes, stream);
    case FloatType::float64:
      return launch_warp_double(op, call, workspace, planes, stream);
    default:
      return launch_warp_float(op, call, workspace, planes, stream);
  }
}

LaunchError launch_warp_copy(const WarpLaunch& call, int bytes, bool float64, uint64_t lost,
                             Stream stream) {
  using namespace MEDKERN_ISA;
  if (float64) return launch_warp_copy_of<double, uint64_t>(call, lost, stream);
  switch (bytes) {
    case 1:
      return launch_warp_copy_of<float, uint8_t>(call, lost, stream);
    case 2:
      return launch_warp_copy_of<float, uint16_t>(call, lost, stream);
    case 4:
      return launch_warp_copy_of<float, uint32_t>(call, lost, stream);
    default:
      return launch_warp_copy_of<float, uint64_t>(call, lost, stream);
  }
}

}  // namespace medkern
