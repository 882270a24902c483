// The kernels declared in correlation.hpp, compiled once per instruction set by
// csrc/isa/correlation.cpp.
#pragma once

#include "common/lane_sums.hpp"
#include "correlation.hpp"

namespace medkern::MEDKERN_ISA {

// S: storage type of the arrays and of the gradient.
template <class S>
struct CorrelationRun {
  using C = Compute<S>;
  using V = Vec<C>;
  using Problem = CorrelationProblem;
  static constexpr int lanes = kLanes<C>, width = LaneSums<C>::width, parts = LaneSums<C>::parts;

  // The two arrays at an element.
  struct At {
    const S *p, *y;
  };

  static At image(const Problem& p, int64_t index, int64_t elements) {
    return {static_cast<const S*>(p.p) + index * elements,
            static_cast<const S*>(p.y) + index * elements};
  }

  static void sum_row(const At& at, int64_t count, double (*totals)[kMostLanes]) {
    LaneSums<C> product, p_squared, y_squared;
    int64_t start = 0;
    for (; start + width <= count; start += width) {
#pragma GCC unroll 4
      for (int part = 0; part < parts; ++part) {
        const V a = load<C>(at.p + start + part * lanes), b = load<C>(at.y + start + part * lanes);
        product.part[part] += a * b;
        p_squared.part[part] += a * a;
        y_squared.part[part] += b * b;
      }
    }
    product.add_to(totals[0]);
    p_squared.add_to(totals[1]);
    y_squared.add_to(totals[2]);
    for (int64_t i = start; i < count; ++i) {
      const C a = load_one<C>(at.p + i), b = load_one<C>(at.y + i);
      totals[0][i - start] += a * b;
      totals[1][i - start] += a * a;
      totals[2][i - start] += b * b;
    }
  }

  static void sum_array(const Problem& p, int64_t begin, int64_t end) {
    const int64_t per_image = correlation_blocks_per_image(p);
    for (int64_t block = begin; block < end; ++block) {
      const At whole = image(p, block / per_image, p.elements);
      const int64_t first = (block % per_image) * kCorrelationBlock;
      const int64_t rest = p.elements - first;
      const int64_t last = first + (rest < kCorrelationBlock ? rest : kCorrelationBlock);
      double totals[kCorrelationSums][kMostLanes] = {};
      for (int64_t i = first; i < last; i += kCorrelationRow) {
        const int64_t count = last - i < kCorrelationRow ? last - i : kCorrelationRow;
        sum_row({whole.p + i, whole.y + i}, count, totals);
      }
      for (int c = 0; c < kCorrelationSums; ++c) {
        p.sums[block * kCorrelationSums + c] = sum_of_lanes<C>(totals[c]);
      }
    }
  }

  static void differentiate_array(const Problem& p, int64_t begin, int64_t end) {
    const int64_t per_image = correlation_blocks_per_image(p);
    for (int64_t block = begin; block < end; ++block) {
      const int64_t index = block / per_image;
      const At at = image(p, index, p.elements);
      const C* g = static_cast<const C*>(p.weights) + index * kCorrelationSums;
      const C of_y = g[0], of_p = g[1] + g[1];
      S* grad = static_cast<S*>(p.grad) + index * p.elements;
      int64_t i = (block % per_image) * kCorrelationBlock;
      const int64_t rest = p.elements - i;
      const int64_t last = i + (rest < kCorrelationBlock ? rest : kCorrelationBlock);
      for (; i + lanes <= last; i += lanes) {
        const V value = of_y * load<C>(at.y + i) + of_p * load<C>(at.p + i);
        p.streams ? stream(grad + i, value) : store(grad + i, value);
      }
      for (; i < last; ++i) {
        store_one(grad + i, of_y * load_one<C>(at.y + i) + of_p * load_one<C>(at.p + i));
      }
    }
    if (p.streams) stream_fence();
  }

  // The ring and the weight of every column of a row; rings never fall along it.
  static void describe_row(const Problem& p, int64_t row, int32_t* ring, C* weight) {
    const double squared = squared_radius_of_row(p, row);
    for (int64_t l = 0; l < p.columns; ++l) {
      double value;
      ring[l] = static_cast<int32_t>(ring_of_column(p, squared, l, value));
      weight[l] = static_cast<C>(value);
    }
  }

  // Some rows of spectra, the same of every image, described once.
  struct Rows {
    int32_t* ring;
    C *weight, *term[kCorrelationSums];
    int64_t chunk = -1;

    Rows(const Problem& p, void* scratch) {
      weight = static_cast<C*>(scratch);
      C* next = weight + correlation_block_units(p) * p.columns;
      for (C*& one : term) {
        one = next;
        next += p.columns;
      }
      ring = reinterpret_cast<int32_t*>(next);
    }

