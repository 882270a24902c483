// The boundary loss on the emulated GPU against its definition in double.
#include "core/common/storage.hpp"
#include "cuda/boundary.hpp"
#include "device_test.hpp"

using namespace medkern;
using namespace medkern::test;

namespace {

template <class S>
constexpr BoundaryArrays::Type kType =
    std::is_same_v<S, Half>       ? BoundaryArrays::Type::float16
    : std::is_same_v<S, BFloat16> ? BoundaryArrays::Type::bfloat16
    : std::is_same_v<S, float>    ? BoundaryArrays::Type::float32
                                  : BoundaryArrays::Type::float64;

template <class S>
constexpr double kError = std::is_same_v<S, Half>       ? 1e-3
                          : std::is_same_v<S, BFloat16> ? 8e-3
                          : std::is_same_v<S, float>    ? 1e-5
                                                        : 1e-12;

struct Case {
  int64_t batch, classes, pixels, first;
  bool labelled;
};

template <class S, class M>
struct Example {
  Case c;
  std::vector<S> logits;
  std::vector<M> maps;
  std::vector<int64_t> labels;
  std::vector<double> weights;

  explicit Example(const Case& shape) : c(shape) {
    Random random(static_cast<unsigned>(c.pixels + 31 * c.classes));
    for (int64_t i = 0; i < c.batch * c.classes * c.pixels; ++i) {
      logits.push_back(S{});
      store_one(&logits.back(), static_cast<Compute<S>>(8 * random.uniform() - 4));
    }
    for (int64_t i = 0; i < c.batch * (c.classes - c.first) * c.pixels; ++i) {
      maps.push_back(M{});
      store_one(&maps.back(), static_cast<Compute<M>>(40 * random.uniform() - 10));
    }
    for (int64_t i = 0; i < c.batch * c.pixels; ++i) {  // some are no class of ours
      labels.push_back(random.below(4) > 0 ? -1 : random.below(c.classes));
    }
    for (int64_t i = 0; i < kBoundarySums * c.batch; ++i) weights.push_back(random.uniform() - 0.5);
  }

