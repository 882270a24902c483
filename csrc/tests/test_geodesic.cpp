// Geodesic distances against a plain heap Dijkstra: all methods, metrics, types, instruction sets
// and 1 to 3 threads give the very bits; parents and trees against their definitions.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iterator>
#include <queue>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "core/geodesic.hpp"
#include "core/geodesic_tree.hpp"
#include "isa/isa.hpp"

using namespace medkern;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

struct Random {
  uint64_t state;
  uint64_t next() {  // splitmix64
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  int64_t below(int64_t n) { return static_cast<int64_t>(next() % static_cast<uint64_t>(n)); }
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }
};

class Threads final : public Parallel {
 public:
  explicit Threads(int n) : n_(n) {}
  int threads() const override { return n_; }
  void run(int64_t units, int64_t, const Body& body) const override {
    std::vector<std::thread> pool;
    for (int64_t i = 1; i < units; ++i) pool.emplace_back(body, i, i + 1);
    body(0, 1);
    for (std::thread& thread : pool) thread.join();
  }

 private:
  int n_;
};

template <class T>
struct Case {
  GeodesicProblem p;
  std::vector<double> spacing;
  int connectivity = 1;
  std::vector<T> image, starts, distance;
  std::vector<char> mask;
  std::vector<double> info;
  std::vector<int64_t> parents;
  std::vector<Neighbour> near;

  int64_t voxels() const { return p.grid.count(); }

  // To be called once all else is set.
  void bind() {
    near = batch_neighbours(p.grid, connectivity, spacing.data(), p.batch, 3);
    set_neighbours(p, near);
    distance.assign(starts.size(), -7);
    parents.assign(starts.size(), -7);
    info.assign(static_cast<size_t>(4 * p.batch * p.classes), -7);
    p.image = image.data();
    p.starts = starts.data();
    p.mask = mask.empty() ? nullptr : reinterpret_cast<const bool*>(mask.data());
    p.distance = distance.data();
    p.info = info.data();
    p.parents = parents.data();
  }
};

template <class T>
[[noreturn]] void fail(const Case<T>& c, const char* what, int64_t at, double got, double want) {
  const int64_t* n = c.p.grid.size;
  std::fprintf(stderr,
               "FAILED: %s at %lld: got %.17g, want %.17g (%s, metric %d, norm %d, lam %g, method "
               "%d, %lld x %lld channels, %lld classes, size %lld %lld %lld, connectivity %d)\n",
               what, static_cast<long long>(at), got, want, sizeof(T) == 8 ? "double" : "float",
               static_cast<int>(c.p.metric), static_cast<int>(c.p.norm), c.p.lam,
               static_cast<int>(c.p.method), static_cast<long long>(c.p.batch),
               static_cast<long long>(c.p.channels), static_cast<long long>(c.p.classes),
               static_cast<long long>(n[0]), static_cast<long long>(n[1]),
               static_cast<long long>(n[2]), c.connectivity);
  std::abort();
}

// The definition of the edge cost, in the image's type.
template <class T>
T edge_cost(const Case<T>& c, int64_t b, int64_t q, int64_t p, double len) {
  const GeodesicProblem& g = c.p;
  const T* image = c.image.data() + b * g.channels * c.voxels();
  if (g.metric == GeodesicMetric::mcp) return (image[q] + image[p]) * static_cast<T>(len / 2);
  if (g.metric == GeodesicMetric::node) return image[p];
  T sum = 0, most = 0, squares = 0;
  for (int64_t ch = 0; ch < g.channels; ++ch) {
    const T d = std::fabs(image[ch * c.voxels() + q] - image[ch * c.voxels() + p]);
    sum += d;
    squares += d * d;
    most = std::isnan(most) || d <= most ? most : d;
  }
  const bool l2 = g.norm == ChannelNorm::l2 || g.metric == GeodesicMetric::geodistk;
  const T d = g.channels == 1 || (!l2 && g.norm == ChannelNorm::l1) ? sum
              : l2                                                  ? std::sqrt(squares)
                                                                    : most;
  switch (g.metric) {
    case GeodesicMetric::l1:
      return static_cast<T>(1 - g.lam) * d + static_cast<T>(g.lam * len);
    case GeodesicMetric::l2:
      return std::sqrt(static_cast<T>(1 - g.lam) * (d * d) + static_cast<T>(g.lam * len * len));
    case GeodesicMetric::fastgeodis:
      return static_cast<T>(g.lam) * d + static_cast<T>((1 - g.lam) * len);
    case GeodesicMetric::geodistk:
      return static_cast<T>(len) /
             (static_cast<T>(1 - g.lam) + static_cast<T>(g.lam) / (d + static_cast<T>(1e-5)));
    default:
      return std::sqrt(static_cast<T>(g.lam * g.lam) * (d * d) + static_cast<T>(len * len));
  }
}

