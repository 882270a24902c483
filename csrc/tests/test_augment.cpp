// The kernels of Fourier augmentations on every instruction set: noise and truncated transforms.
#include "core/fourier.hpp"
#include "kernel_test.hpp"

using namespace medkern;
using namespace medkern::test;

namespace {

constexpr double kPi = 3.14159265358979323846;

// The multipliers of two images of one sample, [2, height, columns].
template <class C>
std::vector<C> multipliers(int64_t height, int64_t width, double alpha, double beta,
                           bool per_channel) {
  const int64_t columns = spectrum_columns(width), count = 2 * height * columns;
  Exact<C> spectrum(2 * count);
  for (int64_t i = 0; i < count; ++i) {
    spectrum[2 * i] = 1;
    spectrum[2 * i + 1] = -2;
  }
  const int64_t stream[2] = {1234567890123, 5};
  NoiseProblem p;
  p.images = p.channels = 2;
  p.height = height;
  p.width = width;
  p.spectrum = spectrum.get();
  p.stream = stream;
  p.alpha = alpha;
  p.beta = beta;
  p.per_channel = per_channel;
  p.dc_clamp = true;
  in_two_threads(2 * noise_pairs(height), [&](int64_t begin, int64_t end) {
    Exact<C> scratch(noise_scratch(width));
    noise_kernel(sizeof(C) == 8)(p, begin, end, scratch.get());
  });
  std::vector<C> mu;
  for (int64_t i = 0; i < count; ++i) {
    mu.push_back(spectrum[2 * i]);
    check(spectrum[2 * i + 1] == -2 * spectrum[2 * i], "both parts have one multiplier");
  }
  return mu;
}

// What a real image needs: the conjugate bins of a column have one multiplier.
template <class C>
void check_noise(int64_t height, int64_t width) {
  const std::string name = "noise " + std::to_string(height) + "x" + std::to_string(width);
  const int64_t columns = spectrum_columns(width), count = height * columns;
  for (C mu : multipliers<C>(height, width, 0, 0, true)) check(mu == 1, name + " without any");
  const auto mu = multipliers<C>(height, width, 6, 0.5, true);
  const auto shared = multipliers<C>(height, width, 6, 0.5, false);
  double squares = 0;
  for (int64_t image = 0; image < 2; ++image) {
    for (int64_t row = 0; row < height; ++row) {
      const int64_t mirror = (height - row) % height;
      for (int64_t column = 0; column < columns; ++column) {
        const int64_t at = row * columns + column;
        const C value = mu[image * count + at];
        check(std::fabs(value - 1) < 8 * std::sqrt(6.5), name + " of that deviation");
        squares += static_cast<double>((value - 1) * (value - 1));
        check(shared[at] == mu[at] && shared[count + at] == mu[at], name + " shared by channels");
        if (column != 0 && 2 * column != width) continue;
        check(value == mu[image * count + mirror * columns + column], name + " conjugates");
      }
    }
    check(mu[image * count] >= static_cast<C>(kNoiseFloor), name + " keeps the mean");
  }
  check(count < 30 || (squares / (2.0 * count) > 0.3 && squares / (2.0 * count) < 7),
        name + " variance");
}

template <class C>
void check_modes(int64_t height, int64_t width, int64_t radius) {
  const std::string name = "modes " + std::to_string(height) + "x" + std::to_string(width);
  ModesProblem p;
  p.images = 2;
  p.height = height;
  p.width = width;
  p.radius = radius;
  p.padded = (radius + kModesPad) / kModesPad * kModesPad;
  p.across_stride = modes_across_stride(width);
  const int64_t halves = spectrum_columns(width), taken = radius + 1, pixels = height * width;
  Exact<C> x(2 * pixels), out(2 * pixels);
  Exact<double> rows(2 * height * 2 * p.padded);
  Exact<C> modes(2 * (2 * radius + 1) * taken * 2), folded(2 * 4 * taken * p.padded);
  Exact<C> turned_cos(halves * p.padded), turned_sin(halves * p.padded);
  Exact<C> across_cos(p.padded * p.across_stride), across_sin(p.padded * p.across_stride);
  Exact<double> analysis_cos(taken * height), analysis_sin(taken * height);
  Exact<C> down_cos(taken * height), down_sin(taken * height);
  Random random;
  for (size_t i = 0; i < x.size(); ++i) x.set(i, random.uniform() - 0.5);
  for (int64_t l = 0; l < taken; ++l) {
    for (int64_t w = 0; w < halves; ++w) {
      const double angle = 2 * kPi * static_cast<double>(l * w) / static_cast<double>(width);
      turned_cos.set(w * p.padded + l, std::cos(angle));
      turned_sin.set(w * p.padded + l, std::sin(angle));
      across_cos.set(l * p.across_stride + w, std::cos(angle));
      across_sin.set(l * p.across_stride + w, std::sin(angle));
    }
    for (int64_t h = 0; h < height; ++h) {
      const double angle = 2 * kPi * static_cast<double>(l * h) / static_cast<double>(height);
      analysis_cos.set(l * height + h, std::cos(angle));
      analysis_sin.set(l * height + h, std::sin(angle));
      down_cos.set(l * height + h, std::cos(angle));
      down_sin.set(l * height + h, std::sin(angle));
    }
  }
  p.x = x.get();
  p.rows = rows.get();
  p.modes = modes.get();
  p.down_cos = analysis_cos.get();
  p.down_sin = analysis_sin.get();
  p.across_cos = turned_cos.get();
  p.across_sin = turned_sin.get();
  const ModesKernels kernels = modes_kernels(sizeof(C) == 8);
  const auto in_blocks = [&](auto kernel) {
    in_two_threads(2 * modes_blocks(height), [&](int64_t begin, int64_t end) {
      Exact<C> scratch(modes_scratch(p));
      kernel(p, begin, end, scratch.get());
    });
  };
  in_blocks(kernels.analyse_rows);
  in_two_threads(2, [&](int64_t begin, int64_t end) { kernels.analyse_columns(p, begin, end); });

  constexpr double error = sizeof(C) == 8 ? 1e-10 : 1e-4;
  const auto angle = [&](int64_t k, int64_t l, int64_t h, int64_t w) {
    return 2 * kPi *
           (static_cast<double>(k * h) / static_cast<double>(height) +
            static_cast<double>(l * w) / static_cast<double>(width));
  };
  for (int64_t image = 0; image < 2; ++image) {
    for (int64_t k = -radius; k <= radius; ++k) {
      for (int64_t l = 0; l <= radius; ++l) {
        double re = 0, im = 0;
        for (int64_t i = 0; i < pixels; ++i) {
          const double value = x.value(image * pixels + i), at = angle(k, l, i / width, i % width);
          re += value * std::cos(at);
          im -= value * std::sin(at);
        }
        const int64_t at = ((image * (2 * radius + 1) + k + radius) * taken + l) * 2;
        check_near(modes.value(at), re, error, name + " analysis");
        check_near(modes.value(at + 1), im, error, name + " analysis");
      }
    }
  }

  const auto mode = [&](int64_t image, int64_t k, int64_t l, int64_t part) {
    return modes[((image * (2 * radius + 1) + k + radius) * taken + l) * 2 + part];
  };
  for (int64_t image = 0; image < 2; ++image) {
    for (int64_t k = 0; k < taken; ++k) {
      for (int64_t l = 0; l < taken; ++l) {
        for (int64_t part = 0; part < 2; ++part) {
          const C plus = mode(image, k, l, part), minus = k == 0 ? C{} : mode(image, -k, l, part);
          folded[((image * 4 + part) * taken + k) * p.padded + l] = plus + minus;
          folded[((image * 4 + 2 + part) * taken + k) * p.padded + l] = plus - minus;
        }
      }
    }
  }
  p.folded = folded.get();
  p.down_cos = down_cos.get();
  p.down_sin = down_sin.get();
  p.across_cos = across_cos.get();
  p.across_sin = across_sin.get();
  p.out = out.get();
  in_blocks(kernels.synthesise);
  for (int64_t image = 0; image < 2; ++image) {
    for (int64_t i = 0; i < pixels; ++i) {
      double want = x.value(image * pixels + i);
      for (int64_t k = -radius; k <= radius; ++k) {
        for (int64_t l = 0; l <= radius; ++l) {
          const double at = angle(k, l, i / width, i % width);
          want += static_cast<double>(mode(image, k, l, 0)) * std::cos(at) -
                  static_cast<double>(mode(image, k, l, 1)) * std::sin(at);
        }
      }
      check_near(out.value(image * pixels + i), want, 30 * error, name + " synthesis");
    }
  }
}

template <class C>
void test_type() {
  // Odd and even, one row, one column, tails of vectors and of their groups of four.
  const int64_t sizes[][2] = {{1, 1}, {1, 9}, {8, 1}, {5, 6}, {6, 31}, {3, 64}, {7, 67}, {2, 130}};
  for (const auto& size : sizes) check_noise<C>(size[0], size[1]);
  check_modes<C>(1, 1, 0);
  check_modes<C>(5, 7, 2);
  check_modes<C>(9, 36, 3);
  check_modes<C>(35, 33, 16);
}

}  // namespace

int main() {
  return on_every_isa([] {
    test_type<float>();
    test_type<double>();
  });
}
