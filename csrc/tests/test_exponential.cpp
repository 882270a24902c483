// The functions of exponential.hpp against those of the C library in extended precision, of one
// instruction set (MEDKERN_ISA): errors in units in the last place, and special values.
//
// Exit status 77 (a skip) where this machine lacks the instruction set.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "core/common/exponential.hpp"
#include "this_isa.hpp"

using namespace medkern;
using namespace medkern::MEDKERN_ISA;

namespace {

template <class C>
C lane_of(Vec<C> (*function)(Vec<C>), C x) {
  return function(Vec<C>{} + x)[0];
}

template <class C>
double units(C got, long double exact) {
  int exponent;
  std::frexp(exact, &exponent);
  constexpr int digits = std::numeric_limits<C>::digits;
  return static_cast<double>(std::fabs(got - exact) / std::ldexp(1.0L, exponent - digits));
}

// `exact` at sizes from low to high, evenly spaced in the exponent: of this sign, 0 is both.
template <class C, class Exact>
void check(const char* name, Vec<C> (*function)(Vec<C>), const Exact& exact, long double low,
           long double high, int sign, double most) {
  constexpr int steps = 40000;
  for (int i = 0; i <= steps; ++i) {
    const auto size =
        static_cast<double>(low * std::pow(high / low, static_cast<long double>(i) / steps));
    const C x = static_cast<C>(i % 2 && sign == 0 ? -size : sign < 0 ? -size : size);
    const double error = units(lane_of(function, x), exact(static_cast<long double>(x)));
    if (error <= most) continue;
    std::printf("%s<%d bytes>(%.17g) errs by %g units in the last place\n", name,
                static_cast<int>(sizeof(C)), static_cast<double>(x), error);
    std::exit(1);
  }
}

template <class C>
void check_value(const char* name, Vec<C> (*function)(Vec<C>), C x, C want) {
  const C got = lane_of(function, x);
  if (got == want || (std::isnan(got) && std::isnan(want))) return;
  std::printf("%s(%g) is %g, not %g\n", name, static_cast<double>(x), static_cast<double>(got),
              static_cast<double>(want));
  std::exit(1);
}

template <class C>
void check_all() {
  using Limits = std::numeric_limits<C>;
  const double lowest = -ExpConstants<C>::lowest;
  check<C>(
      "exp", exp_of_negative<C>, [](long double x) { return std::exp(x); }, 1e-9, lowest, -1, 2);
  check<C>(
      "log", log_of_positive<C>, [](long double x) { return std::log(x); }, Limits::min(),
      Limits::max() / 2, 1, 2);
  check<C>(
      "sigmoid", sigmoid<C>, [](long double x) { return 1 / (1 + std::exp(-x)); }, 1e-9, lowest, 0,
      2.5);
  check<C>("tanh", tanh_of<C>, [](long double x) { return std::tanh(x); }, 1e-9, 300, 0, 2.5);
  const C inf = Limits::infinity(), nan = Limits::quiet_NaN();
  check_value<C>("exp", exp_of_negative<C>, 0, 1);
  check_value<C>("exp", exp_of_negative<C>, static_cast<C>(1.01 * -lowest), 0);
  check_value<C>("exp", exp_of_negative<C>, -inf, 0);
  check_value<C>("exp", exp_of_negative<C>, nan, nan);
  check_value<C>("log", log_of_positive<C>, 1, 0);
  check_value<C>("log", log_of_positive<C>, inf, inf);
  check_value<C>("log", log_of_positive<C>, nan, nan);
  check_value<C>("sigmoid", sigmoid<C>, 0, C(0.5));
  check_value<C>("sigmoid", sigmoid<C>, inf, 1);
  check_value<C>("sigmoid", sigmoid<C>, -inf, 0);
  check_value<C>("sigmoid", sigmoid<C>, nan, nan);
  check_value<C>("tanh", tanh_of<C>, 0, 0);
  check_value<C>("tanh", tanh_of<C>, inf, 1);
  check_value<C>("tanh", tanh_of<C>, -inf, -1);
  check_value<C>("tanh", tanh_of<C>, nan, nan);
}

}  // namespace

int main() {
  if (!test::has_this_isa()) return test::kSkipped;
  check_all<float>();
  check_all<double>();
  return 0;
}