// Calls visit(q, length) on the neighbours of p in stencil order.
template <class T, class Visit>
void each_neighbour(const Case<T>& c, int64_t b, int64_t p, const Visit& visit) {
  const int64_t (&size)[3] = c.p.grid.size;
  const int64_t at[3] = {p / size[2] / size[1], p / size[2] % size[1], p % size[2]};
  double spacing[3];
  std::copy_n(c.spacing.data() + 3 * b, 3, spacing);
  for (const Neighbour& n : neighbours(c.p.grid, c.connectivity, spacing)) {
    bool inside = true;
    for (int a = 0; a < 3; ++a) {
      inside = inside && at[a] + n.step[a] >= 0 && at[a] + n.step[a] < size[a];
    }
    const int64_t q = p + n.offset;
    if (inside && (c.mask.empty() || c.mask[static_cast<size_t>(b * c.voxels() + q)])) {
      visit(q, n.length);
    }
  }
}

template <class T>
std::vector<T> dijkstra(const Case<T>& c) {
  const int64_t n = c.voxels();
  std::vector<T> all(c.starts.size(), static_cast<T>(kInf));
  for (int64_t item = 0; item < c.p.batch * c.p.classes; ++item) {
    const int64_t b = item / c.p.classes;
    T* const d = all.data() + item * n;
    using Pair = std::pair<T, int64_t>;
    std::priority_queue<Pair, std::vector<Pair>, std::greater<Pair>> queue;
    const auto offer = [&](int64_t p, T value) {
      if (!(value < d[p]) || static_cast<double>(value) > c.p.limit) return;
      d[p] = value;
      queue.push({value, p});
    };
    for (int64_t p = 0; p < n; ++p) {
      if (c.mask.empty() || c.mask[static_cast<size_t>(b * n + p)]) {
        offer(p, c.starts[static_cast<size_t>(item * n + p)]);
      }
    }
    while (!queue.empty()) {
      const auto [value, q] = queue.top();
      queue.pop();
      if (value > d[q]) continue;
      each_neighbour(c, b, q, [&, q = q, value = value](int64_t p, double length) {
        const T w = edge_cost(c, b, q, p, length);
        offer(p, value + w);
      });
    }
  }
  return all;
}

constexpr GeodesicMethod kExact[] = {GeodesicMethod::automatic, GeodesicMethod::bucket,
                                     GeodesicMethod::tiles, GeodesicMethod::sweeps};

template <class T>
void check_distances(Case<T>& c, const std::vector<T>& want) {
  for (const GeodesicMethod method : kExact) {
    for (int threads = 1; threads <= 3; ++threads) {
      c.p.method = method;
      c.bind();
      geodesic_solve<T>(c.p, Threads(threads));
      for (size_t i = 0; i < want.size(); ++i) {
        if (std::memcmp(&c.distance[i], &want[i], sizeof(T)) != 0) {
          fail(c, "distance", static_cast<int64_t>(i), c.distance[i], want[i]);
        }
      }
      for (size_t i = 0; i < c.info.size(); i += 4) {
        if (c.info[i + 2] != 1 || c.info[i + 3] != 0) fail(c, "info", 0, c.info[i + 3], 0);
      }
    }
  }
}

