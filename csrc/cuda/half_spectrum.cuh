// CUDA kernel of the adjoint of half spectra, between torch's transforms: one read and one write.
#pragma once

#include "core/common/storage.hpp"
#include "grid_stride.cuh"
#include "half_spectrum.hpp"

namespace medkern::MEDKERN_ISA {

template <class C>
MEDKERN_GLOBAL void half_spectrum_halve_fwd_kernel(C* spectrum, int64_t rows, int64_t width) {
  const int64_t columns = spectrum_columns(width);
  MEDKERN_GRID_STRIDE(i, rows * columns) {
    int64_t row, column;
    split(i, columns, row, column);
    if (column == 0 || 2 * column == width) continue;
    auto bin = load_vector<C, 2>(spectrum + 2 * i);
    bin[0] *= C(0.5);
    bin[1] *= C(0.5);
    store_vector(spectrum + 2 * i, bin);
  }
}

}  // namespace medkern::MEDKERN_ISA
