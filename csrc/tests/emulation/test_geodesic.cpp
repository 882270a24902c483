// The geodesic distance on the emulated GPU against Dijkstra's algorithm in the same arithmetic,
// bit for bit.
#include <functional>
#include <queue>

#include "cuda/geodesic.hpp"
#include "device_test.hpp"

using namespace medkern;
using namespace medkern::test;

namespace {

using Metric = GeodesicMetric;
using Norm = ChannelNorm;
constexpr double kFar = INFINITY;

struct Case {
  Grid grid;
  Metric metric = Metric::l1;
  double lam = 0.5;
  int connectivity = 3;
  int64_t batch = 2, classes = 2, channels = 1;
  Norm norm = Norm::l1;
  bool mask = false;
  double limit = kFar;
  double range = 100;     // of the image; 0: constant
  int seeds = 1;          // per batch and class
  bool soft = false;      // seeds cost something
  bool nan = false;       // some voxels of the image are
  int64_t seeded = 0;     // so many voxels from the first are seeds
  bool diagonal = false;  // the mask leaves only the voxels with one coordinate
};

template <class T>
struct Example {
  Case c;
  int64_t count = c.grid.count();
  std::vector<T> image, starts, expected;
  std::vector<uint8_t> mask;
  std::vector<double> spacing;

  explicit Example(const Case& shape) : c(shape) {
    Random random(static_cast<unsigned>(count * 7 + c.classes + static_cast<int>(c.metric)));
    for (int64_t i = 0; i < c.batch * c.channels * count; ++i) {
      const bool nan = c.nan && random.below(20) == 0;
      image.push_back(static_cast<T>(nan ? NAN : c.range * random.uniform()));
    }
    for (int64_t i = 0; i < c.batch * count; ++i) {
      const int64_t x = i % c.grid.size[2], diagonal = i % count;
      mask.push_back(c.diagonal ? diagonal == c.grid.index(x, x, x) : random.below(4) > 0);
    }
    for (int64_t i = 0; i < 3 * c.batch; ++i) spacing.push_back(0.5 + 2 * random.uniform());
    starts.assign(c.batch * c.classes * count, static_cast<T>(kFar));
    for (int64_t item = 0; item < c.batch * c.classes; ++item) {
      std::fill_n(&starts[item * count], c.seeded, T{});
      for (int i = 0; i < c.seeds; ++i) {
        starts[item * count + random.below(count)] =
            static_cast<T>(c.soft ? 20 * random.uniform() : 0);
      }
    }
    for (int64_t item = 0; item < c.batch * c.classes; ++item) dijkstra(item);
  }

  bool wall(int64_t sample, int64_t voxel) const {
    bool found = c.mask && !mask[sample * count + voxel];
    for (int64_t k = 0; k < c.channels; ++k) {
      found |= std::isnan(image[(sample * c.channels + k) * count + voxel]);
    }
    return found;
  }

  T difference(int64_t sample, int64_t q, int64_t p) const {
    const Norm norm = c.metric == Metric::geodistk ? Norm::l2 : c.norm;
    T sum = 0;
    for (int64_t k = 0; k < c.channels; ++k) {
      const T* channel = &image[(sample * c.channels + k) * count];
      const T d = std::fabs(channel[q] - channel[p]);
      if (c.channels == 1) return d;
      if (norm == Norm::l1) sum += d;
      if (norm == Norm::l2) sum += d * d;
      if (norm == Norm::linf) sum = std::max(sum, d);
    }
    return norm == Norm::l2 ? std::sqrt(sum) : sum;
  }

  T weight(int64_t sample, int64_t q, int64_t p, double length) const {
    const T d = difference(sample, q, p);
    const T* first = &image[sample * c.channels * count];
    const auto t = [](double value) { return static_cast<T>(value); };
    switch (c.metric) {
      case Metric::l1:
        return t(1 - c.lam) * d + t(c.lam * length);
      case Metric::l2:
        return std::sqrt(t(1 - c.lam) * (d * d) + t(c.lam * length * length));
      case Metric::fastgeodis:
        return t(c.lam) * d + t((1 - c.lam) * length);
      case Metric::geodistk:
        return t(length) / (t(1 - c.lam) + t(c.lam) / (d + t(1e-5)));
      case Metric::geos:
        return std::sqrt(t(c.lam * c.lam) * (d * d) + t(length * length));
      case Metric::mcp:
        return (first[q] + first[p]) * t(length / 2);
      default:
        return first[p];
    }
  }

