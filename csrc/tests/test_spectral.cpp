// Truncated Fourier transforms and mode mixing on every instruction set against their definition.
#include <complex>
#include <numbers>
#include <vector>

#include "core/spectral.hpp"
#include "core/spectral_tables.hpp"
#include "spectral_test.hpp"

using namespace medkern;
using namespace medkern::test;

namespace {

using Complex = std::complex<double>;

struct Grid {
  int axes;
  int64_t size[3], modes[3];
};

// Odd, even, 1, all modes, and more columns than a panel has.
const Grid kGrids[] = {
    {1, {1}, {1}},
    {1, {2}, {2}},
    {1, {7}, {3}},
    {1, {70}, {36}},
    {2, {1, 1}, {1, 1}},
    {2, {5, 9}, {5, 5}},
    {2, {8, 6}, {8, 4}},
    {2, {6, 7}, {1, 2}},
    {2, {2, 67}, {2, 3}},
    {3, {1, 1, 3}, {1, 1, 2}},
    {3, {4, 3, 5}, {4, 3, 3}},
    {3, {3, 6, 65}, {2, 5, 2}},
};

DftCall call_of(const Grid& grid, int64_t images, FloatType type) {
  DftCall call;
  call.axes = grid.axes;
  call.images = images;
  for (int a = 0; a < grid.axes; ++a) {
    call.size[a] = call.grid[a] = grid.size[a];
    call.modes[a] = grid.modes[a];
  }
  call.weighted = true;
  call.scale = 0.5;
  call.type = type;
  return call;
}

// exp(-2 pi i k.x / N) of a kept mode and a sample, given by their flat indices.
Complex wave(const DftCall& p, int64_t mode, int64_t sample) {
  double turn = 0;
  for (int a = p.last(); a >= 0; --a) {
    const int64_t j = mode % p.modes[a], k = a == p.last() ? j : j - p.modes[a] / 2;
    turn += static_cast<double>(k * (sample % p.size[a])) / static_cast<double>(p.size[a]);
    mode /= p.modes[a];
    sample /= p.size[a];
  }
  return std::polar(1.0, -2 * std::numbers::pi * turn);
}

template <class C>
struct Prepared {
  DftProblem problem;
  std::vector<C> tables[2];
  LastAxisTables<C> last;

