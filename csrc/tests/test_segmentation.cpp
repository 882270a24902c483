// The kernels of segmentation sums on every instruction set against their definition.
#include "core/segmentation.hpp"
#include "kernel_test.hpp"

using namespace medkern;
using namespace medkern::test;

namespace {

enum class Targets { labels, bytes, values };

struct Case {
  int64_t batch, classes, voxels, gap;  // gap: between the voxels
  bool softmax;
  Targets targets;
};

template <class S>
struct Example {
  Case c;
  int64_t count = c.batch * c.classes * c.voxels, span = (count - 1) * c.gap + 1;
  Exact<S> logits{static_cast<size_t>(span)}, grad{static_cast<size_t>(span)};
  Exact<float> values{static_cast<size_t>(count)};
  Exact<int64_t> labels{static_cast<size_t>(c.batch * c.voxels)};
  Exact<uint8_t> bytes{static_cast<size_t>(c.batch * c.voxels)};
  SegmentationProblem p;

  explicit Example(const Case& shape) : c(shape) {
    Random random;
    for (size_t i = 0; i < logits.size(); ++i) logits.set(i, 8 * random.uniform() - 4);
    for (size_t i = 0; i < values.size(); ++i) values.set(i, random.uniform());
    const uint64_t names = c.classes == 1 ? 2 : static_cast<uint64_t>(c.classes);
    for (size_t i = 0; i < labels.size(); ++i) {
      labels[i] = static_cast<int64_t>(random.next() % names);
      if (i % 5 == 1) labels[i] = 7;  // left out
      bytes[i] = static_cast<uint8_t>(labels[i]);
    }
    p.batch = c.batch;
    p.classes = c.classes;
    p.voxels = c.voxels;
    p.softmax = c.softmax;
    const int64_t channel = c.voxels * c.gap, batch = c.classes * channel;
    p.logits = {logits.get(), kFloatType<S>, batch, channel, c.gap};
    p.grad = {grad.get(), kFloatType<S>, batch, channel, c.gap};
    if (c.targets == Targets::values) {
      p.target = {values.get(), TargetType::float32, false, -1, c.classes * c.voxels, c.voxels, 1};
    } else {
      const bool wide = c.targets == Targets::labels;
      p.target = {wide ? static_cast<const void*>(labels.get()) : bytes.get(),
                  wide ? TargetType::int64 : TargetType::uint8,
                  true,
                  7,
                  c.voxels,
                  0,
                  1};
    }
  }

  double logit(int64_t b, int64_t k, int64_t i) const {
    return logits.value(((b * c.classes + k) * c.voxels + i) * c.gap);
  }
  bool left_out(int64_t b, int64_t i) const {
    return c.targets != Targets::values && labels[b * c.voxels + i] == 7;
  }
  double target(int64_t b, int64_t k, int64_t i) const {
    if (c.targets == Targets::values) return values[(b * c.classes + k) * c.voxels + i];
    return labels[b * c.voxels + i] == (c.classes == 1 ? 1 : k) ? 1 : 0;
  }
  double probability(int64_t b, int64_t k, int64_t i) const {
    if (!c.softmax) return 1 / (1 + std::exp(-logit(b, k, i)));
    double total = 0;
    for (int64_t j = 0; j < c.classes; ++j) total += std::exp(logit(b, j, i));
    return std::exp(logit(b, k, i)) / total;
  }

