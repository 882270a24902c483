// Cosines and sines of the truncated transforms: see DftProblem in spectral.hpp.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

#include "spectral.hpp"

namespace medkern {

// cos(2 pi t / n), exact at every eighth of a turn.
MEDKERN_INLINE double cosine_of_turn(int64_t t, int64_t n) {
  int64_t eighths = t % n * 8;  // of a turn, in units of 1 / n
  if (eighths < 0) eighths += 8 * n;
  if (eighths > 4 * n) eighths = 8 * n - eighths;
  const bool negative = eighths > 2 * n;
  if (negative) eighths = 4 * n - eighths;
  const double unit = std::numbers::pi_v<double> / (4.0 * static_cast<double>(n));
  const double value = eighths <= n ? std::cos(static_cast<double>(eighths) * unit)
                                    : std::sin(static_cast<double>(2 * n - eighths) * unit);
  return negative ? -value : value;
}

// sin(2 pi t / n)
MEDKERN_INLINE double sine_of_turn(int64_t t, int64_t n) {
  return cosine_of_turn(4 * (t % n) - n, 4 * n);
}

// All n-th roots of unity.
struct Roots {
  explicit Roots(int64_t n) : size(n) {
    for (int64_t t = 0; t < n; ++t) {
      cosine.push_back(cosine_of_turn(t, n));
      sine.push_back(sine_of_turn(t, n));
    }
  }
  double cos(int64_t k, int64_t y) const { return cosine[static_cast<size_t>(k * y % size)]; }
  double sin(int64_t k, int64_t y) const { return sine[static_cast<size_t>(k * y % size)]; }

  int64_t size;
  std::vector<double> cosine, sine;
};

// grid: the extent on which the Nyquist mode is defined; it has no sine on any other either.
template <class C>
std::vector<C> full_axis_table(const FullAxis& axis, int64_t grid, bool inverse) {
  const Roots roots(axis.size);
  const int64_t samples = axis.samples(), rows = axis.rows();
  std::vector<C> table(static_cast<size_t>(rows * samples));
  const auto set = [&](int64_t row, int64_t y, double value) {
    table[static_cast<size_t>(inverse ? y * rows + row : row * samples + y)] =
        static_cast<C>(value);
  };
  for (int64_t y = 0; y < samples; ++y) {
    double weight = 1;
    if (!inverse && y == 0) weight /= 2;  // the samples y and -y are one, but are added twice
    if (!inverse && axis.quartered() && 4 * y == axis.size) weight /= 2;
    for (int64_t k = 0; k <= axis.half(); ++k) set(axis.cos_row(k), y, weight * roots.cos(k, y));
    for (int64_t k = 1; k <= axis.half(); ++k) {
      set(axis.sin_row(k), y, 2 * k == grid ? 0 : weight * roots.sin(k, y));
    }
  }
  return table;
}

template <class C>
struct LastAxisTables {
  LastAxisTables(const DftCall& call, bool inverse) {
    const LastAxis<C> axis(call.size[call.last()], call.modes[call.last()], inverse);
    const Roots roots(axis.size);
    const int64_t samples = axis.samples(), step = inverse ? axis.width() : axis.line;
    cosines.resize(static_cast<size_t>((inverse ? axis.modes : samples) * step));
    sines.resize(cosines.size());
    for (int64_t l = 0; l < axis.modes; ++l) {
      const bool nyquist = 2 * l == call.grid[call.last()];
      const double weight = call.weight(l);
      for (int64_t w = 0; w < samples; ++w) {
        const bool folds_onto_itself = w == 0 || (axis.quartered ? 4 : 2) * w == axis.size;
        const double factor = !inverse && folds_onto_itself ? weight / 2 : weight;
        const auto at =
            static_cast<size_t>(inverse ? axis.at(l) * step + w : w * step + axis.at(l));
        cosines[at] = static_cast<C>(factor * roots.cos(l, w));
        sines[at] = nyquist ? C{} : static_cast<C>(-factor * roots.sin(l, w));
      }
    }
  }

  std::vector<C> cosines, sines;
};

}  // namespace medkern