  BoundaryArrays arrays() const {
    return {logits.data(), maps.data(), c.labelled ? labels.data() : nullptr,
            false,         c.batch,     c.classes,
            c.pixels,      c.first,     kType<S>,
            kType<M>};
  }
  double logit(int64_t sample, int64_t k, int64_t i) const {
    return load_one<Compute<S>>(&logits[(sample * c.classes + k) * c.pixels + i]);
  }
  int64_t map_index(int64_t sample, int64_t k, int64_t i) const {
    return (sample * (c.classes - c.first) + k - c.first) * c.pixels + i;
  }
  double map(int64_t sample, int64_t k, int64_t i) const {
    return k < c.first ? 0 : load_one<Compute<M>>(&maps[map_index(sample, k, i)]);
  }
  std::vector<double> softmax(int64_t sample, int64_t i) const {
    std::vector<double> s(c.classes);
    double largest = -INFINITY, total = 0;
    for (int64_t k = 0; k < c.classes; ++k) largest = std::fmax(largest, logit(sample, k, i));
    for (int64_t k = 0; k < c.classes; ++k) total += s[k] = std::exp(logit(sample, k, i) - largest);
    for (double& value : s) value /= total;
    return s;
  }
  int64_t label(int64_t sample, int64_t i) const {
    const int64_t k = labels[sample * c.pixels + i];
    return c.labelled && k >= c.first && k < c.classes ? k : -1;
  }
};

bool near(double actual, double expected, double error) {
  return std::fabs(actual - expected) <= error * (1 + std::fabs(expected));
}

template <class S, class M>
void check_forward(const Example<S, M>& e, const std::string& name) {
  const Case& c = e.c;
  std::vector<double> partial(c.batch * boundary_parts(c.pixels) * kBoundarySums, NAN);
  std::vector<double> sums(c.batch * kBoundarySums, NAN);
  check(launch_boundary_forward(e.arrays(), partial.data(), sums.data(), nullptr));
  for (int64_t sample = 0; sample < c.batch; ++sample) {
    double expected[kBoundarySums] = {0, 0, 0};
    for (int64_t i = 0; i < c.pixels; ++i) {
      const auto s = e.softmax(sample, i);
      for (int64_t k = 0; k < c.classes; ++k) expected[0] += s[k] * e.map(sample, k, i);
      if (e.label(sample, i) < 0) continue;
      expected[1] -= std::log(s[e.label(sample, i)]);
      ++expected[2];
    }
    for (int i = 0; i < kBoundarySums; ++i) {
      check(near(sums[sample * kBoundarySums + i], expected[i], i == 2 ? 0 : 3e-6),
            name + " forward");
    }
  }
}

template <class S, class M>
void check_backward(const Example<S, M>& e, const std::string& name) {
  const Case& c = e.c;
  std::vector<S> grad_logits(e.logits.size());
  std::vector<M> grad_maps(e.maps.size());
  check(launch_boundary_backward(e.arrays(), e.weights.data(), grad_logits.data(), grad_maps.data(),
                                 nullptr));
  bool right = true;
  for (int64_t sample = 0; sample < c.batch; ++sample) {
    const double boundary = e.weights[kBoundarySums * sample];
    const double cross = e.weights[kBoundarySums * sample + 1];
    for (int64_t i = 0; i < c.pixels; ++i) {
      const auto s = e.softmax(sample, i);
      double mean = 0;
      for (int64_t k = 0; k < c.classes; ++k) mean += s[k] * e.map(sample, k, i);
      for (int64_t k = 0; k < c.classes; ++k) {
        const int64_t at = (sample * c.classes + k) * c.pixels + i;
        double slope = boundary * s[k] * (e.map(sample, k, i) - mean);
        const int64_t label = e.label(sample, i);
        if (label >= 0) slope += cross * (s[k] - (k == label));
        right &= near(load_one<Compute<S>>(&grad_logits[at]), slope, 10 * kError<S>);
        if (k < c.first) continue;
        right &= near(load_one<Compute<M>>(&grad_maps[e.map_index(sample, k, i)]), boundary * s[k],
                      std::fmax(kError<S>, kError<M>));
      }
    }
  }
  check(right, name + " backward");
}

template <class S, class M>
void test_types(const Case& c, const char* types) {
  const Example<S, M> e(c);
  const std::string name = std::string(types) + ", " + std::to_string(c.pixels) + " pixels";
  check_forward(e, name);
  check_backward(e, name);
}

// A logit of -inf is a class that cannot be; only then no pixel has a softmax.
void test_infinite_logits() {
  const float low = -INFINITY;
  const std::vector<float> logits{low, low, 1, low, 0, 1}, maps{5, 7, 3, 1, 2, 9};
  const BoundaryArrays a{logits.data(), maps.data(), nullptr, false, 1, 3, 2, 0,
                         kType<float>,  kType<float>};
  double partial[kBoundarySums], sums[kBoundarySums];
  check(launch_boundary_forward(a, partial, sums, nullptr));
  // pixel 0: logits -inf, 1, 0; pixel 1: -inf, -inf, 1
  const double s = 1 / (1 + std::exp(-1.0));
  check(near(sums[0], 3 * s + 2 * (1 - s) + 9, 1e-6), "infinite logits");
}

// The bits of a sample depend neither on the batch around it nor on the order of threads.
void test_same_bits_in_any_batch() {
  const Example<float, float> e({3, 4, 5000, 1, true});
  const auto sums_of = [&](int64_t first, int64_t batch) {
    BoundaryArrays a = e.arrays();
    a.logits = e.logits.data() + first * 4 * 5000;
    a.maps = e.maps.data() + first * 3 * 5000;
    a.labels = e.labels.data() + first * 5000;
    a.batch = batch;
    std::vector<double> partial(batch * boundary_parts(a.pixels) * kBoundarySums, NAN);
    std::vector<double> sums(batch * kBoundarySums, NAN);
    check(launch_boundary_forward(a, partial.data(), sums.data(), nullptr));
    return sums;
  };
  static const auto first_order = sums_of(0, 3);
  const auto all = sums_of(0, 3), last = sums_of(2, 1);
  check(all == first_order, "bits in any order of threads");
  check(std::vector<double>(all.begin() + 2 * kBoundarySums, all.end()) == last,
        "bits in any batch");
}

void test_all() {
  for (const int64_t pixels : {1, 31, 33, 257, 300, 1000}) {
    test_types<float, float>({2, 4, pixels, 1, true}, "float32");
  }
  test_types<float, float>({1, 2, 5 * 7 * 33, 0, false}, "float32, no labels");
  test_types<float, float>({2, 1, 40, 0, true}, "float32, one class");
  test_types<double, double>({2, 7, 2100, 1, true}, "float64");
  test_types<double, float>({1, 3, 65, 1, true}, "float64 and float32 maps");
  test_types<Half, Half>({2, 5, 257, 1, true}, "float16");
  test_types<Half, float>({2, 5, 257, 1, true}, "float16 and float32 maps");
  test_types<BFloat16, BFloat16>({1, 3, 33, 1, true}, "bfloat16");
  test_types<BFloat16, float>({1, 3, 33, 1, true}, "bfloat16 and float32 maps");
  test_types<float, float>({0, 3, 10, 1, true}, "empty batch");
  test_infinite_logits();
  test_same_bits_in_any_batch();
}

}  // namespace

int main() { return in_all_orders(test_all); }
