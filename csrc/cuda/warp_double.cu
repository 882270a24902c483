#include "warp_launch.cuh"

namespace medkern::MEDKERN_ISA {

LaunchError launch_warp_double(WarpOp op, const WarpLaunch& call, void* workspace, int64_t planes,
                               Stream stream) {
  return launch_warp_op<double>(op, call, workspace, planes, stream);
}

}  // namespace medkern::MEDKERN_ISA
