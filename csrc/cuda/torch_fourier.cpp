#include "binding/fourier.hpp"
#include "cuda/augment.hpp"
#include "cuda/fourier.hpp"
#include "cuda/half_spectrum_device.hpp"

namespace medkern {
namespace {

struct Device : HalfSpectrumDevice {
  static void loss(SpectrumProblem p, const Tensor& sums) {
    const DeviceScope scope(sums);
    const Tensor tops = with_tops(p, sums, scope.stream());
    const Tensor partial = device_bytes(
        sums, p.images * spectrum_parts(p.height, p.width) * static_cast<int64_t>(sizeof(double)));
    check_launch(launch_spectrum_sums(p, is_float64(sums), static_cast<double*>(partial.data_ptr()),
                                      sums.data_ptr(), scope.stream()));
  }

  static void loss_gradient(SpectrumProblem p, const Tensor& out) {
    const DeviceScope scope(out);
    const Tensor tops = with_tops(p, out, scope.stream());
    check_launch(launch_spectrum_gradient(p, is_float64(out), scope.stream()));
  }

  static void multiply_by_noise(const NoiseProblem& p, const Tensor& spectrum) {
    const DeviceScope scope(spectrum);
    check_launch(launch_noise(p, is_float64(spectrum), scope.stream()));
  }

  static void analyse(ModesProblem p, const Tensor& modes) {
    const DeviceScope scope(modes);
    const Work work(p, true, modes, scope.stream());
    check_launch(launch_analysis(p, is_float64(modes), scope.stream()));
  }

  static void synthesise(ModesProblem p, const Tensor& out) {
    const DeviceScope scope(out);
    const Work work(p, false, out, scope.stream());
    check_launch(launch_synthesis(p, is_float64(out), scope.stream()));
  }

 private:
  // Has the problem's peaks found where the loss needs them, in memory that the result owns.
  static Tensor with_tops(SpectrumProblem& p, const Tensor& like, Stream stream) {
    const bool looks = p.loss == SpectrumLoss::focal && p.peak == nullptr;
    const int64_t parts = looks ? spectrum_parts(p.height, p.width) : 0;
    const Tensor tops = dense(like, {parts + 1, p.images});  // the result, and workspace
    if (!looks) return tops;
    char* first = static_cast<char*>(tops.data_ptr());
    check_launch(launch_spectrum_tops(p, is_float64(like), first + p.images * like.element_size(),
                                      first, stream));
    p.peak = first;
    return tops;
  }

  // Tables and workspace of the truncated transforms, which the problem points to.
  class Work {
   public:
    Work(ModesProblem& p, bool analysis, const Tensor& like, Stream stream)
        : across_(dense(like, {2, analysis ? spectrum_columns(p.width) : p.radius + 1,
                               analysis ? p.padded : p.across_stride})),
          down_(empty_packed(like, {2, p.radius + 1, p.height}, sums_in(like, analysis))),
          rows_(empty_packed(like, {p.images, p.height, 2, p.padded}, sums_in(like, analysis))) {
      check_launch(launch_waves({p.width, p.radius + 1, spectrum_columns(p.width), across_.size(2),
                                 analysis, across_.data_ptr()},
                                is_float64(across_), stream));
      check_launch(
          launch_waves({p.height, p.radius + 1, p.height, p.height, false, down_.data_ptr()},
                       is_float64(down_), stream));
      p.across_cos = across_.data_ptr();
      p.across_sin = second_half(across_);
      p.down_cos = down_.data_ptr();
      p.down_sin = second_half(down_);
      p.rows = rows_.data_ptr();
    }

   private:
    static ScalarType sums_in(const Tensor& like, bool analysis) {
      return analysis ? ScalarType::Double : like.scalar_type();
    }

    static void* second_half(const Tensor& t) {
      return static_cast<char*>(t.data_ptr()) + t.numel() / 2 * t.element_size();
    }

    Tensor across_, down_, rows_;
  };
};

}  // namespace
}  // namespace medkern

MEDKERN_DEVICE_LIBRARY(m) { MEDKERN_REGISTER_FOURIER(m, medkern::Device); }
