// The Euclidean distance on every instruction set, dtype and side against the definition, with
// threads that share one volume; arrays are heap blocks of their exact extent for the sanitizers.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <sstream>
#include <string>

#include "core/euclidean.hpp"
#include "isa/isa.hpp"
#include "random_case.hpp"

using namespace medkern;
using medkern::test::Random;
using medkern::test::Threads;

namespace {

constexpr int kCases = 250;

class Stopped final : public Parallel {
 public:
  int threads() const override { return 1; }
  void run(int64_t, int64_t, const Body&) const override { std::abort(); }
  bool interrupted() const override { return true; }
};

struct Answer {
  double distance;
  int64_t nearest;
};

Answer by_definition(const EuclideanProblem& p, const std::vector<int64_t>& labels, int64_t volume,
                     int64_t at) {
  const int64_t plane = p.size[1] * p.size[2], voxels = p.size[0] * plane;
  const int64_t* label = labels.data() + volume * voxels;
  if (label[at] == 0 && !p.both_sides) return {0, at};
  const double* spacing = p.spacing + volume / p.sets * 3;
  Answer best{std::numeric_limits<double>::infinity(), -1};
  for (int64_t q = 0; q < voxels; ++q) {
    if (label[q] == label[at]) continue;
    const double z = spacing[0] * static_cast<double>(q / plane - at / plane);
    const double y =
        spacing[1] * static_cast<double>(q / p.size[2] % p.size[1] - at / p.size[2] % p.size[1]);
    const double x = spacing[2] * static_cast<double>(q % p.size[2] - at % p.size[2]);
    const double distance = std::sqrt(z * z + y * y + x * x);
    if (distance < best.distance) best = {distance, q};
  }
  if (p.both_sides && label[at] != 0) best.distance = -best.distance;
  return best;
}

[[noreturn]] void fail(const EuclideanProblem& p, const char* what, int64_t at) {
  std::printf("%s at %d of %dx%dx%d, %d volumes, %d bytes, sides %d, wide %d, isa %s\n", what,
              int(at), int(p.size[0]), int(p.size[1]), int(p.size[2]), int(p.volumes),
              p.label_bytes, int(p.both_sides), int(p.wide), medkern_active_isa());
  std::exit(1);
}

template <class T, class Label>
void check(EuclideanProblem p, const std::vector<int64_t>& drawn, bool exact, bool indices) {
  const auto count = static_cast<size_t>(p.volumes * p.size[0] * p.size[1] * p.size[2]);
  const std::unique_ptr<Label[]> labels(new Label[count]);
  for (size_t i = 0; i < count; ++i) labels[i] = static_cast<Label>(drawn[i]);
  const std::unique_ptr<T[]> one(new T[count]), many(new T[count]);
  const std::unique_ptr<int64_t[]> nearest(new int64_t[count]), twin(new int64_t[count]);
  p.labels = labels.get();
  p.label_bytes = sizeof(Label);
  p.wide = sizeof(T) == 8;
  p.distance = one.get();
  if (indices) p.nearest = nearest.get();
  euclidean_distance(p, Serial());
  const int64_t voxels = p.size[0] * p.size[1] * p.size[2];
  for (int64_t i = 0; i < static_cast<int64_t>(count); ++i) {
    const Answer want = by_definition(p, drawn, i / voxels, i % voxels);
    const double got = one[static_cast<size_t>(i)];
    const double most = (p.wide ? 1e-14 : 1e-6) * std::fabs(want.distance);
    if (got != want.distance && !(std::fabs(got - want.distance) <= most)) fail(p, "distance", i);
    if (indices && exact && nearest[static_cast<size_t>(i)] != want.nearest) fail(p, "nearest", i);
  }
  p.distance = many.get();
  if (indices) p.nearest = twin.get();
  euclidean_distance(p, Threads(3));
  for (size_t i = 0; i < count; ++i) {
    const bool same = one[i] == many[i] && (!indices || nearest[i] == twin[i]);
    if (!same) fail(p, "bits depend on the threads", static_cast<int64_t>(i));
  }
}

void check_case(Random& random) {
  EuclideanProblem p;
  const int64_t rank = 1 + random.below(3);
  for (int64_t axis = 3 - rank; axis < 3; ++axis)
    p.size[axis] = 1 + random.below(rank == 3 ? 9 : 24);
  if (rank > 1 && random.below(4) == 0) p.size[2] = 30 + random.below(8);
  p.sets = 1 + random.below(2);
  p.volumes = p.sets * 2;
  p.both_sides = random.below(2) == 1;
  const bool exact = random.below(2) == 1;
  const double lengths[] = {1.0, 2.07, 8.0, 0.3};
  std::vector<double> spacing(6, 1.0);
  for (double& length : spacing) length = exact ? 0.5 : lengths[random.below(4)];
  p.spacing = spacing.data();

  const auto count = static_cast<size_t>(p.volumes * p.size[0] * p.size[1] * p.size[2]);
  const int64_t most = 1 + random.below(3), rarity = 1 + random.below(30);
  std::vector<int64_t> labels(count);
  int64_t previous = 1;
  for (int64_t& label : labels) {
    if (random.below(rarity) == 0) previous = random.below(most + 1);
    label = previous;
  }
  const bool indices = random.below(2) == 1;
  switch (random.below(4)) {
    case 0:
      check<float, uint8_t>(p, labels, exact, indices);
      return check<double, int64_t>(p, labels, exact, indices);
    case 1:
      return check<float, int16_t>(p, labels, exact, indices);
    case 2:
      return check<float, int32_t>(p, labels, exact, indices);
    default:
      return check<double, uint8_t>(p, labels, exact, indices);
  }
}

void check_interrupt() {
  const std::vector<uint8_t> labels(64, 1);
  const double spacing[3] = {1, 1, 1};
  float distance[64];
  EuclideanProblem p;
  p.volumes = 1;
  p.size[1] = p.size[2] = 8;
  p.labels = labels.data();
  p.spacing = spacing;
  p.distance = distance;
  try {
    euclidean_distance(p, Stopped());
  } catch (const Interrupted&) {
    return;
  }
  fail(p, "does not stop", 0);
}

}  // namespace

int main() {
  std::istringstream isas(medkern_isas());
  for (std::string isa; isas >> isa;) {
    if (medkern_set_isa(isa.c_str()) != 0) return 1;
    Random random{42};
    for (int i = 0; i < kCases; ++i) check_case(random);
    std::printf("%s: %d cases\n", isa.c_str(), kCases);
  }
  check_interrupt();
  return 0;
}
