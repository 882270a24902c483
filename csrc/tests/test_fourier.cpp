// The losses on half spectra, and their gradients, on every instruction set against their
// definition in double.
#include "core/fourier.hpp"
#include "spectral_test.hpp"

using namespace medkern;
using namespace medkern::test;

namespace {

struct Bin {
  double re, im;

  double square() const { return re * re + im * im; }
  double amplitude() const { return std::sqrt(square()); }
};

// A bin's share of the loss, as a function of x alone: the focal weight is a constant.
double loss_of(SpectrumLoss loss, double parameter, const Bin& x, const Bin& y, double top) {
  const double difference = x.amplitude() - y.amplitude();
  switch (loss) {
    case SpectrumLoss::focal:
      return std::pow(y.amplitude() / std::sqrt(top), parameter) * x.square();
    case SpectrumLoss::amplitude_l1:
      return std::fabs(difference);
    case SpectrumLoss::amplitude_l2:
      return difference * difference;
    default:
      return 1 - (x.re * y.re + x.im * y.im) / (x.amplitude() * y.amplitude());
  }
}

template <class C>
void check(SpectrumLoss loss, int64_t height, int64_t width) {
  constexpr int64_t images = 2;
  const int64_t columns = spectrum_columns(width), bins = height * columns;
  const Block<C> x(images * bins * 2), y(images * bins * 2), out(images * bins * 2);
  const Block<C> grad(images);
  Random random{static_cast<uint64_t>(width)};
  random.fill(x, images * bins * 2);
  random.fill(y, images * bins * 2);
  random.fill(grad, images);
  SpectrumProblem p;
  p.images = images;
  p.height = height;
  p.width = width;
  p.x = x.get();
  p.y = y.get();
  p.grad = grad.get();
  p.out = out.get();
  p.loss = loss;
  p.parameter = loss == SpectrumLoss::phase ? 0.0 : 1.0;
  const SpectrumKernels kernels = spectrum_kernels(sizeof(C) == 8, loss);
  const std::string name =
      "loss " + std::to_string(static_cast<int>(loss)) + ", width " + std::to_string(width);
  const auto bin = [&](const Block<C>& of, int64_t i) -> Bin { return {of[2 * i], of[2 * i + 1]}; };
  for (int64_t image = 0; image < images; ++image) {
    double top = 0, want = 0;
    for (int64_t i = image * bins; i < (image + 1) * bins; ++i) {
      top = std::fmax(top, bin(y, i).square());
    }
    const double found = kernels.largest(p, image, 0, height);
    expect_near(found, top, kRounding<C> * top, name + " largest");
    const int64_t middle = height / 2;
    const double got =
        kernels.sum(p, image, 0, middle, found) + kernels.sum(p, image, middle, height, found);
    kernels.gradient(p, image, 0, middle, found);
    kernels.gradient(p, image, middle, height, found);
    for (int64_t i = image * bins; i < (image + 1) * bins; ++i) {
      const int64_t column = i % columns;
      const double count = column == 0 || 2 * column == width ? 1 : 2;
      const Bin here = bin(x, i), other = bin(y, i);
      const auto value = [&](double re, double im) {
        return count * loss_of(loss, p.parameter, {re, im}, other, top);
      };
      want += value(here.re, here.im);
      const double step = 1e-6 * here.amplitude(), g = grad[image];
      const double by_re =
          (value(here.re + step, here.im) - value(here.re - step, here.im)) / (2 * step);
      const double by_im =
          (value(here.re, here.im + step) - value(here.re, here.im - step)) / (2 * step);
      // Finite differences, and a slope that grows as 1 / amplitude.
      const double error = 1e-5 * (1 + 1 / here.amplitude());
      expect_near(out[2 * i], g * by_re, error, name + " gradient");
      expect_near(out[2 * i + 1], g * by_im, error, name + " gradient");
    }
    expect_near(got, want, kRounding<C> * (1 + want), name + " sum");
  }
}

}  // namespace

int main() {
  return on_every_isa([] {
    for (const SpectrumLoss loss : {SpectrumLoss::focal, SpectrumLoss::amplitude_l1,
                                    SpectrumLoss::amplitude_l2, SpectrumLoss::phase}) {
      for (const int64_t width : {1, 2, 3, 16, 33, 66, 515}) {
        check<float>(loss, 3, width);
        check<double>(loss, 2, width);
      }
    }
  });
}
