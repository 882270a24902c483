// Predecessors and trees on the emulated GPU: sums and roots with the bits of the CPU's, and
// breadth-first predecessors on a plateau. The order of threads changes nothing.
#include <algorithm>
#include <limits>

#include "cuda/geodesic.hpp"
#include "device_test.hpp"

using namespace medkern;
using namespace medkern::test;

namespace {

// A forest of some depth and width: a few roots, a few voxels in no tree, parents nearby.
std::vector<int64_t> forest(int64_t samples, int64_t voxels, Random& random) {
  std::vector<int64_t> parents;
  for (int64_t i = 0; i < samples * voxels; ++i) {
    const int64_t p = i % voxels;
    int64_t parent = p;
    if (p > 0 && random.below(50) != 0) parent = p - 1 - random.below(std::min<int64_t>(p, 4));
    const bool lost = parent != p && parents[i - p + parent] < 0;
    parents.push_back(lost || random.below(60) == 0 ? -1 : parent);
  }
  return parents;
}

template <class T>
void test_trees(int64_t samples, int64_t voxels) {
  Random random(static_cast<unsigned>(voxels));
  const std::vector<int64_t> parents = forest(samples, voxels, random);
  std::vector<T> values;
  for (size_t i = 0; i < parents.size(); ++i) values.push_back(static_cast<T>(random.uniform()));
  for (const TreeOp op : {TreeOp::subtrees, TreeOp::paths, TreeOp::roots}) {
    const bool roots = op == TreeOp::roots;
    const size_t bytes = values.size() * (roots ? sizeof(int64_t) : sizeof(T));
    std::vector<char> expected(bytes), found(bytes, 0x55);
    run_trees<T>(op, values.data(), parents.data(), expected.data(), samples, voxels, Serial());
    std::vector<char> workspace(tree_workspace_bytes(op, samples, voxels, sizeof(T) == 8), 0x55);
    check(launch_trees(op, values.data(), parents.data(), found.data(), samples, voxels,
                       sizeof(T) == 8, workspace.data(), nullptr));
    bool same = found == expected;
    if (op == TreeOp::paths) {  // added in another order
      const T* a = reinterpret_cast<const T*>(found.data());
      const T* b = reinterpret_cast<const T*>(expected.data());
      same = true;
      for (size_t i = 0; i < values.size(); ++i) {
        same = same && std::abs(a[i] - b[i]) <= 64 * std::numeric_limits<T>::epsilon() * b[i];
      }
    }
    check(same,
          "trees of " + std::to_string(voxels) + ", op " + std::to_string(static_cast<int>(op)));
  }
}

// A map of zeros over steps of no cost: the parent is a step nearer to the one seed.
void test_plateau(const Grid& grid) {
  const int64_t count = grid.count();
  const std::vector<float> image(count, 1), distance(count, 0);
  std::vector<float> starts(count, INFINITY);
  starts[count / 2] = 0;
  const std::vector<double> spacing{1, 1, 1};
  const GeodesicArrays arrays{image.data(),
                              starts.data(),
                              nullptr,
                              spacing.data(),
                              const_cast<float*>(distance.data()),
                              1,
                              1,
                              1,
                              grid,
                              3,
                              GeodesicMetric::l1,
                              ChannelNorm::l1,
                              0,
                              INFINITY};
  std::vector<int64_t> parents(count, -7);
  std::vector<char> workspace(geodesic_parents_workspace_bytes(arrays), 0x55);
  check(launch_geodesic_parents(arrays, parents.data(), false, workspace.data(), nullptr));
  const auto steps = [&](int64_t p) {
    const int64_t q = count / 2, plane = grid.size[1] * grid.size[2], w = grid.size[2];
    return std::max({std::abs(p / plane - q / plane), std::abs(p % plane / w - q % plane / w),
                     std::abs(p % w - q % w)});
  };
  for (int64_t p = 0; p < count; ++p) {
    const int64_t nearer = p == count / 2 ? 0 : steps(p) - 1;
    check(parents[p] >= 0 && parents[p] < count && steps(parents[p]) == nearer,
          "the parent of " + std::to_string(p));
  }
}

}  // namespace

int main() {
  return in_all_orders([] {
    for (const int64_t voxels :
         kSanitized ? std::vector<int64_t>{300} : std::vector<int64_t>{1, 31, 257, 1000}) {
      test_trees<float>(kSanitized ? 1 : 2, voxels);
      if (!kSanitized) test_trees<double>(1, voxels);
    }
    if (!kSanitized) test_plateau({{1, 5, 33}});
    test_plateau({{3, 5, 7}});
  });
}