// Never below the exact map, falling with the sweeps, and the residual tells whether it is exact.
template <class T>
void check_raster(Case<T>& c, const std::vector<T>& want) {
  std::vector<T> before(want.size(), static_cast<T>(kInf));
  c.p.method = GeodesicMethod::raster;
  for (c.p.iterations = 1; c.p.iterations <= 3; ++c.p.iterations) {
    c.bind();
    geodesic_solve<T>(c.p, Threads(2));
    for (int64_t item = 0; item < c.p.batch * c.p.classes; ++item) {
      bool exact = true;
      for (int64_t i = item * c.voxels(); i < (item + 1) * c.voxels(); ++i) {
        const auto at = static_cast<size_t>(i);
        if (c.distance[at] < want[at] || c.distance[at] > before[at]) {
          fail(c, "raster", i, c.distance[at], want[at]);
        }
        exact = exact && c.distance[at] == want[at];
      }
      const double* info = c.info.data() + 4 * item;
      if (info[0] != 3 || (info[2] == 1) != exact || (info[3] == 0) != exact) {
        fail(c, "raster info", item, info[2], exact);
      }
    }
    before = c.distance;
  }
  c.p.iterations = 1;
}

// Parents by their definition: a plateau's voxels wait for a settled equal, level by level.
template <class T>
std::vector<int64_t> wanted_parents(const Case<T>& c, const std::vector<T>& distance) {
  const int64_t n = c.voxels();
  std::vector<int64_t> all(distance.size(), -1);
  for (int64_t item = 0; item < c.p.batch * c.p.classes; ++item) {
    const int64_t b = item / c.p.classes;
    const T* d = distance.data() + item * n;
    int64_t* parents = all.data() + item * n;
    const auto first_tight = [&](int64_t p, const auto& allowed) {
      int64_t found = -2;
      each_neighbour(c, b, p, [&](int64_t q, double length) {
        const T w = edge_cost(c, b, q, p, length);
        if (found == -2 && d[q] + w == d[p] && allowed(q)) found = q;
      });
      return found;
    };
    for (int64_t p = 0; p < n; ++p) {
      if (!(d[p] < kInf)) continue;
      const bool seed = d[p] == c.starts[static_cast<size_t>(item * n + p)];
      parents[p] = seed ? p : first_tight(p, [&](int64_t q) { return d[q] < d[p]; });
    }
    for (bool more = true; more;) {
      std::vector<int64_t> settled(parents, parents + n);
      more = false;
      for (int64_t p = 0; p < n; ++p) {
        if (settled[static_cast<size_t>(p)] != -2) continue;
        parents[p] =
            first_tight(p, [&](int64_t q) { return settled[static_cast<size_t>(q)] >= 0; });
        more = more || parents[p] != -2;
      }
    }
  }
  return all;
}

template <class T>
void check_parents(Case<T>& c, const std::vector<T>& distance) {
  const std::vector<int64_t> want = wanted_parents(c, distance);
  for (int threads = 1; threads <= 2; ++threads) {
    c.bind();
    c.distance = distance;
    c.p.distance = c.distance.data();
    geodesic_parents<T>(c.p, Threads(threads));
    for (size_t i = 0; i < want.size(); ++i) {
      if (c.parents[i] != want[i]) {
        fail(c, "parent", static_cast<int64_t>(i), static_cast<double>(c.parents[i]),
             static_cast<double>(want[i]));
      }
    }
  }
}

