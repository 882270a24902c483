// Warping on every instruction set, dtype, mode and padding, with threads that share one image:
// against the definition, the transpose by the adjoint, and the same bits however it ran. Arrays
// are heap blocks of their exact extent for the sanitizers; displacements are also huge, infinite
// and NaN.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <sstream>
#include <string>

#include "core/warp_sweep.hpp"
#include "isa/isa.hpp"
#include "random_case.hpp"

using namespace medkern;
using medkern::test::Random;
using medkern::test::Threads;

namespace {

constexpr int kCases = 120;

using Bytes = std::unique_ptr<std::byte[]>;

Bytes block(int64_t bytes) { return Bytes(new std::byte[static_cast<size_t>(bytes)]); }

struct Case {
  WarpProblem p;
  WarpMode mode;
  FloatType type;
  Bytes image, grad, u;

  int64_t images() const { return p.batch * p.channels * p.voxels(); }
  int64_t outputs() const { return p.batch * p.channels * p.out_voxels(); }
  int64_t displacements() const { return p.batch * p.ndim * p.out_voxels(); }
  bool wide() const { return type == FloatType::float64; }
  int64_t width() const { return bytes_of(type); }
};

void put(const Bytes& to, FloatType type, int64_t i, double value) {
  if (type == FloatType::float64) {
    reinterpret_cast<double*>(to.get())[i] = value;
  } else if (type == FloatType::float32) {
    reinterpret_cast<float*>(to.get())[i] = static_cast<float>(value);
  } else {  // the upper half of a float: a number of about that size, as bfloat16 exactly
    const auto single = static_cast<float>(value);
    std::memcpy(to.get() + 2 * i, reinterpret_cast<const std::byte*>(&single) + 2, 2);
  }
}

double draw_displacement(Random& random) {
  const double infinity = std::numeric_limits<double>::infinity();
  const double special[] = {0, 1, -2, 0.5, -1.5, 1e9, -3e9, 1e30, infinity, -infinity, NAN};
  return random.below(6) == 0 ? special[random.below(11)] : 4 * random.number();
}

Case draw(Random& random) {
  Case c;
  WarpProblem& p = c.p;
  p.ndim = 2 + static_cast<int>(random.below(2));
  p.batch = 1 + random.below(2);
  const int64_t channels[] = {1, 1, 2, 4, 5, 9};
  p.channels = channels[random.below(6)];
  for (int axis = 3 - p.ndim; axis < 3; ++axis) {
    p.size[axis] = 1 + random.below(6);
    p.out[axis] = 1 + random.below(5);
    if (random.below(2)) continue;
    const auto last = static_cast<double>(p.size[axis] - 1);  // normalized
    p.step[axis] = p.out[axis] > 1 ? last / static_cast<double>(p.out[axis] - 1) : 0;
    p.scale[axis] = last / 2;
  }
  if (random.below(2)) p.out[2] = 60 + random.below(9);
  const WarpPadding paddings[] = {WarpPadding::zeros, WarpPadding::border, WarpPadding::reflection};
  const WarpMode modes[] = {WarpMode::nearest, WarpMode::linear, WarpMode::cubic};
  p.padding = paddings[random.below(3)];
  c.mode = modes[random.below(3)];
  c.type = static_cast<FloatType>(random.below(4));
  c.image = block(c.images() * c.width());
  c.grad = block(c.outputs() * c.width());
  for (int64_t i = 0; i < c.images(); ++i) put(c.image, c.type, i, random.number());
  for (int64_t i = 0; i < c.outputs(); ++i) put(c.grad, c.type, i, random.number());
  const FloatType of_u = c.wide() ? FloatType::float64 : FloatType::float32;
  c.u = block(c.displacements() * bytes_of(of_u));
  const bool calm = random.below(3) == 0;  // rows stay together, and cross slabs one by one
  for (int64_t i = 0; i < c.displacements(); ++i) {
    put(c.u, of_u, i, calm ? 0.3 : draw_displacement(random));
  }
  p.displacement = c.u.get();
  return c;
}

struct Results {
  Bytes out, transposed, slope;
};

Results run(const Case& c, const Parallel& threads) {
  Results r{block(c.outputs() * c.width()), block(c.images() * c.width()),
            block(c.displacements() * (c.wide() ? 8 : 4))};
  WarpSweep(c.p, c.mode, c.type, threads).transpose(c.grad.get(), r.transposed.get());
  if (c.mode == WarpMode::nearest) {
    warp_copy(c.p, {c.image.get(), r.out.get(), 0}, static_cast<int>(c.width()), c.wide(), threads);
    return r;
  }
  WarpSweep(c.p, c.mode, c.type, threads).forward(c.image.get(), r.out.get());
  WarpSweep(c.p, c.mode, c.type, threads).slope(c.grad.get(), c.image.get(), r.slope.get());
  return r;
}

[[noreturn]] void fail(const Case& c, const char* what) {
  const WarpProblem& p = c.p;
  std::printf("%s: %dx%dx%d to %dx%dx%d, %d channels, mode %d, padding %d, type %d, isa %s\n", what,
              int(p.size[0]), int(p.size[1]), int(p.size[2]), int(p.out[0]), int(p.out[1]),
              int(p.out[2]), int(p.channels), int(c.mode), int(p.padding), int(c.type),
              medkern_active_isa());
  std::exit(1);
}

// Where a position reads an axis: indices and weights.
struct Taps {
  int64_t index[4];
  double weight[4];
  int count;
};

double keys(double x) {
  const double a = -0.75;
  x = std::fabs(x);
  return x <= 1 ? ((a + 2) * x - (a + 3)) * x * x + 1 : ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
}

Taps taps_by_definition(const Case& c, int axis, int64_t x, double u) {
  const WarpProblem& p = c.p;
  const double start = static_cast<double>(x) * p.step[axis];
  const double far = static_cast<double>(kWarpFar);
  double t = start - std::floor(start) + u * p.scale[axis];
  Taps taps{{}, {t, t, t, t}, 1};
  const bool lost = p.padding == WarpPadding::reflection ? !std::isfinite(t) : std::isnan(t);
  if (lost) {
    taps.weight[0] = NAN;
    return taps;
  }
  t = std::fmin(std::fmax(t, -far), far);
  const double f = t - std::floor(t);
  int64_t i = static_cast<int64_t>(std::floor(t)) + static_cast<int64_t>(std::floor(start));
  taps.count = static_cast<int>(c.mode);
  if (c.mode == WarpMode::nearest) i += f > 0.5 || (f == 0.5 && i % 2 != 0);
  if (c.mode == WarpMode::cubic) i -= 1;
  const int64_t n = p.size[axis], period = n > 1 ? 2 * (n - 1) : 1;
  for (int k = 0; k < taps.count; ++k) {
    int64_t j = i + k;
    taps.weight[k] = taps.count == 1 ? 1 : taps.count == 2 ? (k == 0 ? 1 - f : f) : keys(f + 1 - k);
    if (p.padding == WarpPadding::zeros && (j < 0 || j >= n)) taps.weight[k] = 0;
    if (p.padding == WarpPadding::reflection) {
      j = (j % period + period) % period;
      j = j >= n ? period - j : j;
    }
    taps.index[k] = std::min(std::max<int64_t>(j, 0), n - 1);
  }
  return taps;
}

double by_definition(const Case& c, int64_t sample, int64_t channel, int64_t at) {
  const WarpProblem& p = c.p;
  const auto* image =
      reinterpret_cast<const double*>(c.image.get()) + (sample * p.channels + channel) * p.voxels();
  const auto* u =
      reinterpret_cast<const double*>(c.u.get()) + sample * p.ndim * p.out_voxels() + at;
  const int64_t x[3] = {at / p.out[2] / p.out[1], at / p.out[2] % p.out[1], at % p.out[2]};
  Taps taps[3] = {{{0}, {1}, 1}, {}, {}};
  for (int axis = 3 - p.ndim; axis < 3; ++axis) {
    taps[axis] = taps_by_definition(c, axis, x[axis], u[(axis - 3 + p.ndim) * p.out_voxels()]);
  }
  double sum = 0;
  for (int i = 0; i < taps[0].count; ++i) {
    for (int j = 0; j < taps[1].count; ++j) {
      for (int k = 0; k < taps[2].count; ++k) {
        const int64_t from = (taps[0].index[i] * p.size[1] + taps[1].index[j]) * p.size[2];
        sum += taps[0].weight[i] * taps[1].weight[j] * taps[2].weight[k] *
               image[from + taps[2].index[k]];
      }
    }
  }
  return sum;
}

void check_values(const Case& c, const Results& r) {
  const auto* out = reinterpret_cast<const double*>(r.out.get());
  const auto* grad = reinterpret_cast<const double*>(c.grad.get());
  const auto* image = reinterpret_cast<const double*>(c.image.get());
  const auto* transposed = reinterpret_cast<const double*>(r.transposed.get());
  double left = 0, right = 0;
  for (int64_t i = 0; i < c.outputs(); ++i) {
    const int64_t plane = i / c.p.out_voxels();
    const double want =
        by_definition(c, plane / c.p.channels, plane % c.p.channels, i % c.p.out_voxels());
    if (std::isnan(want)) {
      if (c.mode != WarpMode::nearest && !std::isnan(out[i])) fail(c, "a lost voxel has a value");
      continue;
    }
    if (!(std::fabs(out[i] - want) < 1e-12)) fail(c, "the value is wrong");
    left += out[i] * grad[i];
  }
  for (int64_t i = 0; i < c.images(); ++i) right += image[i] * transposed[i];
  if (!(std::fabs(left - right) < 1e-9)) fail(c, "the transpose is no adjoint");
}

void check_same(const Case& c, const Bytes& a, const Bytes& b, int64_t bytes) {
  if (std::memcmp(a.get(), b.get(), static_cast<size_t>(bytes)) != 0) {
    fail(c, "bits depend on the instruction set or the threads");
  }
}

}  // namespace

int main() {
  Random random{42};
  for (int i = 0; i < kCases; ++i) {
    const Case c = draw(random);
    std::unique_ptr<Results> first;
    std::istringstream isas(medkern_isas());
    for (std::string isa; isas >> isa;) {
      if (medkern_set_isa(isa.c_str()) != 0) return 1;
      for (const int threads : {1, 3}) {
        auto r = std::make_unique<Results>(run(c, Threads(threads)));
        if (!first) {
          if (c.wide()) check_values(c, *r);
          first = std::move(r);
          continue;
        }
        check_same(c, first->out, r->out, c.outputs() * c.width());
        check_same(c, first->transposed, r->transposed, c.images() * c.width());
        if (c.mode == WarpMode::nearest) continue;
        check_same(c, first->slope, r->slope, c.displacements() * (c.wide() ? 8 : 4));
      }
    }
  }
  std::printf("%d cases on %s\n", kCases, medkern_isas());
  return 0;
}
