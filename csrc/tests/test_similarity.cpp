// The kernels of image similarities on every instruction set against their definitions.
#include "core/joint_histogram.hpp"
#include "core/joint_moments.hpp"
#include "core/local_ncc.hpp"
#include "kernel_test.hpp"

using namespace medkern;
using namespace medkern::test;

namespace {

template <class S>
constexpr double kError = std::is_same_v<S, Half>       ? 2e-3
                          : std::is_same_v<S, BFloat16> ? 2e-2
                          : std::is_same_v<S, float>    ? 3e-6
                                                        : 1e-10;

template <class S>
struct Images {
  Exact<S> a, b;

  explicit Images(int64_t count, double offset = 0) : a(count), b(count) {
    Random random;
    for (size_t i = 0; i < a.size(); ++i) {
      const double x = random.uniform();
      a.set(i, offset + x);
      b.set(i, offset + 0.5 * (x + random.uniform()));
    }
  }
};

struct Shape {
  int64_t size[3], window;
};

// Everything of one window, by its definition; see core/local_ncc.hpp.
struct Window {
  double n, sum_a = 0, sum_b = 0, cross = 0, var_a = 0, var_b = 0;
  bool varies_a, varies_b;

  template <class S>
  Window(const LocalNccProblem& p, const Images<S>& images, int64_t volume, const int64_t (&at)[3])
      : n(static_cast<double>(p.count())) {
    const double mean_a = sum(p, at, [&](int64_t i) { return a(images, p, volume, i); }) / n;
    const double mean_b = sum(p, at, [&](int64_t i) { return b(images, p, volume, i); }) / n;
    sum_a = mean_a * n;
    sum_b = mean_b * n;
    // Of the zeros outside, then of the voxels inside.
    const double outside = n - sum(p, at, [](int64_t) { return 1.0; });
    cross = outside * mean_a * mean_b;
    var_a = outside * mean_a * mean_a;
    var_b = outside * mean_b * mean_b;
    sum(p, at, [&](int64_t i) {
      const double x = a(images, p, volume, i) - mean_a, y = b(images, p, volume, i) - mean_b;
      cross += x * y;
      var_a += x * x;
      var_b += y * y;
      return 0.0;
    });
    varies_a = !(var_a <= p.least);
    varies_b = !(var_b <= p.least);
    var_a = varies_a ? var_a : p.least;
    var_b = varies_b ? var_b : p.least;
  }

  template <class S>
  static double a(const Images<S>& images, const LocalNccProblem& p, int64_t volume, int64_t i) {
    return images.a.value(volume * p.voxels() + i);
  }
  template <class S>
  static double b(const Images<S>& images, const LocalNccProblem& p, int64_t volume, int64_t i) {
    return images.b.value(volume * p.voxels() + i);
  }

