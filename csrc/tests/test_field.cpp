// The determinant of the Jacobian, the smoothness penalty and their gradients on every instruction
// set and dtype, cut into pieces: against the definition, the gradients against finite differences,
// and the same bits however it ran. Arrays are heap blocks of their exact extent for the
// sanitizers.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <sstream>
#include <string>
#include <utility>

#include "core/field.hpp"
#include "isa/isa.hpp"
#include "random_case.hpp"

using namespace medkern;
using medkern::test::Random;
using medkern::test::Threads;

namespace {

constexpr int kCases = 60;

using Bytes = std::unique_ptr<std::byte[]>;

Bytes block(int64_t bytes) { return Bytes(new std::byte[static_cast<size_t>(bytes)]); }

struct Case {
  FieldProblem p;
  FloatType type;
  Bytes u, grad, grad_of_loss;
  std::vector<double> spacing;

  int64_t values() const { return p.batch * p.channels * p.voxels(); }
};

template <class T>
void fill(const Bytes& to, int64_t count, Random& random) {
  for (int64_t i = 0; i < count; ++i) {
    const auto value = static_cast<float>(2 * random.number());
    if constexpr (sizeof(T) == 2) {  // the upper half of a float
      std::memcpy(to.get() + 2 * i, reinterpret_cast<const std::byte*>(&value) + 2, 2);
    } else {
      reinterpret_cast<T*>(to.get())[i] = value;
    }
  }
}

void fill(const Bytes& to, FloatType type, int64_t count, Random& random) {
  switch (type) {
    case FloatType::float64:
      return fill<double>(to, count, random);
    case FloatType::float32:
      return fill<float>(to, count, random);
    default:
      return fill<uint16_t>(to, count, random);
  }
}

Case draw(Random& random) {
  Case c;
  FieldProblem& p = c.p;
  p.axes = 2 + static_cast<int>(random.below(2));
  p.batch = 1 + random.below(2);
  p.channels = p.axes;
  for (int axis = 3 - p.axes; axis < 3; ++axis) p.size[axis] = 1 + random.below(5);
  if (random.below(2)) p.size[2] = 14 + random.below(22);
  p.squares = random.below(3) > 0;
  for (double& weight : p.weight) weight = 0.25 + static_cast<double>(random.below(4));
  for (int axis = 0; axis < 3 - p.axes; ++axis) p.weight[axis] = 0;
  c.type = static_cast<FloatType>(random.below(4));
  for (int64_t i = 0; i < 3 * p.batch; ++i) c.spacing.push_back(1.5 + random.number());
  const int64_t compute = c.type == FloatType::float64 ? 8 : 4;
  c.u = block(c.values() * bytes_of(c.type));
  c.grad = block(p.batch * p.voxels() * bytes_of(c.type));
  c.grad_of_loss = block(p.batch * compute);
  fill(c.u, c.type, c.values(), random);
  fill(c.grad, c.type, p.batch * p.voxels(), random);
  fill(c.grad_of_loss, compute == 8 ? FloatType::float64 : FloatType::float32, p.batch, random);
  p.u = c.u.get();
  p.spacing = c.spacing.data();
  return c;
}

void run(const FieldProblem& p, FieldTask task, FloatType type, int64_t rows, int threads) {
  const FieldKernel kernel = field_kernel(task, type);
  Threads(threads).run(rows, 1, [&](int64_t begin, int64_t end) {
    const Bytes scratch = block(static_cast<int64_t>(field_scratch(p)));
    kernel(p, begin, end, scratch.get());
  });
}

struct Results {
  Bytes determinant, slope, loss_slope;
  std::vector<int64_t> folds;
  std::vector<double> sums;
};

Results run(const Case& c, int threads) {
  const FieldProblem& p = c.p;
  const int64_t bytes = bytes_of(c.type);
  Results r{block(p.batch * p.voxels() * bytes), block(c.values() * bytes),
            block(c.values() * bytes), std::vector<int64_t>(p.sample_rows()),
            std::vector<double>(3 * p.channel_rows())};
  FieldProblem with = p;
  with.out = r.determinant.get();
  with.folds = r.folds.data();
  run(with, FieldTask::jacobian, c.type, p.sample_rows(), threads);
  with.grad = c.grad.get();
  with.out = r.slope.get();
  run(with, FieldTask::jacobian_backward, c.type, p.sample_rows(), threads);
  with.sums = r.sums.data();
  run(with, FieldTask::smoothness, c.type, p.channel_rows(), threads);
  with.grad = c.grad_of_loss.get();
  with.out = r.loss_slope.get();
  run(with, FieldTask::smoothness_backward, c.type, p.channel_rows(), threads);
  return r;
}

[[noreturn]] void fail(const Case& c, const char* what) {
  std::printf("%s: %dx%dx%d, %d axes, type %d, isa %s\n", what, int(c.p.size[0]), int(c.p.size[1]),
              int(c.p.size[2]), c.p.axes, int(c.type), medkern_active_isa());
  std::exit(1);
}

double* doubles(const Bytes& bytes) { return reinterpret_cast<double*>(bytes.get()); }

// The determinant at a voxel, expanded along its first row.
double determinant(const Case& c, int64_t sample, int64_t at) {
  const FieldProblem& p = c.p;
  const int64_t step[3] = {p.size[1] * p.size[2], p.size[2], 1};
  double m[3][3] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}};
  for (int i = 3 - p.axes; i < 3; ++i) {
    const double* u = doubles(c.u) + (sample * p.axes + i - 3 + p.axes) * p.voxels();
    for (int axis = 3 - p.axes; axis < 3; ++axis) {
      const int64_t x = at / step[axis] % p.size[axis];
      const int64_t low = x > 0 ? 1 : 0, high = x + 1 < p.size[axis] ? 1 : 0;
      if (low + high == 0) continue;
      m[i][axis] += (u[at + high * step[axis]] - u[at - low * step[axis]]) /
                    static_cast<double>(low + high) / p.spacing[3 * sample + axis];
    }
  }
  return m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) -
         m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0]) +
         m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0]);
}

