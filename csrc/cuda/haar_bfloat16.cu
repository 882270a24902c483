#include "haar_launch.cuh"

namespace medkern::MEDKERN_ISA {

LaunchError launch_haar_bfloat16(const HaarProblem& p, HaarMode mode, bool adjoint, int ndim,
                                 Stream stream) {
  return launch_mode<BFloat16>(p, mode, adjoint, ndim, stream);
}

}  // namespace medkern::MEDKERN_ISA
