// The epilogue of a Fourier layer around the ends of vectors, lines, tiles and samples, on every
// instruction set against its definition.
#include <thread>
#include <vector>

#include "core/fourier_epilogue.hpp"
#include "spectral_test.hpp"

using namespace medkern;
using namespace medkern::test;

namespace {

double gelu(double s) { return s * 0.5 * std::erfc(-s * std::sqrt(0.5)); }
double gelu_slope(double s) {
  return 0.5 * std::erfc(-s * std::sqrt(0.5)) + s * std::exp(-s * s / 2) * 0.3989422804014327;
}

template <class S>
class Epilogue {
 public:
  using C = Compute<S>;

  Epilogue(int64_t batch, int64_t inputs, int64_t outputs, int64_t pixels, bool gelus)
      : name_(std::to_string(inputs) + " to " + std::to_string(outputs) + " channels, " +
              std::to_string(pixels) + " pixels"),
        k_(batch * outputs * pixels),
        x_(batch * inputs * pixels),
        grad_(batch * outputs * pixels),
        y_(batch * outputs * pixels),
        d_k_(batch * outputs * pixels),
        d_x_(batch * inputs * pixels),
        weight_(outputs * inputs),
        transposed_(outputs * inputs),
        bias_(outputs) {
    p_.batch = batch;
    p_.inputs = inputs;
    p_.outputs = outputs;
    p_.pixels = pixels;
    p_.type = kFloatType<S>;
    p_.gelu = gelus;
    p_.residual = inputs == outputs;
    Random random{static_cast<uint64_t>(pixels * inputs + outputs)};
    random.fill(k_, batch * outputs * pixels);
    random.fill(x_, batch * inputs * pixels);
    random.fill(grad_, batch * outputs * pixels);
    random.fill(weight_, outputs * inputs);
    random.fill(bias_, outputs);
    for (int64_t o = 0; o < outputs; ++o) {
      for (int64_t i = 0; i < inputs; ++i) transposed_[i * outputs + o] = weight_[o * inputs + i];
    }
    p_.k = {k_.get(), outputs * pixels, pixels};
    p_.x = {x_.get(), inputs * pixels, pixels};
    p_.grad = {grad_.get(), outputs * pixels, pixels};
    p_.weight = weight_.get();
    p_.transposed = transposed_.get();
    p_.bias = bias_.get();
    p_.y = y_.get();
    p_.d_k = d_k_.get();
    p_.d_x = d_x_.get();
  }

  void check() {
    const std::vector<double> sums = run();
    std::vector<double> want(static_cast<size_t>(p_.sums_of_chunk()));
    for (int64_t sample = 0; sample < p_.batch; ++sample) {
      for (int64_t pixel = 0; pixel < p_.pixels; ++pixel) check_pixel(sample, pixel, want);
    }
    const double terms = static_cast<double>(p_.batch * p_.pixels);
    for (size_t i = 0; i < want.size(); ++i) {
      expect_near(sums[i], want[i], kRounding<C> * terms, name_ + " sums");
    }
  }

 private:
  static void in_two_threads(const FourierEpilogue& p, bool backward, int64_t units) {
    const FourierEpilogueKernel kernel = fourier_epilogue_kernel(backward, p.type);
    const auto part = [&](int64_t begin, int64_t end) {
      const Block<std::byte> scratch(static_cast<int64_t>(fourier_epilogue_scratch(p, backward)),
                                     64);
      kernel(p, begin, end, scratch.get());
    };
    std::thread other([&] { part(units / 2, units); });
    part(0, units / 2);
    other.join();
  }

  std::vector<double> run() {
    const int64_t each = p_.sums_of_chunk();
    const Block<double> chunks(p_.chunks() * each);
    p_.sums = chunks.get();
    for (const bool streams : {true, false}) {
      p_.streams = streams;
      FourierEpilogue forward = p_;
      forward.grad = {};
      in_two_threads(forward, false, p_.tiles());
      in_two_threads(p_, true, p_.chunks());
    }
    std::vector<double> sums(static_cast<size_t>(each));
    for (int64_t i = 0; i < p_.chunks() * each; ++i) sums[i % each] += chunks[i];
    return sums;
  }

  void check_pixel(int64_t sample, int64_t pixel, std::vector<double>& sums) const {
    const auto of = [&](const Block<S>& t, int64_t channels, int64_t channel) {
      return value_of(t[(sample * channels + channel) * p_.pixels + pixel]);
    };
    const double scale = 1 + static_cast<double>(p_.inputs < p_.outputs ? p_.outputs : p_.inputs);
    std::vector<double> d_x(static_cast<size_t>(p_.inputs));
    for (int64_t o = 0; o < p_.outputs; ++o) {
      double s = of(k_, p_.outputs, o) + value_of(bias_[o]);
      for (int64_t i = 0; i < p_.inputs; ++i) {
        s += value_of(weight_[o * p_.inputs + i]) * of(x_, p_.inputs, i);
      }
      const double y = (p_.gelu ? gelu(s) : s) + (p_.residual ? of(x_, p_.inputs, o) : 0);
      expect_near(of(y_, p_.outputs, o), y, scale * kRounding<S>, name_ + " y");
      const double g = of(grad_, p_.outputs, o), d_k = p_.gelu ? g * gelu_slope(s) : g;
      expect_near(of(d_k_, p_.outputs, o), d_k, 8 * kRounding<S>, name_ + " d_k");
      for (int64_t i = 0; i < p_.inputs; ++i) {
        d_x[i] += value_of(weight_[o * p_.inputs + i]) * d_k;
        sums[o * (p_.inputs + 1) + i] += d_k * of(x_, p_.inputs, i);
      }
      if (p_.residual) d_x[o] += g;
      sums[o * (p_.inputs + 1) + p_.inputs] += d_k;
    }
    for (int64_t i = 0; i < p_.inputs; ++i) {
      expect_near(of(d_x_, p_.inputs, i), d_x[i], scale * kRounding<S>, name_ + " d_x");
    }
  }

  std::string name_;
  FourierEpilogue p_;
  Block<S> k_, x_, grad_, y_, d_k_, d_x_;
  Block<C> weight_, transposed_, bias_;
};

template <class S>
void check_all() {
  for (const int64_t pixels : {1, 15, 16, 17, 255, 256, 257, 530}) {
    Epilogue<S>(2, 3, 3, pixels, true).check();
  }
  Epilogue<S>(3, 1, 1, 40, false).check();
  Epilogue<S>(1, 5, 18, 300, true).check();
  Epilogue<S>(1, 17, 2, 33, false).check();
  Epilogue<S>(1, 129, 7, 70, true).check();
}

}  // namespace

int main() {
  return on_every_isa([] {
    check_all<float>();
    check_all<double>();
    check_all<Half>();
    check_all<BFloat16>();
  });
}
