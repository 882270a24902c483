#include "haar_launch.cuh"

namespace medkern::MEDKERN_ISA {

LaunchError launch_haar_float(const HaarProblem& p, HaarMode mode, bool adjoint, int ndim,
                              Stream stream) {
  return launch_mode<float>(p, mode, adjoint, ndim, stream);
}

}  // namespace medkern::MEDKERN_ISA
