// Sums of correlation coefficients, and their gradients, on every instruction set against their
// definition.
#include <vector>

#include "core/correlation.hpp"
#include "spectral_test.hpp"

using namespace medkern;
using namespace medkern::test;

namespace {

// What an element is weighted with, and the row of sums it belongs to.
struct Place {
  double weight;
  int64_t ring;
};

Place place_of(const CorrelationProblem& p, int64_t index) {
  if (p.axes == 0) return {1, 0};
  const int64_t bin = index / 2 % (p.rows * p.columns), column = bin % p.columns;
  const int64_t n = p.size[p.axes - 1];
  double squared = std::pow(2.0 * static_cast<double>(column) / static_cast<double>(n), 2);
  int64_t row = bin / p.columns;
  for (int a = p.axes - 2; a >= 0; row /= p.size[a--]) {
    const int64_t k = row % p.size[a], folded = k < p.size[a] - k ? k : p.size[a] - k;
    squared += std::pow(2.0 * static_cast<double>(folded) / static_cast<double>(p.size[a]), 2);
  }
  const double radius = std::sqrt(squared) + 1e-12;  // on an edge: in the outer ring
  const double count = column == 0 || 2 * column == n ? 1 : 2;
  const bool inside = radius >= p.low && radius < p.high;
  const auto ring = static_cast<int64_t>(radius * static_cast<double>(p.rings));
  return {inside ? count : 0, ring < p.rings ? ring : p.rings};
}

template <class S>
void check(CorrelationProblem p, int64_t numbers, const std::string& name) {
  using C = Compute<S>;
  const int64_t total = p.images * numbers, rows = correlation_sum_rows(p) * kCorrelationSums;
  const Block<S> a(total), b(total), grad(total);
  const Block<C> weights(p.images * rows);
  Random random{static_cast<uint64_t>(numbers)};
  random.fill(a, total);
  random.fill(b, total);
  random.fill(weights, p.images * rows);
  p.type = kFloatType<S>;
  p.p = a.get();
  p.y = b.get();
  const int64_t blocks = correlation_blocks(p);
  const Block<double> sums(blocks * rows);
  const Block<std::byte> scratch(static_cast<int64_t>(correlation_scratch(p)), 64);
  const auto run = [&] {
    const CorrelationKernel kernel = correlation_kernel(p.type);
    kernel(p, 0, blocks / 2, scratch.get());
    kernel(p, blocks / 2, blocks, scratch.get());
  };
  p.sums = sums.get();
  run();
  std::vector<double> got(static_cast<size_t>(p.images * rows)), want(got.size());
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t image = p.axes > 0 ? block % p.images : block / correlation_blocks_per_image(p);
    for (int64_t i = 0; i < rows; ++i) got[image * rows + i] += sums[block * rows + i];
  }
  for (int64_t i = 0; i < total; ++i) {
    const Place place = place_of(p, i);
    const double u = value_of(a[i]), v = value_of(b[i]);
    double* at = want.data() + i / numbers * rows + place.ring * kCorrelationSums;
    at[0] += place.weight * u * v;
    at[1] += place.weight * u * u;
    at[2] += place.weight * v * v;
  }
  for (size_t i = 0; i < got.size(); ++i) {
    expect_near(got[i], want[i], kRounding<C> * (1 + std::fabs(want[i])), name + " sums");
  }
  p.sums = nullptr;
  p.weights = weights.get();
  p.grad = grad.get();
  for (const bool streams : {false, true}) {
    p.streams = streams && reinterpret_cast<uintptr_t>(grad.get()) % 64 == 0;
    run();
  }
  for (int64_t i = 0; i < total; ++i) {
    const Place place = place_of(p, i);
    const C* g = weights.get() + i / numbers * rows + place.ring * kCorrelationSums;
    const double slope = place.weight * (g[0] * value_of(b[i]) + 2.0 * g[1] * value_of(a[i]));
    expect_near(value_of(grad[i]), slope, 8 * kRounding<S>, name + " gradient");
  }
}

template <class S>
void check_arrays() {
  for (const int64_t elements : {1, 15, 17, 1025, 16385}) {
    CorrelationProblem p;
    p.images = 2;
    p.elements = elements;
    check<S>(p, elements, std::to_string(elements) + " elements");
  }
}

template <class S>
void check_spectra(std::vector<int64_t> size, int64_t rings, double low, double high) {
  CorrelationProblem p;
  p.images = 2;
  p.axes = static_cast<int>(size.size());
  p.rows = 1;
  for (size_t a = 0; a < size.size(); ++a) p.size[a] = size[a];
  for (size_t a = 0; a + 1 < size.size(); ++a) p.rows *= size[a];
  p.columns = size.back() / 2 + 1;
  p.elements = p.rows * p.columns * 2;
  p.rings = rings;
  p.low = low;
  p.high = high;
  check<S>(p, p.elements, std::to_string(rings) + " rings");
}

template <class S>
void check_all_spectra() {
  check_spectra<S>({1}, 1, -10, 10);
  check_spectra<S>({9}, 40, -10, 10);
  check_spectra<S>({1, 2}, 3, -10, 10);
  check_spectra<S>({5, 8}, 4, 0.21, 0.77);
  check_spectra<S>({3, 4, 7}, 7, -10, 0.93);
  check_spectra<S>({300, 64}, 5, -10, 10);
}

}  // namespace

int main() {
  return on_every_isa([] {
    check_arrays<float>();
    check_arrays<double>();
    check_arrays<Half>();
    check_arrays<BFloat16>();
    check_all_spectra<float>();
    check_all_spectra<double>();
  });
}