  void dijkstra(int64_t item) {
    const int64_t sample = item / c.classes;
    std::vector<T> distance(starts.begin() + item * count, starts.begin() + (item + 1) * count);
    using Entry = std::pair<T, int64_t>;
    std::priority_queue<Entry, std::vector<Entry>, std::greater<Entry>> queue;
    const auto offer = [&](int64_t voxel, T value) { queue.push({value, voxel}); };
    for (int64_t i = 0; i < count; ++i) {
      if (wall(sample, i) || !(distance[i] <= c.limit)) distance[i] = static_cast<T>(kFar);
      if (distance[i] < kFar) offer(i, distance[i]);
    }
    const double edges[3] = {spacing[3 * sample], spacing[3 * sample + 1], spacing[3 * sample + 2]};
    const auto around = neighbours(c.grid, c.connectivity, edges);
    while (!queue.empty()) {
      const auto [value, q] = queue.top();
      queue.pop();
      if (value > distance[q]) continue;
      for (const Neighbour& n : around) {
        const int64_t at[3] = {q / (c.grid.size[1] * c.grid.size[2]) + n.step[0],
                               q / c.grid.size[2] % c.grid.size[1] + n.step[1],
                               q % c.grid.size[2] + n.step[2]};
        bool inside = true;
        for (int axis = 0; axis < 3; ++axis) {
          inside &= at[axis] >= 0 && at[axis] < c.grid.size[axis];
        }
        if (!inside || wall(sample, q + n.offset)) continue;
        const int64_t p = q + n.offset;
        const T offered = value + weight(sample, q, p, n.length);
        if (!(offered < distance[p]) || offered > c.limit) continue;
        distance[p] = offered;
        offer(p, offered);
      }
    }
    expected.insert(expected.end(), distance.begin(), distance.end());
  }
};

template <class T>
void test_example(const Example<T>& e) {
  const Case& c = e.c;
  std::vector<T> distance(e.starts.size(), -1);
  const GeodesicArrays arrays{e.image.data(),
                              e.starts.data(),
                              c.mask ? reinterpret_cast<const bool*>(e.mask.data()) : nullptr,
                              e.spacing.data(),
                              distance.data(),
                              c.batch,
                              c.channels,
                              c.classes,
                              c.grid,
                              c.connectivity,
                              c.metric,
                              c.norm,
                              c.lam,
                              c.limit};
  std::vector<char> workspace(geodesic_workspace_bytes(arrays), 0x55);
  check(launch_geodesic(arrays, sizeof(T) == 8, workspace.data(), nullptr));
  check(distance == e.expected,
        std::to_string(c.grid.size[0]) + " x " + std::to_string(c.grid.size[1]) + " x " +
            std::to_string(c.grid.size[2]) + ", metric " +
            std::to_string(static_cast<int>(c.metric)) + (sizeof(T) == 8 ? ", double" : ", float"));
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Grid& grid : {Grid{{1, 1, 1}}, Grid{{1, 32, 33}}, Grid{{5, 7, 9}}, Grid{{3, 1, 33}}}) {
    all.push_back({grid});
    all.push_back({grid, Metric::l2, 0.3, 1});
  }
  for (const Grid& grid :
       {Grid{{1, 1, 1000}}, Grid{{1, 33, 31}}, Grid{{1, 3, 257}}, Grid{{1, 5, 300}},
        Grid{{1, 35, 1000}}, Grid{{1, 300, 1}}, Grid{{9, 8, 17}}}) {
    all.push_back({grid, Metric::l1, 0.5, 3, 1, 1});
  }
  Case tile_of_seeds{{{1, 1, 40}}};
  tile_of_seeds.seeded = 32;
  tile_of_seeds.seeds = 0;
  all.push_back(tile_of_seeds);
  Case across_corner{{{9, 9, 9}}};
  across_corner.seeded = 1;
  across_corner.seeds = 0;
  across_corner.mask = across_corner.diagonal = true;
  all.push_back(across_corner);
  const Grid flat{{1, 5, 37}}, cube{{3, 5, 11}};  // two tiles
  for (const Grid& grid : {flat, cube}) {
    for (const Metric metric : {Metric::l1, Metric::l2, Metric::fastgeodis, Metric::geodistk,
                                Metric::geos, Metric::mcp, Metric::node}) {
      all.push_back({grid, metric, 0.7});
      if (metric >= Metric::mcp) continue;
      for (const Norm norm : {Norm::l1, Norm::l2, Norm::linf}) {
        all.push_back({grid, metric, 0.4, 2, 1, 1, 3, norm});
      }
    }
    Case c{grid};
    c.mask = true;
    all.push_back(c);
    c.limit = 60;
    all.push_back(c);
    c = {grid};
    c.lam = 0;
    all.push_back(c);
    c.range = 0;  // edges of no cost
    all.push_back(c);
    c = {grid};
    c.seeds = 10;
    c.soft = true;
    c.classes = 3;
    all.push_back(c);
    c.channels = 2;
    c.nan = true;
    all.push_back(c);
    c.seeds = 0;
    all.push_back(c);
    c.batch = 0;
    all.push_back(c);
  }
  return all;
}

template <class T>
std::vector<Example<T>> examples() {
  auto all = cases();
  if (kSanitized) {  // a few kinds; wide grids only repeat what two tiles do
    std::erase_if(
        all, [kept = 0](const Case& c) mutable { return c.grid.count() > 600 || kept++ % 5 != 0; });
  }
  return {all.begin(), all.end()};
}

}  // namespace

int main() {
  const auto floats = examples<float>();
  const auto doubles = kSanitized ? std::vector<Example<double>>{} : examples<double>();
  return in_all_orders([&] {
    for (const auto& e : floats) test_example(e);
    for (const auto& e : doubles) test_example(e);
  });
}
