// float16 and bfloat16 conversion, scalar and vector, of one instruction set (MEDKERN_ISA).
//
// Exit status 77 (a skip) where this machine lacks the instruction set.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <vector>

#include "core/common/simd.hpp"
#include "this_isa.hpp"

using namespace medkern;
using namespace medkern::MEDKERN_ISA;

namespace {

constexpr int kLength = kLanes<float>;

struct Format {
  int exponent_bits, mantissa_bits;
  int bias() const { return (1 << (exponent_bits - 1)) - 1; }
};

template <class S>
constexpr Format format_of = std::is_same_v<S, Half> ? Format{5, 10} : Format{8, 7};

// The value of a bit pattern, from IEEE 754 alone.
double decode(uint16_t bits, Format f) {
  const int exponent = (bits >> f.mantissa_bits) & ((1 << f.exponent_bits) - 1);
  const int mantissa = bits & ((1 << f.mantissa_bits) - 1);
  const double sign = bits >> 15 ? -1 : 1;
  if (exponent == (1 << f.exponent_bits) - 1) return mantissa ? NAN : sign * INFINITY;
  const int implicit = exponent ? 1 << f.mantissa_bits : 0;
  return sign * std::ldexp(mantissa + implicit, std::max(exponent, 1) - f.bias() - f.mantissa_bits);
}

// Rounds by looking between which two values a number lies; ties go to the even pattern.
struct Rounder {
  Format f;
  std::map<double, uint16_t> finite;  // non-negative

  explicit Rounder(Format format) : f(format) {
    for (int bits = 0; bits < 0x8000; ++bits) {
      const double value = decode(static_cast<uint16_t>(bits), f);
      if (std::isfinite(value)) finite[value] = static_cast<uint16_t>(bits);
    }
  }

  uint16_t operator()(float value) const {
    const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    const double magnitude = std::abs(static_cast<double>(value));
    const auto above = finite.lower_bound(magnitude);
    const auto below = above == finite.begin() ? above : std::prev(above);
    const auto infinity = static_cast<uint16_t>(((1 << f.exponent_bits) - 1) << f.mantissa_bits);
    // Infinity takes the place of the value that would follow the largest one.
    const double next = std::ldexp(1.0, f.bias() + 1);
    const double high = above == finite.end() ? next : above->first;
    const uint16_t high_bits = above == finite.end() ? infinity : above->second;
    if (std::isinf(value)) return sign | infinity;
    const double up = high - magnitude, down = magnitude - below->first;
    const bool take_high = up < down || (up == down && high_bits % 2 == 0);
    return sign | (take_high ? high_bits : below->second);
  }
};

[[noreturn]] void fail(const char* what, uint32_t input, uint32_t got, uint32_t want) {
  std::fprintf(stderr, "FAILED: %s of %08x: got %08x, want %08x\n", what, input, got, want);
  std::abort();
}

bool is_nan(uint16_t bits, Format f) { return std::isnan(decode(bits, f)); }

// Widening is exact, by the scalar and by the vector path, at every place of the vector.
template <class S>
void check_widening() {
  constexpr Format f = format_of<S>;
  for (int first = 0; first < 0x10000; first += kLength) {
    const std::unique_ptr<S[]> in(new S[kLength]);  // exact size: a sanitizer sees one too many
    for (int i = 0; i < kLength; ++i) in[i].bits = static_cast<uint16_t>(first + i);
    const Vec<float> wide = load<float>(in.get());
    for (int i = 0; i < kLength; ++i) {
      const double want = decode(in[i].bits, f);
      for (const float got : {to_float(in[i]), static_cast<float>(wide[i])}) {
        const bool same = std::isnan(want) ? std::isnan(got)
                                           : got == want && std::signbit(got) == std::signbit(want);
        if (!same) fail("widening", in[i].bits, bits_from_float(got), 0);
      }
    }
  }
}

// Every pattern comes back; a NaN as a NaN of the same sign.
template <class S>
void check_round_trip() {
  constexpr Format f = format_of<S>;
  for (int bits = 0; bits < 0x10000; ++bits) {
    const S in{static_cast<uint16_t>(bits)};
    const uint16_t out = from_float<S>(to_float(in)).bits;
    const bool same =
        is_nan(in.bits, f) ? is_nan(out, f) && out >> 15 == in.bits >> 15 : out == in.bits;
    if (!same) fail("round trip", in.bits, out, in.bits);
  }
}

template <class S>
void check_narrowing(const Rounder& round, const std::vector<float>& values) {
  for (size_t first = 0; first + kLength <= values.size(); first += kLength) {
    const std::unique_ptr<S[]> out(new S[kLength]);
    store(out.get(), load<float>(values.data() + first));
    for (int i = 0; i < kLength; ++i) {
      const float value = values[first + i];
      for (const uint16_t got : {out[i].bits, from_float<S>(value).bits}) {
        if (std::isnan(value)) {
          // Quiet, or the next operation would raise a flag.
          const bool quiet = is_nan(got, round.f) && ((got >> (round.f.mantissa_bits - 1)) & 1);
          if (!quiet) fail("narrowing a NaN", bits_from_float(value), got, 0);
        } else if (got != round(value)) {
          fail("narrowing", bits_from_float(value), got, round(value));
        }
      }
    }
  }
}

// The values, the midpoints between them, and the floats next to those; and floats from everywhere.
std::vector<float> floats(const Rounder& round) {
  std::vector<float> values;
  double below = 0;
  for (const auto& [value, bits] : round.finite) {
    for (const double v : {value, (value + below) / 2}) {
      const auto f = static_cast<float>(v);
      for (const float x : {std::nextafterf(f, -INFINITY), f, std::nextafterf(f, INFINITY)}) {
        values.insert(values.end(), {x, -x});
      }
    }
    below = value;
  }
  const double overflow = (below + std::ldexp(1.0, round.f.bias() + 1)) / 2;
  const auto edge = static_cast<float>(overflow);
  for (const float x : {std::nextafterf(edge, 0), edge, std::nextafterf(edge, INFINITY)}) {
    values.insert(values.end(), {x, -x});
  }
  for (uint64_t bits = 0; bits < 0x100000000ull; bits += 4093) {
    values.push_back(float_from_bits(static_cast<uint32_t>(bits)));
  }
  while (values.size() % kLength) values.push_back(0);
  return values;
}

template <class S>
void check() {
  const Rounder round(format_of<S>);
  check_widening<S>();
  check_round_trip<S>();
  check_narrowing<S>(round, floats(round));
}

}  // namespace

int main() {
  if (!test::has_this_isa()) return test::kSkipped;
  check<Half>();
  check<BFloat16>();
  return 0;
}
