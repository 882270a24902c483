// The losses on half spectra, their gradients, and packed spectra, on every instruction set against
// their definitions in double.
#include <complex>
#include <numbers>
#include <vector>

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

using Complex = std::complex<double>;

Complex wave(double turns) { return std::polar(1.0, 2 * std::numbers::pi * turns); }

// sum_kl z_kl e^(2 pi i (k h / height + l w / width)) over `rows` of `columns` from `bin(k, l)`.
template <class BinOf>
Complex transform(int64_t height, int64_t width, int64_t columns, int64_t h, int64_t w,
                  const BinOf& bin) {
  Complex sum = 0;
  for (int64_t k = 0; k < height; ++k) {
    for (int64_t l = 0; l < columns; ++l) {
      const double turns = static_cast<double>(k * h) / static_cast<double>(height) +
                           static_cast<double>(l * w) / static_cast<double>(width);
      sum += bin(k, l) * wave(turns);
    }
  }
  return sum;
}

template <class C>
void check_pack(int64_t height, int64_t width) {
  const int64_t columns = spectrum_columns(width), half = width / 2;
  const Block<C> spectrum(2 * height * columns), packed(height * width);
  Random random{static_cast<uint64_t>(width)};
  random.fill(spectrum, 2 * height * columns);
  std::vector<C> cosines, sines;
  for (int64_t l = 0; l < half; ++l) {
    const Complex turn = wave(static_cast<double>(l) / static_cast<double>(width));
    cosines.push_back(static_cast<C>(turn.real()));
    sines.push_back(static_cast<C>(turn.imag()));
  }
  std::vector<int64_t> mirror;
  for (int64_t k = 0; k < height; ++k) mirror.push_back(k == 0 ? 0 : height - k);
  PackProblem p{1, height, width, spectrum.get(), mirror.data(), cosines.data(), sines.data()};
  p.packed = packed.get();
  p.edge = 0.5;
  p.inside = 3;
  const PackKernel kernel = pack_kernel(sizeof(C) == 8);
  kernel(p, 0, height / 2);
  kernel(p, height / 2, height);
  const auto in = [](const Block<C>& of, int64_t i) -> Complex {
    return {of[2 * i], of[2 * i + 1]};
  };
  for (int64_t h = 0; h < height; ++h) {
    for (int64_t w = 0; w < width; ++w) {
      const Complex pair = transform(height, half, half, h, w / 2, [&](int64_t k, int64_t l) {
        return in(packed, k * half + l);
      });
      const Complex sum = transform(height, width, columns, h, w, [&](int64_t k, int64_t l) {
        return (l == 0 || l == half ? p.edge : p.inside) * in(spectrum, k * columns + l);
      });
      expect_near(w % 2 ? pair.imag() : pair.real(), sum.real(),
                  kRounding<C> * static_cast<double>(height * width),
                  "packed, width " + std::to_string(width));
    }
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
    for (const int64_t width : {2, 4, 30, 32, 66}) {
      check_pack<float>(3, width);
      check_pack<double>(1, width);
      check_pack<double>(4, width);
    }
  });
}
