// Tables of cosines and sines.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace medkern {

// Cosines and sines of 2 pi k n / size for k of the rows and n of the columns: [rows, stride], or
// [columns, stride] where `turned`.
template <class C>
struct WaveTable {
  std::vector<C> cosines, sines;

  WaveTable(int64_t size, int64_t rows, int64_t columns, int64_t stride, bool turned)
      : cosines(static_cast<size_t>((turned ? columns : rows) * stride)), sines(cosines.size()) {
    std::vector<double> c(static_cast<size_t>(size)), s(c.size());
    for (int64_t n = 0; n < size; ++n) {
      const double angle = 2 * M_PI / static_cast<double>(size) * static_cast<double>(n);
      c[n] = std::cos(angle);
      s[n] = std::sin(angle);
    }
    for (int64_t k = 0; k < rows; ++k) {
      for (int64_t n = 0, turn = 0; n < columns; ++n, turn = (turn + k) % size) {
        const int64_t at = turned ? n * stride + k : k * stride + n;
        cosines[at] = static_cast<C>(c[turn]);
        sines[at] = static_cast<C>(s[turn]);
      }
    }
  }
};

}  // namespace medkern
