// The Euclidean transform on the emulated GPU against all pairs of voxels, bit for bit.
#include "cuda/euclidean.hpp"
#include "device_test.hpp"

using namespace medkern;
using namespace medkern::test;

namespace {

struct Case {
  Grid grid;
  int64_t batch;
  int labels;      // how many, 0 included
  int64_t sparse;  // one voxel in so many has a label of its own draw, the others have label 1
  bool isotropic;
  bool both_sides = false;
};

template <class Label, class T>
struct Example {
  Case c;
  std::vector<Label> labels;
  std::vector<double> spacing;
  std::vector<T> distance;       // expected
  std::vector<int64_t> nearest;  // the first voxel at that distance

  explicit Example(const Case& shape) : c(shape) {
    Random random(static_cast<unsigned>(c.grid.count() + c.sparse));
    const int64_t count = c.batch * c.grid.count();
    for (int64_t i = 0; i < count; ++i) {
      labels.push_back(random.below(c.sparse) > 0 ? 1 : static_cast<Label>(random.below(c.labels)));
    }
    for (int64_t i = 0; i < 3 * c.batch; ++i) {
      spacing.push_back(c.isotropic ? 1 : 0.5 + 4 * random.uniform());
    }
    for (int64_t i = 0; i < count; ++i) find_nearest(i / c.grid.count(), i % c.grid.count());
  }

  // In units of the spacing along W.
  T square(int64_t sample, int axis, int64_t steps) const {
    const double ratio = spacing[3 * sample + axis] / spacing[3 * sample + 2];
    const double n = static_cast<double>(steps);
    return static_cast<T>(n * n * (ratio * ratio));
  }
  T root(int64_t sample, T square) const {
    return std::sqrt(square) * static_cast<T>(spacing[3 * sample + 2]);
  }
  T squared(int64_t sample, int64_t i, int64_t j) const {
    const int64_t *size = c.grid.size, plane = size[1] * size[2];
    return (square(sample, 2, i % size[2] - j % size[2]) +
            square(sample, 1, i / size[2] % size[1] - j / size[2] % size[1])) +
           square(sample, 0, i / plane - j / plane);
  }
  void find_nearest(int64_t sample, int64_t i) {
    const Label* mine = &labels[sample * c.grid.count()];
    const bool background = mine[i] == 0 && !c.both_sides;
    T best = static_cast<T>(INFINITY);
    int64_t found = -1;
    for (int64_t j = 0; j < c.grid.count(); ++j) {
      if (background ? j != i : mine[j] == mine[i]) continue;
      const T offered = squared(sample, i, j);
      if (offered >= best) continue;
      best = offered;
      found = j;
    }
    distance.push_back(root(sample, best) * (c.both_sides && mine[i] != 0 ? -1 : 1));
    nearest.push_back(found);
  }
};

template <class Label, class T>
void run(const Example<Label, T>& e, std::vector<T>& distance, std::vector<int64_t>* nearest) {
  const size_t count = e.labels.size();
  std::vector<T> scratch(count, NAN);
  std::vector<int64_t> nearest_scratch(count, -7);
  distance.assign(count, NAN);
  if (nearest) nearest->assign(count, -7);
  check(launch_euclidean({e.labels.data(), e.spacing.data(), distance.data(), scratch.data(),
                          nearest ? nearest->data() : nullptr, nearest_scratch.data(), e.c.batch, 1,
                          e.c.grid, sizeof(Label), e.c.both_sides, sizeof(T) == 8},
                         nullptr));
}

// Rounding may hide which of two voxels is nearer, where squared distances are not integers.
template <class Label, class T>
bool is_nearest(const Example<Label, T>& e, size_t i, int64_t found) {
  const int64_t count = e.c.grid.count(), sample = static_cast<int64_t>(i) / count;
  if (e.c.isotropic || found < 0) return found == e.nearest[i];
  const Label label = e.labels[i], other = e.labels[sample * count + found];
  if (label == 0 && !e.c.both_sides ? found != static_cast<int64_t>(i) % count : other == label)
    return false;
  return e.root(sample, e.squared(sample, static_cast<int64_t>(i) % count, found)) ==
         std::fabs(e.distance[i]);
}

template <class Label, class T>
void test_example(const Example<Label, T>& e) {
  const Grid& g = e.c.grid;
  const std::string name = std::to_string(g.size[0]) + " x " + std::to_string(g.size[1]) + " x " +
                           std::to_string(g.size[2]);
  std::vector<T> distance;
  std::vector<int64_t> nearest;
  run(e, distance, nullptr);
  check(distance == e.distance, name);
  run(e, distance, &nearest);
  check(distance == e.distance, name + " with indices");
  bool right = true;
  for (size_t i = 0; i < nearest.size(); ++i) right &= is_nearest(e, i, nearest[i]);
  check(right, name + " indices");
}

const std::vector<Case> kCases = {
    {{{1, 1, 1}}, 3, 2, 1, true},        {{{1, 1, 1000}}, 2, 3, 50, true},
    {{{1, 3, 1}}, 2, 2, 1, false},       {{{1, 7, 31}}, 2, 3, 4, true},
    {{{1, 33, 33}}, 1, 2, 60, true},     {{{1, 33, 33}}, 2, 4, 20, false},
    {{{1, 4, 257}}, 2, 2, 100, false},   {{{1, 3, 300}}, 1, 2, 200, true},
    {{{1, 5, 1000}}, 1, 3, 400, true},   {{{1, 1000, 1}}, 1, 2, 100, false},
    {{{5, 7, 33}}, 2, 3, 30, true},      {{{5, 7, 9}}, 2, 2, 40, false},
    {{{9, 1, 31}}, 1, 3, 10, false},     {{{3, 5, 7}}, 2, 2, 1000, true},  // one label: all inf
    {{{2, 3, 4}}, 0, 2, 1, true},        {{{1, 9, 33}}, 2, 2, 2, true, true},
    {{{4, 5, 9}}, 2, 3, 30, false, true}};

template <class Label, class T>
std::vector<Example<Label, T>> examples() {
  return {kCases.begin(), kCases.end()};
}

}  // namespace

int main() {
  const auto bytes = examples<uint8_t, float>();
  const auto words = examples<int64_t, double>();
  const Example<int16_t, float> shorts({{{3, 5, 7}}, 1, 3, 5, false});
  const Example<int32_t, float> integers({{{3, 5, 7}}, 1, 3, 6, true});
  return in_all_orders([&] {
    for (const auto& e : bytes) test_example(e);
    for (const auto& e : words) test_example(e);
    test_example(shorts);
    test_example(integers);
  });
}
