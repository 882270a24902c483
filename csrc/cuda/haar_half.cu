#include "haar_launch.cuh"

namespace medkern::MEDKERN_ISA {

LaunchError launch_haar_half(const HaarProblem& p, HaarMode mode, bool adjoint, int ndim,
                             Stream stream) {
  return launch_mode<Half>(p, mode, adjoint, ndim, stream);
}

}  // namespace medkern::MEDKERN_ISA