  Prepared(const DftCall& call, bool inverse) : last(call, inverse) {
    problem.inverse = inverse;
    problem.full_axes = call.last();
    for (int a = 0; a < problem.full_axes; ++a) {
      problem.full[a] = {call.size[a], call.modes[a]};
      tables[a] = full_axis_table<C>(problem.full[a], call.grid[a], inverse);
      problem.tables[a] = tables[a].data();
    }
    problem.size = call.size[call.last()];
    problem.modes = call.modes[call.last()];
    problem.images = call.images;
    problem.type = call.type;
    problem.cosines = last.cosines.data();
    problem.sines = last.sines.data();
  }
};

template <class S>
void check_transforms(const Grid& grid) {
  using C = Compute<S>;
  constexpr int64_t images = 3;
  const DftCall call = call_of(grid, images, kFloatType<S>);
  const int64_t samples = call.rows() * call.size[call.last()];
  const int64_t last = call.modes[call.last()], modes = call.kept_rows() * last;
  const std::string name = std::to_string(grid.axes) + " axes, last " +
                           std::to_string(call.size[call.last()]) + ", type " +
                           std::to_string(static_cast<int>(call.type));
  Random random{static_cast<uint64_t>(samples)};
  const Block<S> x(images * samples);
  const Block<C> z(images * modes * 2);
  random.fill(x, images * samples);
  const auto run = [&](bool inverse) {
    Prepared<C> prepared(call, inverse);
    prepared.problem.x = x.get();
    prepared.problem.z = z.get();
    const Block<std::byte> scratch(static_cast<int64_t>(dft_scratch(prepared.problem)), 64);
    const DftKernel kernel = dft_kernel(call.type);
    kernel(prepared.problem, 0, 1, scratch.get());
    kernel(prepared.problem, 1, images, scratch.get());
  };
  run(false);
  for (int64_t i = 0; i < images * modes; ++i) {
    Complex sum = 0;
    for (int64_t s = 0; s < samples; ++s) {
      sum += value_of(x[i / modes * samples + s]) * wave(call, i % modes, s);
    }
    sum *= call.weight(i % last);
    const double error = kRounding<C> * static_cast<double>(samples);
    expect_near(z[2 * i], sum.real(), error, name + " forward");
    expect_near(z[2 * i + 1], sum.imag(), error, name + " forward");
  }
  random.fill(z, images * modes * 2);
  run(true);
  for (int64_t i = 0; i < images * samples; ++i) {
    double sum = 0;
    for (int64_t m = 0; m < modes; ++m) {
      const int64_t at = 2 * (i / samples * modes + m);
      const Complex number(z[at], z[at + 1]);
      sum += call.weight(m % last) * (number * std::conj(wave(call, m, i % samples))).real();
    }
    const double error = kRounding<S> * (1 + std::fabs(sum)) + kRounding<C> * modes;
    expect_near(value_of(x[i]), sum, error, name + " inverse");
  }
}

template <class C>
void check_mixing(int64_t x, int64_t y, int64_t s, int64_t modes, bool conj_a, bool conj_b) {
  const int64_t length = 2 * modes;
  const Block<C> a(x * s * length), b(y * s * length), c(x * y * length);
  Random random{static_cast<uint64_t>(x + 10 * y + 100 * modes)};
  random.fill(a, x * s * length);
  random.fill(b, y * s * length);
  MixProblem p;
  p.x = x;
  p.y = y;
  p.s = s;
  p.length = length;
  p.a = a.get();
  p.b = b.get();
  p.c = c.get();
  p.a_x = s * length;
  p.a_s = length;
  p.b_y = length;  // [s, y, modes], as weights are
  p.b_s = y * length;
  p.conj_a = conj_a;
  p.conj_b = conj_b;
  const Block<C> scratch(mix_scratch(p), 64);
  const int64_t units = mix_units(p);
  mix_kernel(sizeof(C) == 8)(p, 0, units / 2, scratch.get());
  mix_kernel(sizeof(C) == 8)(p, units / 2, units, scratch.get());
  for (int64_t i = 0; i < x * y * modes; ++i) {
    const int64_t k = i % modes, column = i / modes % y, row = i / modes / y;
    Complex sum = 0;
    for (int64_t t = 0; t < s; ++t) {
      const C* left = a.get() + row * p.a_x + t * p.a_s + 2 * k;
      const C* right = b.get() + column * p.b_y + t * p.b_s + 2 * k;
      const Complex u(left[0], conj_a ? -left[1] : left[1]);
      const Complex v(right[0], conj_b ? -right[1] : right[1]);
      sum += u * v;
    }
    const double error = kRounding<C> * static_cast<double>(s + 1);
    expect_near(c[2 * i], sum.real(), error, "mixing");
    expect_near(c[2 * i + 1], sum.imag(), error, "mixing");
  }
}

template <class C>
void check_all_mixing() {
  for (const int64_t modes : {1, 3, 16, 65}) {
    check_mixing<C>(1, 1, 1, modes, false, false);
    check_mixing<C>(11, 3, 2, modes, true, false);
    check_mixing<C>(3, 2, 5, modes, false, true);
  }
}

}  // namespace

int main() {
  return on_every_isa([] {
    for (const Grid& grid : kGrids) {
      check_transforms<double>(grid);
      check_transforms<float>(grid);
      check_transforms<Half>(grid);
      check_transforms<BFloat16>(grid);
    }
    check_all_mixing<float>();
    check_all_mixing<double>();
  });
}