  // Of term(voxel) over the voxels of the window around `at`.
  template <class Term>
  static double sum(const LocalNccProblem& p, const int64_t (&at)[3], const Term& term) {
    double total = 0;
    int64_t low[3], high[3];
    for (int i = 0; i < 3; ++i) {
      low[i] = std::max<int64_t>(0, at[i] - p.window[i] / 2);
      high[i] = std::min(p.size[i], at[i] + p.window[i] / 2 + 1);
    }
    for (int64_t z = low[0]; z < high[0]; ++z)
      for (int64_t y = low[1]; y < high[1]; ++y)
        for (int64_t x = low[2]; x < high[2]; ++x)
          total += term((z * p.size[1] + y) * p.size[2] + x);
    return total;
  }
};

template <class Body>
void each_voxel(const LocalNccProblem& p, const Body& body) {
  int64_t i = 0, at[3];
  for (at[0] = 0; at[0] < p.size[0]; ++at[0])
    for (at[1] = 0; at[1] < p.size[1]; ++at[1])
      for (at[2] = 0; at[2] < p.size[2]; ++at[2]) body(i++, at);
}

void run(const LocalNccProblem& p, LocalNccStage stage) {
  const LocalNccKernel kernel = local_ncc_kernel(stage, p.type);
  in_two_threads(p.volumes * local_ncc_tiles_per_volume(p), [&](int64_t begin, int64_t end) {
    Exact<char> scratch(local_ncc_scratch(p));
    kernel(p, begin, end, scratch.get());
  });
}

template <class S>
void check_local(const Shape& shape, bool clamp, bool squared) {
  using C = Compute<S>;
  LocalNccProblem p;
  p.volumes = p.channels = 2;
  for (int i = 0; i < 3; ++i) {
    p.size[i] = shape.size[i];
    p.window[i] = shape.size[i] == 1 && i < 2 ? 1 : shape.window;
  }
  (clamp ? p.least : p.offset) = 1e-3;
  p.squared = squared;
  p.type = kFloatType<S>;
  const int64_t count = p.volumes * p.voxels();
  const Images<S> images(count, 3);
  Exact<double> centres(4);
  for (int64_t volume = 0; volume < 2; ++volume) {
    centres[2 * volume] = images.a.value(volume * p.voxels());
    centres[2 * volume + 1] = images.b.value(volume * p.voxels());
  }
  p.a = images.a.get();
  p.b = images.b.get();
  p.centre = centres.get();
  Exact<C> map(count), weights(count), coefficients(5 * count);
  Exact<S> grads(2 * count);
  for (int64_t i = 0; i < count; ++i) weights[i] = static_cast<C>(0.25 * ((i * 7) % 5) - 0.5);
  p.map = map.get();
  run(p, LocalNccStage::forward);
  p.weights = weights.get();
  p.weight_per_voxel = p.both = true;
  p.coefficients = coefficients.get();
  p.grads = grads.get();
  run(p, LocalNccStage::coefficients);
  run(p, LocalNccStage::gradient);

  const std::string name = "window " + std::to_string(shape.window) + " on " +
                           std::to_string(shape.size[0]) + "x" + std::to_string(shape.size[1]) +
                           "x" + std::to_string(shape.size[2]);
  for (int64_t volume = 0; volume < 2; ++volume) {
    std::vector<double> by_cross, by_a, by_b, mean_a, mean_b;
    each_voxel(p, [&](int64_t i, const int64_t (&at)[3]) {
      const Window w(p, images, volume, at);
      const double d = w.var_a * w.var_b + p.offset;
      const double cc = squared ? w.cross * w.cross / d : w.cross / std::sqrt(d);
      check_near(map.value(volume * p.voxels() + i), cc, kError<C>, name + " correlation");
      const double g = weights.value(volume * p.voxels() + i), power = squared ? 1 : 0.5;
      by_cross.push_back(g * (squared ? 2 * w.cross / d : 1 / std::sqrt(d)));
      by_a.push_back(w.varies_a ? -2 * g * power * cc * w.var_b / d : 0);
      by_b.push_back(w.varies_b ? -2 * g * power * cc * w.var_a / d : 0);
      mean_a.push_back(w.sum_a / w.n);
      mean_b.push_back(w.sum_b / w.n);
    });
    double largest = 0;
    for (double value : by_cross) largest = std::max(largest, std::fabs(value));
    each_voxel(p, [&](int64_t i, const int64_t (&at)[3]) {
      const double x = Window::a(images, p, volume, i), y = Window::b(images, p, volume, i);
      double in_a = 0, in_b = 0;
      Window::sum(p, at, [&](int64_t j) {
        in_a += by_cross[j] * (y - mean_b[j]) + by_a[j] * (x - mean_a[j]);
        in_b += by_cross[j] * (x - mean_a[j]) + by_b[j] * (y - mean_b[j]);
        return 0.0;
      });
      const double error = 20 * kError<S> * (largest + std::fabs(in_a) + std::fabs(in_b));
      check_near(grads.value(volume * p.voxels() + i), in_a, error, name + " gradient in a");
      check_near(grads.value(count + volume * p.voxels() + i), in_b, error,
                 name + " gradient in b");
    });
  }
}

// NaN stays in its volume.
void check_local_nan() {
  LocalNccProblem p;
  p.volumes = 2;
  p.size[2] = 9;
  p.window[2] = 3;
  p.least = 1e-3;
  Images<float> images(18);
  images.a.set(4, kNaN);
  const double centres[4] = {0, 0, 0, 0};
  double sums[2];
  p.a = images.a.get();
  p.b = images.b.get();
  p.centre = centres;
  p.sums = sums;
  run(p, LocalNccStage::forward);
  check(std::isnan(sums[0]) && sums[1] > 0, "NaN in its volume");
}

template <class S>
void check_moments(int64_t voxels, double offset) {
  using C = Compute<S>;
  JointMomentsProblem p;
  p.rows = p.channels = 2;
  p.voxels = voxels;
  p.type = kFloatType<S>;
  const Images<S> images(2 * voxels, offset);
  const int64_t per_row = joint_moments_blocks_per_row(p);
  Exact<JointMoments> blocks(2 * per_row), rows(2);
  p.a = images.a.get();
  p.b = images.b.get();
  p.blocks = blocks.get();
  const auto run = [&](bool backward) {
    const JointMomentsKernel kernel = joint_moments_kernel(backward, p.type);
    in_two_threads(2 * per_row, [&](int64_t begin, int64_t end) { kernel(p, begin, end); });
  };
  run(false);
  for (int64_t i = 0; i < 2 * per_row; ++i) rows[i / per_row].merge(blocks[i]);
  Exact<C> weights(6);
  for (size_t i = 0; i < 6; ++i) weights[i] = static_cast<C>(1.0 + static_cast<double>(i));
  Exact<S> grads(4 * voxels);
  p.moments = rows.get();
  p.weights = weights.get();
  p.both = true;
  p.grads = grads.get();
  run(true);
  const auto n = static_cast<double>(voxels);
  for (int64_t row = 0; row < 2; ++row) {
    double mean_a = 0, mean_b = 0, sums[3] = {0, 0, 0};
    for (int64_t i = row * voxels; i < (row + 1) * voxels; ++i) {
      mean_a += images.a.value(i) / n;
      mean_b += images.b.value(i) / n;
    }
    for (int64_t i = row * voxels; i < (row + 1) * voxels; ++i) {
      const double x = images.a.value(i) - mean_a, y = images.b.value(i) - mean_b;
      sums[0] += x * x;
      sums[1] += y * y;
      sums[2] += x * y;
      const double g[3] = {weights.value(3 * row), weights.value(3 * row + 1),
                           weights.value(3 * row + 2)};
      check_near(grads.value(i) * n, 2 * g[0] * x + g[2] * y, 10 * kError<S>, "moments in a");
      check_near(grads.value(2 * voxels + i) * n, 2 * g[1] * y + g[2] * x, 10 * kError<S>,
                 "moments in b");
    }
    const double got[3] = {rows[row].var_a, rows[row].var_b, rows[row].cross};
    for (int k = 0; k < 3; ++k) check_near(got[k] / n, sums[k] / n, 1e-9, "moments");
  }
}

template <class S>
void check_histogram(int64_t voxels, int64_t bins, double sigma, bool spline) {
  JointHistogramProblem p;
  p.batch = 1;
  p.voxels = voxels;
  p.window = ParzenWindow::of(bins, sigma, spline, 38.8);
  p.type = kFloatType<S>;
  Images<S> images(voxels, -0.2);  // some below 0
  images.a.set(0, 2);
  p.a = images.a.get();
  p.b = images.b.get();
  const ParzenWindow& w = p.window;
  const int64_t parts = joint_histogram_parts(p), size = w.padded_size();
  Exact<double> histograms(parts * size), pulls(size);
  p.parts = histograms.get();
  const auto run = [&](bool backward) {
    const JointHistogramKernel kernel = joint_histogram_kernel(backward, p.type);
    in_two_threads(parts, [&](int64_t begin, int64_t end) {
      Exact<double> scratch(joint_histogram_scratch(p));
      kernel(p, begin, end, scratch.get());
    });
  };
  run(false);
  const auto pull_of = [](int64_t k, int64_t l) { return static_cast<double>((3 * k + l) % 7); };
  for (int64_t k = 0; k < bins; ++k)
    for (int64_t l = 0; l < bins; ++l) pulls[w.at(k, l)] = pull_of(k, l);
  Exact<S> grads(2 * voxels);
  p.weights = pulls.get();
  p.both = true;
  p.grads = grads.get();
  run(true);

  // Weights of a value by their definition, and their slopes as differences.
  const auto weights_of = [&](double x) {
    const double at = std::min(std::max(x, 0.0), 1.0);
    const double d =
        spline ? 2 + at * static_cast<double>(bins - 5) : at * static_cast<double>(bins - 1);
    std::vector<double> weight;
    double total = 0;
    for (int64_t k = 0; k < bins; ++k) {
      const double u = std::fabs(d - static_cast<double>(k));
      const double cubic = u < 1   ? (4 - 6 * u * u + 3 * u * u * u) / 6
                           : u < 2 ? (2 - u) * (2 - u) * (2 - u) / 6
                                   : 0;
      weight.push_back(spline ? cubic : std::exp(-u * u / (2 * sigma * sigma)));
      total += weight.back();
    }
    for (double& value : weight) value /= spline ? 1 : total;
    return weight;
  };
  const auto pulled = [&](double x, double y) {
    const auto of_a = weights_of(x), of_b = weights_of(y);
    double sum = 0;
    for (int64_t k = 0; k < bins; ++k)
      for (int64_t l = 0; l < bins; ++l) sum += pull_of(k, l) * of_a[k] * of_b[l];
    return sum;
  };
  std::vector<double> expected(bins * bins);
  const double step = 1e-6;
  for (int64_t i = 0; i < voxels; ++i) {
    const double x = images.a.value(i), y = images.b.value(i);
    const auto of_a = weights_of(x), of_b = weights_of(y);
    for (int64_t k = 0; k < bins; ++k)
      for (int64_t l = 0; l < bins; ++l) expected[k * bins + l] += of_a[k] * of_b[l];
    const double in_a = (pulled(x + step, y) - pulled(x - step, y)) / (2 * step);
    const double in_b = (pulled(x, y + step) - pulled(x, y - step)) / (2 * step);
    const double error = 1e-5 * static_cast<double>(bins) + 4 * kError<S> * std::fabs(in_a + in_b);
    check_near(grads.value(i), in_a, error + std::fabs(in_a) * kError<S>, "histogram in a");
    check_near(grads.value(voxels + i), in_b, error + std::fabs(in_b) * kError<S>,
               "histogram in b");
  }
  for (int64_t k = 0; k < bins; ++k) {
    for (int64_t l = 0; l < bins; ++l) {
      double sum = 0;
      for (int64_t part = 0; part < parts; ++part) sum += histograms[part * size + w.at(k, l)];
      check_near(sum, expected[k * bins + l], 1e-9, "histogram");
    }
  }
}

template <class S>
void test_type() {
  // Lines, planes, volumes; tails of vectors; windows of one voxel and beyond the image; tiles.
  const Shape shapes[] = {{{1, 1, 1}, 3},  {{1, 1, 17}, 5}, {{1, 1, 300}, 3}, {{1, 5, 7}, 1},
                          {{1, 4, 33}, 9}, {{3, 2, 5}, 7},  {{5, 6, 9}, 3},   {{2, 35, 3}, 5}};
  for (int i = 0; i < 8; ++i) check_local<S>(shapes[i], i % 2 == 0, i % 3 != 0);
  for (const int64_t voxels : {1, 2, 31, 33, 4096, 4099}) check_moments<S>(voxels, 3);
  for (const int64_t voxels : {1, 63, 65}) {
    check_histogram<S>(voxels, 8, 0.5, false);
    check_histogram<S>(voxels, 9, 0.5, true);
  }
  check_histogram<S>(5, 2, 16, false);
  check_histogram<S>(5, 20, 2.5, false);
}

}  // namespace

int main() {
  return on_every_isa([] {
    test_type<float>();
    test_type<double>();
    test_type<Half>();
    test_type<BFloat16>();
    check_local_nan();
  });
}
