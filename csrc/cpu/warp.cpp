#include "binding/warp.hpp"

#include "binding/threads.hpp"
#include "core/warp_sweep.hpp"

namespace medkern {
namespace {

Tensor packed_as(const Tensor& t, ScalarType dtype) {
  if (t.scalar_type() == dtype) return torch::stable::contiguous(t);
  std::vector<int64_t> size;
  for (int64_t i = 0; i < t.dim(); ++i) size.push_back(t.size(i));
  Tensor copy = empty_packed(t, size, dtype);
  return torch::stable::copy_(copy, t);
}

class OnCpu {
 public:
  static void forward(const WarpProblem& p, WarpMode mode, const Tensor& image,
                      const Tensor& displacement, const Tensor& out) {
    const Tensor u = packed_as(displacement, compute_type_of(image));
    sweep(p, mode, image, u).forward(image.data_ptr(), out.data_ptr());
  }

  static void copy(WarpProblem p, uint64_t lost, const Tensor& image, const Tensor& displacement,
                   const Tensor& out) {
    const Tensor u = packed_as(displacement, compute_type_of(image));
    p.displacement = u.data_ptr();
    warp_copy(p, {image.data_ptr(), out.data_ptr(), lost}, static_cast<int>(image.element_size()),
              image.scalar_type() == ScalarType::Double, TorchThreads());
  }

  static void transpose(const WarpProblem& p, WarpMode mode, const Tensor& grad,
                        const Tensor& displacement, const Tensor& out) {
    const Tensor u = packed_as(displacement, compute_type_of(grad));
    sweep(p, mode, grad, u).transpose(grad.data_ptr(), out.data_ptr());
  }

  static Tensor slope(const WarpProblem& p, WarpMode mode, const Tensor& grad, const Tensor& image,
                      const Tensor& displacement) {
    const Tensor u = packed_as(displacement, compute_type_of(image));
    const Tensor out = empty_packed(image, with_lead(p.batch, p.ndim, space_of(displacement)),
                                    compute_type_of(image));
    sweep(p, mode, image, u).slope(grad.data_ptr(), image.data_ptr(), out.data_ptr());
    return packed_as(out, displacement.scalar_type());
  }

 private:
  static WarpSweep sweep(WarpProblem p, WarpMode mode, const Tensor& values, const Tensor& u) {
    static const TorchThreads threads;
    p.displacement = u.data_ptr();
    return WarpSweep(p, mode, float_type_of(values, "image"), threads);
  }
};

}  // namespace
}  // namespace medkern

STABLE_TORCH_LIBRARY_IMPL(medkern, CPU, m) { medkern::WarpOps<medkern::OnCpu>::register_in(m); }
