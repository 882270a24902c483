// The barrier kernels against their definitions on small random grids, with one and many threads.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "core/barrier_run.hpp"

using namespace medkern;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

class ManyThreads final : public Parallel {
 public:
  int threads() const override { return 4; }
  void run(int64_t units, int64_t, const Body& body) const override {
    std::vector<std::thread> pool;
    for (int64_t i = 0; i < units; ++i) pool.emplace_back([&body, i] { body(i, i + 1); });
    for (std::thread& thread : pool) thread.join();
  }
};

struct Interrupts final : Parallel {
  int threads() const override { return 1; }
  void run(int64_t units, int64_t, const Body& body) const override { body(0, units); }
  bool interrupted() const override { return true; }
};

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "test_barrier: %s\n", what);
  std::abort();
}

template <class T>
struct Case {
  Grid grid;
  int connectivity;
  int64_t batch, sets, channels;
  std::vector<T> image;
  std::vector<uint8_t> seeds, mask;

  BarrierProblem<T> problem() const {
    const auto flags = [](const std::vector<uint8_t>& v) {
      return v.empty() ? nullptr : reinterpret_cast<const bool*>(v.data());
    };
    return {image.data(), flags(seeds), flags(mask), batch, sets, channels, grid, connectivity};
  }
  bool open(int64_t b, int64_t i) const { return mask.empty() || mask[b * grid.count() + i]; }
};

using Random = std::mt19937;

int64_t below(Random& random, int64_t n) { return static_cast<int64_t>(random() % n); }

template <class T>
Case<T> draw(Random& random, int64_t channels) {
  Case<T> c;
  const int ndim = 1 + static_cast<int>(below(random, 3));
  for (int axis = 3 - ndim; axis < 3; ++axis) c.grid.size[axis] = 1 + below(random, 4);
  if (ndim < 3) c.grid.size[2] += below(random, 5);
  c.connectivity = 1 + static_cast<int>(below(random, ndim));
  c.batch = 1 + below(random, 2);
  c.sets = 1 + below(random, 2);
  c.channels = channels;
  const int64_t levels = below(random, 2) ? 6 : 200;
  for (int64_t i = 0; i < c.batch * channels * c.grid.count(); ++i) {
    c.image.push_back(static_cast<T>(below(random, levels)));
  }
  for (int64_t i = 0; i < c.batch * c.sets * c.grid.count(); ++i) {
    c.seeds.push_back(below(random, 6) == 0);
  }
  if (below(random, 2)) {
    for (int64_t i = 0; i < c.batch * c.grid.count(); ++i) c.mask.push_back(below(random, 4) > 0);
  }
  return c;
}

// Voxels connected to the seeds through voxels with values in [low, high].
template <class T>
std::vector<bool> flood(const Case<T>& c, int64_t unit, double low, double high) {
  const int64_t n = c.grid.count(), b = unit / c.sets;
  const int64_t h = c.grid.size[1], w = c.grid.size[2];
  const auto inside = [&](int64_t i) {
    const double v = static_cast<double>(c.image[b * c.channels * n + i]);
    return c.open(b, i) && low <= v && v <= high;
  };
  std::vector<bool> reached(n);
  std::vector<int64_t> stack;
  const auto reach = [&](int64_t i) {
    if (!inside(i) || reached[i]) return;
    reached[i] = true;
    stack.push_back(i);
  };
  for (int64_t i = 0; i < n; ++i) {
    if (c.seeds[unit * n + i]) reach(i);
  }
  while (!stack.empty()) {
    const int64_t i = stack.back();
    stack.pop_back();
    for (const Neighbour& m : neighbours(c.grid, c.connectivity, {1, 1, 1})) {
      const int64_t z = i / (h * w) + m.step[0], y = i / w % h + m.step[1], x = i % w + m.step[2];
      if (z < 0 || y < 0 || x < 0 || z >= c.grid.size[0] || y >= h || x >= w) continue;
      reach(c.grid.index(z, y, x));
    }
  }
  return reached;
}

// By definition: the narrowest interval of values through which each voxel is reached.
template <class T>
void brute_force(const Case<T>& c, std::vector<double>& barrier, std::vector<double>& bottleneck) {
  const int64_t n = c.grid.count();
  barrier.assign(c.batch * c.sets * n, kInf);
  bottleneck = barrier;
  for (int64_t unit = 0; unit < c.batch * c.sets; ++unit) {
    const auto* values = &c.image[unit / c.sets * c.channels * n];
    const std::set<double> levels(values, values + n);
    for (const double high : levels) {
      for (const double low : levels) {
        if (low > high) continue;
        const std::vector<bool> reached = flood(c, unit, low, high);
        for (int64_t i = 0; i < n; ++i) {
          if (!reached[i]) continue;
          double &best = barrier[unit * n + i], &lowest = bottleneck[unit * n + i];
          best = std::min(best, high - low);
          lowest = std::min(lowest, high);
        }
      }
    }
  }
}