double total_of_determinants(const Case& c) {
  double sum = 0;
  for (int64_t i = 0; i < c.p.batch * c.p.voxels(); ++i) {
    sum += doubles(c.grad)[i] * determinant(c, i / c.p.voxels(), i % c.p.voxels());
  }
  return sum;
}

double total_of_losses(const Case& c) {
  const FieldProblem& p = c.p;
  const int64_t step[3] = {p.size[1] * p.size[2], p.size[2], 1};
  double sum = 0;
  for (int64_t i = 0; i < c.values(); ++i) {
    const int64_t sample = i / p.voxels() / p.channels;
    for (int axis = 0; axis < 3; ++axis) {
      if (i / step[axis] % p.size[axis] + 1 == p.size[axis]) continue;
      const double d =
          (doubles(c.u)[i + step[axis]] - doubles(c.u)[i]) / p.spacing[3 * sample + axis];
      sum += doubles(c.grad_of_loss)[sample] * p.weight[axis] * (p.squares ? d * d : std::fabs(d));
    }
  }
  return sum;
}

void check_values(const Case& c, const Results& r, Random& random) {
  const FieldProblem& p = c.p;
  int64_t folds = 0;
  for (int64_t i = 0; i < p.batch * p.voxels(); ++i) {
    const double want = determinant(c, i / p.voxels(), i % p.voxels());
    const double got = doubles(r.determinant)[i];
    if (!(std::fabs(got - want) < 1e-11)) fail(c, "the determinant is wrong");
    folds += got <= 0;
  }
  for (const int64_t of_row : r.folds) folds -= of_row;
  if (folds != 0) fail(c, "the folds are miscounted");
  double loss = 0;
  for (int64_t row = 0; row < p.channel_rows(); ++row) {
    const int64_t sample = row / (p.channel_rows() / p.batch);
    for (int axis = 0; axis < 3; ++axis) {
      const double length = p.spacing[3 * sample + axis];
      loss += doubles(c.grad_of_loss)[sample] * p.weight[axis] *
              r.sums[static_cast<size_t>(3 * row + axis)] / (p.squares ? length * length : length);
    }
  }
  if (!(std::fabs(loss - total_of_losses(c)) < 1e-9)) fail(c, "the loss is wrong");
  for (int probe = 0; probe < 4; ++probe) {
    const int64_t i = random.below(c.values());
    double& u = doubles(c.u)[i];
    const double kept = u, h = 1e-5;
    u = kept + h;
    const double up = total_of_determinants(c), loss_up = total_of_losses(c);
    u = kept - h;
    const double down = total_of_determinants(c), loss_down = total_of_losses(c);
    u = kept;
    const double slope = doubles(r.slope)[i], loss_slope = doubles(r.loss_slope)[i];
    if (!(std::fabs((up - down) / (2 * h) - slope) < 1e-5)) fail(c, "the slope is wrong");
    if (!(std::fabs((loss_up - loss_down) / (2 * h) - loss_slope) < 1e-5)) {
      fail(c, "the slope of the loss is wrong");
    }
  }
}

bool same(const Bytes& a, const Bytes& b, int64_t bytes) {
  return std::memcmp(a.get(), b.get(), static_cast<size_t>(bytes)) == 0;
}

}  // namespace

int main() {
  Random random{7};
  for (int i = 0; i < kCases; ++i) {
    const Case c = draw(random);
    const int64_t bytes = bytes_of(c.type);
    std::unique_ptr<Results> first;
    std::istringstream isas(medkern_isas());
    for (std::string isa; isas >> isa;) {
      if (medkern_set_isa(isa.c_str()) != 0) return 1;
      for (const int threads : {1, 3}) {
        auto r = std::make_unique<Results>(run(c, threads));
        if (!first) {
          if (c.type == FloatType::float64) check_values(c, *r, random);
          first = std::move(r);
        } else if (!same(first->determinant, r->determinant, c.p.batch * c.p.voxels() * bytes) ||
                   !same(first->slope, r->slope, c.values() * bytes) ||
                   !same(first->loss_slope, r->loss_slope, c.values() * bytes) ||
                   first->folds != r->folds || first->sums != r->sums) {
          fail(c, "bits depend on the instruction set or the threads");
        }
      }
    }
  }
  std::printf("%d cases on %s\n", kCases, medkern_isas());
  return 0;
}
