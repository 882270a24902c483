#include "warp_launch.cuh"

namespace medkern::MEDKERN_ISA {

LaunchError launch_warp_half(WarpOp op, const WarpLaunch& call, void* workspace, int64_t planes,
                             Stream stream) {
  return launch_warp_op<Half>(op, call, workspace, planes, stream);
}

}  // namespace medkern::MEDKERN_ISA