// Trees by walking from every voxel to its root.
template <class T>
void check_tree(Case<T>& c, Random& random) {
  const int64_t n = c.voxels();
  const std::vector<int64_t> parents(c.parents.begin(), c.parents.begin() + n);
  std::vector<double> values(static_cast<size_t>(n)), paths(values), subtrees(values);
  for (double& v : values) v = static_cast<double>(random.below(1000));  // sums are exact
  std::vector<int64_t> roots(parents);
  const Tree<int32_t> tree(parents.data(), n);
  tree.roots(roots.data());
  tree.paths(values.data(), paths.data());
  tree.subtrees(values.data(), subtrees.data());
  std::vector<double> below(values.size(), 0);
  for (int64_t p = 0; p < n; ++p) {
    double sum = 0;
    int64_t at = p;
    if (parents[static_cast<size_t>(p)] >= 0) {
      for (;; at = parents[static_cast<size_t>(at)]) {
        sum += values[static_cast<size_t>(at)];
        below[static_cast<size_t>(at)] += values[static_cast<size_t>(p)];
        if (parents[static_cast<size_t>(at)] == at) break;
      }
    } else {
      at = -1;
    }
    const auto i = static_cast<size_t>(p);
    if (roots[i] != at) fail(c, "root", p, static_cast<double>(roots[i]), static_cast<double>(at));
    if (paths[i] != sum) fail(c, "path", p, paths[i], sum);
  }
  for (size_t i = 0; i < below.size(); ++i) {
    if (subtrees[i] != below[i]) fail(c, "subtree", static_cast<int64_t>(i), subtrees[i], below[i]);
  }
}

// Images: noise, flat patches (edges of no cost), and costs over twelve orders of magnitude.
double draw_voxel(Random& random, int kind) {
  if (kind == 0) return 255 * random.uniform();
  if (kind == 1) return static_cast<double>(random.below(3));
  return std::pow(10, 12 * random.uniform() - 6);
}

template <class T>
Case<T> draw_case(GeodesicMetric metric, const int64_t (&size)[3], Random& random) {
  Case<T> c;
  GeodesicProblem& p = c.p;
  p.metric = metric;
  p.norm = static_cast<ChannelNorm>(random.below(3));
  p.channels = uses_channels(metric) ? 1 + random.below(3) : 1;
  p.batch = 1 + random.below(2);
  p.classes = 1 + random.below(2);
  const double lams[] = {0, 0.5, 1, random.uniform()};
  p.lam = lams[random.below(4)] * (metric == GeodesicMetric::geos ? 3 : 1);
  std::copy_n(size, 3, p.grid.size);
  p.limit = random.below(3) ? kInf : 100 * random.uniform();
  c.connectivity = 1 + static_cast<int>(random.below(3));
  for (int64_t i = 0; i < 3 * p.batch; ++i) {
    c.spacing.push_back(random.below(2) ? 1 : 0.1 + 3 * random.uniform());
  }
  const int kind = static_cast<int>(random.below(3));
  const int64_t n = c.voxels();
  for (int64_t i = 0; i < p.batch * p.channels * n; ++i) {
    c.image.push_back(static_cast<T>(draw_voxel(random, kind)));
  }
  c.starts.assign(static_cast<size_t>(p.batch * p.classes * n), static_cast<T>(kInf));
  const bool soft = random.below(2);
  const int64_t seeds = random.below(4) ? 1 + random.below(5) : n / 2;
  for (int64_t item = 0; item < p.batch * p.classes; ++item) {
    for (int64_t i = 0; i < seeds; ++i) {
      const double start = soft ? draw_voxel(random, kind) - 1 : 0;
      c.starts[static_cast<size_t>(item * n + random.below(n))] = static_cast<T>(start);
    }
  }
  if (random.below(2)) {
    for (int64_t i = 0; i < p.batch * n; ++i) {
      c.mask.push_back(random.below(5) > 0);
      // What lies outside the mask must not matter.
      const double junk[] = {kInf, -kInf, std::nan(""), -1};
      if (!c.mask.back())
        c.image[static_cast<size_t>(i / n * p.channels * n + i % n)] =
            static_cast<T>(junk[random.below(4)]);
    }
  }
  return c;
}