template <class T>
void check_exact(const Case<T>& c) {
  using Value = BarrierValue<T>;
  const int64_t n = c.grid.count(), total = c.batch * c.sets * n;
  const BarrierProblem<T> problem = c.problem();
  std::vector<double> barrier, bottleneck;
  brute_force(c, barrier, bottleneck);
  std::vector<Value> got(total), threaded(total), highest_value(total), raster(total), scans(total);
  std::vector<int64_t> pairs(2 * total), roof(total);
  minimum_barrier(problem, got.data(), Serial());
  minimum_barrier(problem, threaded.data(), ManyThreads());
  bottleneck_distance(problem, highest_value.data(), Serial());
  barrier_witnesses(problem, pairs.data(), ManyThreads());
  bottleneck_witness(problem, roof.data(), Serial());
  raster_barrier(problem, 1000, raster.data(), scans.data(), Serial());
  require(std::memcmp(got.data(), threaded.data(), total * sizeof(Value)) == 0, "threads");
  for (int64_t i = 0; i < total; ++i) {
    const T* image = &c.image[i / n / c.sets * c.channels * n];
    const int64_t per_sample = c.sets * n, at = i + i / per_sample * per_sample;
    const int64_t highest = pairs[at], lowest = pairs[at + per_sample];
    require(got[i] == barrier[i], "barrier differs from its definition");
    require(highest_value[i] == bottleneck[i], "bottleneck differs from its definition");
    require(raster[i] >= got[i], "the raster scan is below the minimum");
    require((raster[i] == kInf) == (got[i] == kInf), "the raster scan reaches other voxels");
    require((highest < 0) == (barrier[i] == kInf) && (lowest < 0) == (highest < 0) &&
                (roof[i] < 0) == (highest < 0),
            "unreachable voxels have no witnesses");
    if (highest < 0) continue;
    require(image[highest] - image[lowest] == barrier[i], "witnesses of the barrier");
    require(image[roof[i]] == bottleneck[i], "witness of the bottleneck");
    const auto reached =
        flood(c, i / n, static_cast<double>(image[lowest]), static_cast<double>(image[highest]));
    require(reached[i % n] && reached[highest] && reached[lowest], "witnesses on no path");
  }
  for (int64_t unit = 0; unit < c.batch * c.sets; ++unit) require(scans[unit] > 0, "converges");
}

template <class T>
void check_vectorial(const Case<T>& c) {
  const int64_t n = c.grid.count(), total = c.batch * c.sets * n;
  std::vector<BarrierValue<T>> got(total);
  const BarrierNorm norms[] = {BarrierNorm::l1, BarrierNorm::l2, BarrierNorm::linf};
  for (const BarrierNorm norm : norms) {
    vectorial_barrier(c.problem(), norm, got.data(), Serial());
    std::vector<double> bound(total, 0), barrier, bottleneck;
    for (int64_t channel = 0; channel < c.channels; ++channel) {
      Case<T> one = c;
      one.channels = 1;
      one.image.clear();
      for (int64_t b = 0; b < c.batch; ++b) {
        const T* from = &c.image[(b * c.channels + channel) * n];
        one.image.insert(one.image.end(), from, from + n);
      }
      brute_force(one, barrier, bottleneck);
      for (int64_t i = 0; i < total; ++i) {
        if (norm == BarrierNorm::l1) bound[i] += barrier[i];
        if (norm == BarrierNorm::l2) bound[i] = std::hypot(bound[i], barrier[i]);
        if (norm == BarrierNorm::linf) bound[i] = std::max(bound[i], barrier[i]);
      }
    }
    for (int64_t i = 0; i < total; ++i) {
      require(got[i] >= bound[i] - 1e-4, "vectorial below its channels");
      require((got[i] == kInf) == (bound[i] == kInf), "vectorial reaches other voxels");
    }
  }
}

template <class T>
void check_type(Random& random) {
  for (int i = 0; i < 150; ++i) check_exact(draw<T>(random, 1));
  for (int i = 0; i < 20; ++i) check_vectorial(draw<T>(random, 1 + below(random, 3)));
}

// Extremes of the types, and more levels than 16-bit ranks hold.
void check_wide() {
  Case<int16_t> c{{{1, 1, 4}}, 1, 1, 1, 1, {-32768, 32767, 0, -1}, {1, 0, 0, 0}, {}};
  std::vector<float> got(4);
  minimum_barrier(c.problem(), got.data(), Serial());
  require(got == std::vector<float>{0, 65535, 65535, 65535}, "int16 overflows");
  Case<float> many{{{1, 300, 200}}, 1, 1, 1, 1, {}, std::vector<uint8_t>(60000), {}};
  for (int i = 0; i < 60000; ++i) many.image.push_back(static_cast<float>(i));
  many.seeds[0] = 1;
  std::vector<float> far(60000);
  minimum_barrier(many.problem(), far.data(), Serial());
  for (int i = 0; i < 60000; ++i) require(far[i] == static_cast<float>(i), "many levels");
}

// Index maths of grids that no machine holds.
void check_huge() {
  const WalledGrid grid(Grid{{4096, 2048, 2048}});
  require(grid.count() > (int64_t{1} << 34), "64-bit extents");
  const int64_t last = grid.inner.count() - 1, here = grid.row(4095, 2047) + 2047;
  require(grid.inner_index(here) == last && here < grid.count(), "64-bit indices");
  for (const int64_t offset : grid.offsets<int64_t>(3)) {
    require(here + offset >= 0 && here + offset < grid.count(), "offsets stay inside");
    require(grid.row(0, 0) + offset >= 0, "offsets stay inside");
  }
}

void check_interrupt() {
  Case<float> c{
      {{1, 400, 400}}, 2, 1, 1, 1, std::vector<float>(160000), std::vector<uint8_t>(160000), {}};
  c.seeds[0] = 1;
  std::vector<float> out(160000);
  bool stopped = false;
  try {
    minimum_barrier(c.problem(), out.data(), Interrupts());
  } catch (const Interrupted&) {
    stopped = true;
  }
  require(stopped, "Ctrl-C");
}

}  // namespace

int main() {
  Random random{20240607};
  check_type<uint8_t>(random);
  check_type<int16_t>(random);
  check_type<uint16_t>(random);
  check_type<float>(random);
  check_type<double>(random);
  check_wide();
  check_huge();
  check_interrupt();
  return 0;
}
