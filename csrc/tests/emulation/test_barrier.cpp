// The minimum barrier and bottleneck distances on the emulated GPU against paths that no other
// beats in both ends.
#include <algorithm>
#include <queue>
#include <tuple>

#include "cuda/barrier.hpp"
#include "device_test.hpp"

using namespace medkern;
using namespace medkern::test;

namespace {

struct Case {
  Grid grid;
  int connectivity;
  int intensities;  // how many different ones
  int64_t at_once = 64;
  int64_t batch = 1, sets = 1;
  int seeds = 1;
  bool mask = false;
};

template <class T>
struct Example {
  Case c;
  int64_t count = c.grid.count();
  std::vector<T> image, levels, expected, bottleneck;
  std::vector<uint8_t> seeds, mask;

  explicit Example(const Case& shape) : c(shape) {
    Random random(static_cast<unsigned>(count + c.intensities));
    for (int64_t i = 0; i < c.intensities; ++i) levels.push_back(static_cast<T>(3 * i) / 7 - 5);
    for (int64_t i = 0; i < c.batch * count; ++i) {
      image.push_back(levels[random.below(c.intensities)]);
      mask.push_back(random.below(4) > 0);
    }
    seeds.assign(c.batch * c.sets * count, 0);
    for (int64_t unit = 0; unit < c.batch * c.sets; ++unit) {
      for (int i = 0; i < c.seeds; ++i) seeds[unit * count + random.below(count)] = 1;
    }
    solve();
  }

  Example(const Case& shape, std::vector<T> intensities, int64_t seed)
      : c(shape), image(std::move(intensities)), levels(image), seeds(count, 0), mask(count, 1) {
    seeds[seed] = 1;
    std::sort(levels.begin(), levels.end());
    solve();
  }

  void solve() {
    for (int64_t unit = 0; unit < c.batch * c.sets; ++unit) propagate(unit);
  }