    void describe(const Problem& p, int64_t now, int64_t first, int64_t last) {
      if (chunk == now) return;
      chunk = now;
      for (int64_t row = first; row < last; ++row) {
        const int64_t at = (row - first) * p.columns;
        describe_row(p, row, ring + at, weight + at);
      }
    }
  };

  // Calls body(image, row, at, ring, weight) for all rows of spectra in a block.
  template <class Body>
  static MEDKERN_INLINE void each_row(const Problem& p, int64_t block, Rows& rows,
                                      const Body& body) {
    const int64_t chunk = block / p.images, index = block % p.images;
    const int64_t step = correlation_block_units(p), first = chunk * step;
    const int64_t last = first + step < p.rows ? first + step : p.rows;
    rows.describe(p, chunk, first, last);
    const At whole = image(p, index, p.rows * p.columns * 2);
    for (int64_t row = first; row < last; ++row) {
      const int64_t offset = row * p.columns * 2, at = (row - first) * p.columns;
      body(index, row, At{whole.p + offset, whole.y + offset}, rows.ring + at, rows.weight + at);
    }
  }

  static void sum_spectrum(const Problem& p, int64_t begin, int64_t end, void* scratch) {
    Rows rows(p, scratch);
    C *const product = rows.term[0], *const p_squared = rows.term[1],
             *const y_squared = rows.term[2];
    const int64_t per_block = (p.rings + 1) * kCorrelationSums;
    for (int64_t block = begin; block < end; ++block) {
      double* out = p.sums + block * per_block;
      for (int64_t i = 0; i < per_block; ++i) out[i] = 0;
      each_row(p, block, rows,
               [&](int64_t, int64_t, const At& at, const int32_t* ring, const C* weight) {
                 for (int64_t l = 0; l < p.columns; ++l) {
                   const C a = load_one<C>(at.p + 2 * l), b = load_one<C>(at.p + 2 * l + 1);
                   const C c = load_one<C>(at.y + 2 * l), d = load_one<C>(at.y + 2 * l + 1);
                   product[l] = (a * c + b * d) * weight[l];
                   p_squared[l] = (a * a + b * b) * weight[l];
                   y_squared[l] = (c * c + d * d) * weight[l];
                 }
                 for (int64_t l = 0; l < p.columns;) {
                   const int32_t now = ring[l];
                   double sum_product = 0, sum_p = 0, sum_y = 0;
                   for (; l < p.columns && ring[l] == now; ++l) {
                     sum_product += product[l];
                     sum_p += p_squared[l];
                     sum_y += y_squared[l];
                   }
                   out[now * kCorrelationSums] += sum_product;
                   out[now * kCorrelationSums + 1] += sum_p;
                   out[now * kCorrelationSums + 2] += sum_y;
                 }
               });
    }
  }

  static void differentiate_spectrum(const Problem& p, int64_t begin, int64_t end, void* scratch) {
    Rows rows(p, scratch);
    C *const of_y = rows.term[0], *const of_p = rows.term[1];
    const int64_t per_image = (p.rings + 1) * kCorrelationSums;
    for (int64_t block = begin; block < end; ++block) {
      each_row(p, block, rows,
               [&](int64_t index, int64_t row, const At& at, const int32_t* ring, const C* weight) {
                 const C* g = static_cast<const C*>(p.weights) + index * per_image;
                 S* grad = static_cast<S*>(p.grad) + (index * p.rows + row) * p.columns * 2;
                 for (int64_t l = 0; l < p.columns; ++l) {
                   const C* mine = g + ring[l] * kCorrelationSums;
                   of_y[l] = weight[l] * mine[0];
                   of_p[l] = weight[l] * (mine[1] + mine[1]);
                 }
                 for (int64_t l = 0; l < p.columns; ++l) {
                   for (int64_t i = 2 * l; i < 2 * l + 2; ++i) {
                     store_one(grad + i,
                               of_y[l] * load_one<C>(at.y + i) + of_p[l] * load_one<C>(at.p + i));
                   }
                 }
               });
    }
  }

  static void any(const Problem& p, int64_t begin, int64_t end, void* scratch) {
    const bool forward = p.sums != nullptr;
    if (p.axes == 0) {
      forward ? sum_array(p, begin, end) : differentiate_array(p, begin, end);
    } else {
      forward ? sum_spectrum(p, begin, end, scratch)
              : differentiate_spectrum(p, begin, end, scratch);
    }
  }
};

CorrelationKernel correlation_kernel(FloatType type) {
  switch (type) {
    case FloatType::float16:
      return CorrelationRun<Half>::any;
    case FloatType::bfloat16:
      return CorrelationRun<BFloat16>::any;
    case FloatType::float64:
      return CorrelationRun<double>::any;
    default:
      return CorrelationRun<float>::any;
  }
}

}  // namespace medkern::MEDKERN_ISA