  void run() {
    in_two_threads(segmentation_blocks(p), [&](int64_t begin, int64_t end) {
      Exact<char> scratch(segmentation_scratch(p), true);
      segmentation_kernel(kFloatType<S>)(p, begin, end, scratch.get());
    });
  }
};

template <class S>
void check_case(const Case& c) {
  Example<S> e(c);
  const std::string name = std::to_string(c.classes) + " classes, " + std::to_string(c.voxels) +
                           " voxels, gap " + std::to_string(c.gap);
  const int64_t blocks = segmentation_blocks_per_sample(e.p), row = c.classes * kSegmentationSums;
  Exact<double> sums(c.batch * blocks * row);
  Exact<int64_t> invalid(c.batch * blocks);
  e.p.sums = sums.get();
  e.p.invalid = invalid.get();
  e.run();
  Exact<Compute<S>> weights(c.batch * row);
  for (size_t i = 0; i < weights.size(); ++i) weights.set(i, 0.3 * static_cast<double>(i % 7) - 1);
  e.p.sums = nullptr;
  e.p.invalid = nullptr;
  e.p.weights = weights.get();
  e.run();
  constexpr double error = std::is_same_v<S, double> ? 1e-11 : sizeof(S) == 4 ? 2e-5 : 4e-2;
  for (int64_t b = 0; b < c.batch; ++b) {
    for (int64_t k = 0; k < c.classes; ++k) {
      double want[kSegmentationSums] = {};
      for (int64_t i = 0; i < c.voxels; ++i) {
        if (e.left_out(b, i)) continue;
        const double p = e.probability(b, k, i), y = e.target(b, k, i);
        const double surprise = -y * std::log(p) - (c.softmax ? 0 : (1 - y) * std::log(1 - p));
        const double terms[kSegmentationSums] = {p * y, p, p * p, y, y * y, surprise, 1};
        for (int s = 0; s < kSegmentationSums; ++s) want[s] += terms[s];
      }
      for (int s = 0; s < kSegmentationSums; ++s) {
        double got = 0;
        for (int64_t n = 0; n < blocks; ++n) {
          got += sums[((b * blocks + n) * c.classes + k) * kSegmentationSums + s];
        }
        check_near(got, want[s], 3e-6 * (1 + want[s]), name + " sum " + std::to_string(s));
      }
    }
    for (int64_t i = 0; i < c.voxels; ++i) {
      const auto g = [&](int64_t k, int s) {
        return weights.value((b * c.classes + k) * kSegmentationSums + s);
      };
      const auto slope = [&](int64_t k) {
        return g(k, 0) * e.target(b, k, i) + g(k, 1) + 2 * g(k, 2) * e.probability(b, k, i);
      };
      double shift = 0;
      for (int64_t k = 0; k < c.classes; ++k) {
        shift += g(k, 5) * e.target(b, k, i) - e.probability(b, k, i) * slope(k);
      }
      for (int64_t k = 0; k < c.classes; ++k) {
        const double p = e.probability(b, k, i), y = e.target(b, k, i);
        double want = c.softmax ? p * (slope(k) + shift) - g(k, 5) * y
                                : p * (1 - p) * slope(k) + g(k, 5) * (p - y);
        if (e.left_out(b, i)) want = 0;
        const int64_t at = ((b * c.classes + k) * c.voxels + i) * c.gap;
        check_near(e.grad.value(at), want, error, name + " gradient");
      }
    }
  }
}

// NaN stays in its sample, and in its voxel's gradient; labels that name no class are counted.
void check_nan_and_labels() {
  Example<float> e({2, 3, 600, 1, true, Targets::labels});
  e.logits.set(5, kNaN);
  e.labels[3] = 9;
  e.labels[5] = 1;
  Exact<double> sums(2 * 3 * kSegmentationSums);
  Exact<int64_t> invalid(2);
  e.p.sums = sums.get();
  e.p.invalid = invalid.get();
  e.run();
  check(invalid[0] == 1 && invalid[1] == 0, "labels that name no class");
  check(std::isnan(sums[1]) && sums[3 * kSegmentationSums + 1] > 0, "NaN in its sample");
}

template <class S>
void test_type() {
  for (const int64_t voxels : {1, 15, 17, 511, 513}) {
    check_case<S>({2, 3, voxels, 1, true, Targets::labels});
  }
  check_case<S>({1, 1, 33, 1, false, Targets::bytes});
  check_case<S>({2, 2, 65, 3, false, Targets::values});
  check_case<S>({1, 4, 31, 2, true, Targets::values});
  check_case<S>({1, 2, 8200, 1, true, Targets::bytes});
}

}  // namespace

int main() {
  return on_every_isa([] {
    test_type<float>();
    test_type<double>();
    test_type<Half>();
    test_type<BFloat16>();
    check_nan_and_labels();
  });
}