  // Ascending maxima; of those at a voxel only higher minima than before go on.
  void propagate(int64_t unit) {
    const int64_t sample = unit / c.sets, plane = c.grid.size[1] * c.grid.size[2];
    const auto inside = [&](int64_t i) { return !c.mask || mask[sample * count + i]; };
    const T inf = static_cast<T>(INFINITY);
    std::vector<T> best(count, inf), highest(count, inf), minimum(count, -inf);
    using Path = std::tuple<T, T, int64_t>;  // maximum, minimum negated, voxel
    std::priority_queue<Path, std::vector<Path>, std::greater<Path>> queue;
    const auto offer = [&](int64_t voxel, T high, T low) {
      if (low <= minimum[voxel]) return;
      minimum[voxel] = low;
      best[voxel] = std::min(best[voxel], high - low);
      highest[voxel] = std::min(highest[voxel], high);
      queue.push({high, -low, voxel});
    };
    std::vector<std::pair<T, int64_t>> first;
    for (int64_t i = 0; i < count; ++i) {
      if (seeds[unit * count + i] && inside(i)) first.push_back({image[sample * count + i], i});
    }
    std::sort(first.begin(), first.end());
    const auto around = neighbours(c.grid, c.connectivity, {1, 1, 1});
    size_t seeded = 0;
    while (!queue.empty() || seeded < first.size()) {
      // Seeds join when their own intensity is the least maximum.
      if (seeded < first.size() &&
          (queue.empty() || first[seeded].first <= std::get<0>(queue.top()))) {
        offer(first[seeded].second, first[seeded].first, first[seeded].first);
        ++seeded;
        continue;
      }
      const auto [high, negated, q] = queue.top();
      queue.pop();
      for (const Neighbour& n : around) {
        const int64_t z = q / plane + n.step[0], y = q % plane / c.grid.size[2] + n.step[1],
                      x = q % c.grid.size[2] + n.step[2];
        if (z < 0 || z >= c.grid.size[0] || y < 0 || y >= c.grid.size[1] || x < 0 ||
            x >= c.grid.size[2] || !inside(q + n.offset)) {
          continue;
        }
        const T intensity = image[sample * count + q + n.offset];
        offer(q + n.offset, std::max(high, intensity), std::min(-negated, intensity));
      }
    }
    expected.insert(expected.end(), best.begin(), best.end());
    bottleneck.insert(bottleneck.end(), highest.begin(), highest.end());
  }
};

template <class T>
BarrierArrays<T> arrays(const Example<T>& e, std::vector<T>& distance) {
  const Case& c = e.c;
  return {e.image.data(),
          reinterpret_cast<const bool*>(e.seeds.data()),
          c.mask ? reinterpret_cast<const bool*>(e.mask.data()) : nullptr,
          distance.data(),
          c.batch,
          c.sets,
          c.grid,
          c.connectivity};
}

std::vector<double> workspace_of(int64_t bytes) { return std::vector<double>(bytes / 8 + 1, NAN); }

template <class T>
std::vector<T> run(const Example<T>& e) {
  std::vector<T> distance(e.seeds.size(), -1);
  const BarrierLevels<T> levels{e.levels.data(), static_cast<int64_t>(e.levels.size()),
                                e.c.at_once};
  const auto a = arrays(e, distance);
  auto workspace = workspace_of(barrier_workspace_bytes(a, levels));
  check(launch_barrier(a, levels, workspace.data(), nullptr));
  return distance;
}

template <class T>
std::vector<T> run_bottleneck(const Example<T>& e) {
  std::vector<T> distance(e.seeds.size(), -1);
  const auto a = arrays(e, distance);
  auto workspace = workspace_of(bottleneck_workspace_bytes(a));
  check(launch_bottleneck(a, workspace.data(), nullptr));
  return distance;
}

template <class T>
void test_example(const Example<T>& e) {
  const Grid& g = e.c.grid;
  const std::string name = std::to_string(g.size[0]) + " x " + std::to_string(g.size[1]) + " x " +
                           std::to_string(g.size[2]);
  check(run(e) == e.expected, "barrier " + name);
  check(run_bottleneck(e) == e.bottleneck, "bottleneck " + name);
}

// Where the best path to a voxel begins with one that is not the best to the voxel before.
void test_worse_prefix() {
  const float w = 255;
  const Case c{{{1, 5, 7}}, 1, 0};
  const Example<float> e(c, {w,  w,  w, w, w,  w,  w,  w, 10, 20, 18, w, w, w, w, 16, w, 16,
                             30, 30, w, w, 14, 26, 18, w, w,  w,  w,  w, w, w, w, w,  w},
                         2 * 7 + 1);
  check(e.expected[2 * 7 + 4] == 16, "oracle of the worse prefix");
  check(run(e) == e.expected, "worse prefix");
}

std::vector<Case> cases() {
  std::vector<Case> all{{{{1, 1, 1}}, 1, 3},
                        {{{1, 6, 33}}, 2, 40, 16, 2, 2, 2},
                        {{{1, 33, 31}}, 1, 9},
                        {{{3, 5, 11}}, 3, 20, 7, 1, 2, 1, true},
                        {{{1, 5, 37}}, 2, 12, 5, 1, 1, 4, true},
                        {{{1, 3, 1000}}, 2, 12},
                        {{{1, 2, 257}}, 1, 10, 3, 2},
                        {{{1, 300, 2}}, 2, 8},
                        {{{9, 7, 17}}, 1, 16, 4},
                        {{{2, 3, 4}}, 3, 5, 2, 0}};
  if (kSanitized) all.resize(5);
  return all;
}

template <class T>
std::vector<Example<T>> examples() {
  const auto all = cases();
  return {all.begin(), all.end()};
}

}  // namespace

int main() {
  const auto floats = examples<float>();
  const auto doubles = kSanitized ? std::vector<Example<double>>{} : examples<double>();
  return in_all_orders([&] {
    for (const auto& e : floats) test_example(e);
    for (const auto& e : doubles) test_example(e);
    test_worse_prefix();
  });
}
