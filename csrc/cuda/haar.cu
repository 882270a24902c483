// Lifting, and the choice by dtype. One file per storage type, so that they compile in parallel.
#include "haar_launch.cuh"

namespace medkern {

namespace MEDKERN_ISA {
LaunchError launch_haar_half(const HaarProblem&, HaarMode, bool, int, Stream);
LaunchError launch_haar_bfloat16(const HaarProblem&, HaarMode, bool, int, Stream);
LaunchError launch_haar_float(const HaarProblem&, HaarMode, bool, int, Stream);
LaunchError launch_haar_double(const HaarProblem&, HaarMode, bool, int, Stream);
}  // namespace MEDKERN_ISA

LaunchError launch_haar(const HaarProblem& p, HaarMode mode, bool adjoint, HaarDType dtype,
                        int ndim, Stream stream) {
  using namespace MEDKERN_ISA;
  switch (dtype) {
    case HaarDType::float16:
      return launch_haar_half(p, mode, adjoint, ndim, stream);
    case HaarDType::bfloat16:
      return launch_haar_bfloat16(p, mode, adjoint, ndim, stream);
    case HaarDType::float32:
      return launch_haar_float(p, mode, adjoint, ndim, stream);
    case HaarDType::float64:
      return launch_haar_double(p, mode, adjoint, ndim, stream);
    case HaarDType::uint8:
      return launch_ndim<LiftMode, uint8_t, int16_t, int16_t>(p, adjoint, ndim, stream);
    default:
      return launch_ndim<LiftMode, int16_t, int32_t, int32_t>(p, adjoint, ndim, stream);
  }
}

}  // namespace medkern