constexpr int64_t kSizes[][3] = {{1, 1, 1},   {1, 1, 37},    {1, 19, 1}, {5, 1, 1},  {1, 13, 17},
                                 {1, 2, 300}, {1, 140, 7},   {4, 5, 6},  {35, 3, 4}, {2, 1, 70},
                                 {3, 34, 2},  {1, 131, 133}, {9, 40, 33}};

template <class T>
int check_all(Random& random) {
  int cases = 0;
  for (int metric = 0; metric < 7; ++metric) {
    for (const auto& size : kSizes) {
      const bool large = size[0] * size[1] * size[2] > 5000;
      for (int i = 0; i < (large ? 1 : 6); ++i, ++cases) {
        Case<T> c = draw_case<T>(static_cast<GeodesicMetric>(metric), size, random);
        const std::vector<T> want = dijkstra(c);
        check_distances(c, want);
        check_raster(c, want);
        check_parents(c, want);
        check_tree(c, random);
      }
    }
  }
  return cases;
}

template <class Call>
void expect_invalid(const char* what, const Call& call) {
  try {
    call();
  } catch (const std::invalid_argument&) {
    return;
  }
  std::fprintf(stderr, "FAILED: accepted %s\n", what);
  std::abort();
}

Case<float> small_case() {
  Random random{5};
  Case<float> c = draw_case<float>(GeodesicMetric::l1, {1, 4, 4}, random);
  c.p.lam = 0.5;
  c.p.limit = kInf;
  c.mask.clear();
  for (float& v : c.image) v = static_cast<float>(random.below(9));
  c.bind();
  return c;
}

void check_refusals() {
  Case<float> c = small_case();
  const Serial serial;
  const auto solve = [&] { geodesic_solve<float>(c.p, serial); };
  solve();
  expect_invalid("lam 2", [&] { c.p.lam = 2, solve(); });
  c = small_case();
  expect_invalid("a NaN start", [&] { c.starts[3] = NAN, solve(); });
  c = small_case();
  expect_invalid("a start of -inf", [&] { c.starts[3] = -INFINITY, solve(); });
  c = small_case();
  c.image[5] = -1;
  expect_invalid("a negative cost", [&] { c.p.metric = GeodesicMetric::node, solve(); });
  c = small_case();
  solve();
  for (float& d : c.distance) d *= 2;
  for (float& s : c.starts) s *= 2;
  expect_invalid("an inexact map", [&] { geodesic_parents<float>(c.p, serial); });
  for (const std::vector<int64_t>& parents :
       std::vector<std::vector<int64_t>>{{1, 0, 2}, {0, 3, 0}, {0, -2, 0}, {-1, 0, 2}, {1, 2, 0}}) {
    int64_t roots[3];
    expect_invalid("a broken tree", [&] { Tree<int32_t>(parents.data(), 3).roots(roots); });
  }
}

class Impatient final : public Parallel {
 public:
  int threads() const override { return 1; }
  void run(int64_t, int64_t, const Body& body) const override { body(0, 1); }
  bool interrupted() const override { return true; }
};

// A solve of about half a second gives way to Ctrl-C.
void check_interrupt() {
  Random random{9};
  Case<float> c = draw_case<float>(GeodesicMetric::l1, {1, 1000, 1000}, random);
  c.mask.clear();
  c.p.limit = kInf;
  for (const GeodesicMethod method : kExact) {
    c.p.method = method;
    c.bind();
    try {
      geodesic_solve<float>(c.p, Impatient());
    } catch (const Interrupted&) {
      continue;
    }
    fail(c, "not interrupted", 0, 0, 0);
  }
}

}  // namespace

int main() {
  std::istringstream isas(medkern_isas());
  for (std::string isa; isas >> isa;) {
    if (medkern_set_isa(isa.c_str()) != 0) return 1;
    Random random{20240607};
    const int cases = check_all<float>(random) + check_all<double>(random);
    std::printf("%s: %d cases\n", isa.c_str(), cases);
  }
  check_refusals();
  check_interrupt();
  return 0;
}
