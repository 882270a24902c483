// Every kernel of core/haar on every instruction set of this machine against the definition.
#include <cstdio>
#include <sstream>

#include "haar_case.hpp"

using namespace medkern;
using namespace medkern::test;

namespace {

constexpr int kCasesEach = 5;

// Around the vector lengths of all types (up to 64 lanes of 8-bit, 32 pairs of 16-bit), and tiny.
constexpr int64_t kWidths[] = {1,  2,  3,  4,  5,  7,  8,  9,  15, 16, 17,  31, 32,
                               33, 34, 35, 63, 64, 65, 66, 67, 96, 97, 129, 130};
constexpr int64_t kChannels[] = {1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 31, 32, 33, 48, 67};

template <size_t N>
int64_t pick(const int64_t (&from)[N], Random& random) {
  return from[random.below(N)];
}

Case draw_case(HaarMode mode, HaarDType dtype, int ndim, Pad pad, Layout layout, Random& random) {
  Case c;
  c.mode = mode;
  c.dtype = dtype;
  c.ndim = ndim;
  c.pad = pad;
  c.x_layout = layout;
  const bool last = c.channels_last();
  c.batch = 1 + random.below(2);
  c.channels = last ? pick(kChannels, random) : 1 + random.below(3);
  if (ndim == 3) c.size[0] = 1 + random.below(4);
  if (ndim >= 2) c.size[1] = 1 + random.below(5);
  c.size[2] = last ? 1 + random.below(6) : pick(kWidths, random);
  const auto sibling = [&] {
    return static_cast<Layout>(static_cast<int64_t>(last ? Layout::channels_last : Layout::planar) +
                               random.below(2));
  };
  c.y_layout = sibling();
  c.key_layout = sibling();
  c.nans = random.below(2) == 1;
  c.streams = random.below(2) == 1;
  c.row_choice = random.below(4) == 0;
  return c;
}

int check_all_layouts(HaarMode mode, HaarDType dtype, Random& random) {
  int cases = 0;
  for (int ndim = 1; ndim <= 3; ++ndim) {
    for (int pad = 0; pad < 4; ++pad) {
      for (int layout = 0; layout < 4; ++layout) {
        for (int i = 0; i < kCasesEach; ++i, ++cases) {
          check_case(draw_case(mode, dtype, ndim, static_cast<Pad>(pad),
                               static_cast<Layout>(layout), random),
                     Random{random.next()});
        }
      }
    }
  }
  return cases;
}

int check_all_kernels(Random& random) {
  int cases = 0;
  for (const HaarMode mode :
       {HaarMode::dwt, HaarMode::ll, HaarMode::iewa, HaarMode::all, HaarMode::max_concat}) {
    for (int dtype = 0; dtype < 4; ++dtype) {
      cases += check_all_layouts(mode, static_cast<HaarDType>(dtype), random);
    }
  }
  cases += check_all_layouts(HaarMode::lift, HaarDType::uint8, random);
  return cases + check_all_layouts(HaarMode::lift, HaarDType::int16, random);
}

// Extremes of the integers survive lifting: all corner combinations of a 2x2 and a 2x2x2 block.
void check_extremes(HaarDType dtype, const std::vector<double>& values, int ndim) {
  Case c;
  c.mode = HaarMode::lift;
  c.dtype = dtype;
  c.ndim = ndim;
  const int64_t corners = c.corners();
  int64_t combinations = 1;
  for (int64_t i = 0; i < corners; ++i) combinations *= static_cast<int64_t>(values.size());
  for (int axis = 3 - ndim; axis < 3; ++axis) c.size[axis] = 2;
  c.channels = combinations;
  for (const Layout layout : {Layout::planar, Layout::channels_last}) {
    c.x_layout = c.y_layout = layout;
    Prepared p(c);
    const auto wanted = [&](int64_t ch, int64_t q) {
      for (int64_t i = 0; i < q; ++i) ch /= static_cast<int64_t>(values.size());
      return values[static_cast<size_t>(ch % static_cast<int64_t>(values.size()))];
    };
    const auto corner = [](const int64_t (&s)[3]) { return s[0] * 4 + s[1] * 2 + s[2]; };
    p.x.each([&](int64_t i, int64_t, int64_t ch, int64_t, const int64_t (&s)[3]) {
      put(p.x, p.fine, i, wanted(ch, corner(s)));
    });
    kernel_of(p, false)(p.problem, 0, haar_units(p.problem));
    p.x.each([&](int64_t i, auto&&...) { put(p.x, p.fine, i, 1); });
    kernel_of(p, true)(p.problem, 0, haar_units(p.problem));
    p.x.each([&](int64_t i, int64_t, int64_t ch, int64_t, const int64_t (&s)[3]) {
      expect(p, "extreme sample", get(p.x, p.fine, i), wanted(ch, corner(s)), 0);
    });
  }
}

}  // namespace

int main() {
  std::istringstream isas(medkern_isas());
  for (std::string isa; isas >> isa;) {
    if (medkern_set_isa(isa.c_str()) != 0) return 1;
    Random random{20240607};
    const int cases = check_all_kernels(random);
    for (int ndim = 1; ndim <= 3; ++ndim) {
      check_extremes(HaarDType::uint8, {0, 1, 254, 255}, ndim < 3 ? ndim : 2);
      check_extremes(HaarDType::int16, {-32768, -32767, 32766, 32767}, ndim < 3 ? ndim : 2);
      check_extremes(HaarDType::uint8, {0, 255}, ndim);
      check_extremes(HaarDType::int16, {-32768, 32767}, ndim);
    }
    std::printf("%s: %d cases\n", isa.c_str(), cases);
  }
  return medkern_set_isa("no such isa") == 0;
}
