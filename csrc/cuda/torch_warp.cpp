#include "binding/warp.hpp"
#include "cuda/device_tensors.hpp"
#include "cuda/warp.hpp"

namespace medkern {
namespace {

// Workspace of the transpose, or one plane if that is more. Tests take many passes.
#if defined(MEDKERN_EMULATED)
constexpr int64_t kWarpWorkspace = int64_t{1} << 12;
#else
constexpr int64_t kWarpWorkspace = int64_t{1} << 28;
#endif

class OnDevice {
 public:
  static void forward(const WarpProblem& p, WarpMode mode, const Tensor& image,
                      const Tensor& displacement, const Tensor& out) {
    const Inputs inputs(p, mode, out, displacement);
    WarpLaunch call = inputs.call;
    call.type = float_type_of(image, "image");
    call.image = image.data_ptr();
    run(WarpOp::forward, call, out);
  }

  static void copy(const WarpProblem& p, uint64_t lost, const Tensor& image,
                   const Tensor& displacement, const Tensor& out) {
    const Inputs inputs(p, WarpMode::nearest, out, displacement);
    WarpLaunch call = inputs.call;
    call.image = image.data_ptr();
    const DeviceScope scope(out);
    check_launch(launch_warp_copy(call, static_cast<int>(image.element_size()),
                                  image.scalar_type() == ScalarType::Double, lost, scope.stream()));
  }

  static void transpose(const WarpProblem& p, WarpMode mode, const Tensor& grad,
                        const Tensor& displacement, const Tensor& out) {
    const Inputs inputs(p, mode, out, displacement);
    WarpLaunch call = inputs.call;
    call.type = float_type_of(grad, "grad");
    call.grad = grad.data_ptr();
    const int64_t bytes = warp_sums_bytes(call), most = std::max<int64_t>(1, p.batch * p.channels);
    const int64_t planes = std::clamp<int64_t>(kWarpWorkspace / bytes, 1, most);
    const Tensor workspace = device_bytes(out, planes * bytes);
    run(WarpOp::transpose, call, out, workspace.data_ptr(), planes);
  }

  static Tensor slope(const WarpProblem& p, WarpMode mode, const Tensor& grad, const Tensor& image,
                      const Tensor& displacement) {
    const Tensor out =
        empty_packed(displacement, with_lead(p.batch, p.ndim, space_of(displacement)),
                     displacement.scalar_type());
    const Inputs inputs(p, mode, out, displacement);
    WarpLaunch call = inputs.call;
    call.type = float_type_of(image, "image");
    call.grad = grad.data_ptr();
    call.image = image.data_ptr();
    run(WarpOp::slope, call, out);
    return out;
  }

 private:
  struct Inputs {
    Inputs(const WarpProblem& p, WarpMode mode, const Tensor& out, const Tensor& displacement)
        : packed(torch::stable::contiguous(displacement)) {
      call.problem = p;
      call.problem.displacement = packed.data_ptr();
      call.mode = mode;
      call.displacement_type = float_type_of(displacement, "displacement");
      call.out = out.data_ptr();
    }

    Tensor packed;
    WarpLaunch call;
  };

  static void run(WarpOp op, const WarpLaunch& call, const Tensor& on, void* workspace = nullptr,
                  int64_t planes = 0) {
    const DeviceScope scope(on);
    check_launch(launch_warp(op, call, workspace, planes, scope.stream()));
  }
};

}  // namespace
}  // namespace medkern

MEDKERN_DEVICE_LIBRARY(m) { medkern::WarpOps<medkern::OnDevice>::register_in(m); }
