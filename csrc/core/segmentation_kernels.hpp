// The kernels declared in segmentation.hpp, compiled once per instruction set by
// csrc/isa/segmentation.cpp.
#pragma once

#include "common/exponential.hpp"
#include "common/lane_sums.hpp"
#include "common/rows.hpp"
#include "segmentation.hpp"

namespace medkern::MEDKERN_ISA {

// Some consecutive voxels of one sample, in rows of classes: `z` and `y` may point into the inputs.
template <class C>
struct SegmentationTile {
  int64_t sample, first, count, padded;
  const C *z, *y;
  int64_t z_step, y_step;
  C* p;
  const typename ExpConstants<C>::Integer* label;
};

// Z: storage type of the logits and of their gradient.
template <class Z>
struct SegmentationRun {
  using C = Compute<Z>;
  using V = Vec<C>;
  using Integer = typename ExpConstants<C>::Integer;
  using Integers = Vec<Integer>;
  using Tile = SegmentationTile<C>;
  using Problem = SegmentationProblem;
  static constexpr int lanes = kLanes<C>, width = LaneSums<C>::width, parts = LaneSums<C>::parts;
  static constexpr int64_t row = kSegmentationTile;
  static constexpr int columns = kSegmentationSums - 1;  // the last sum is no sum of values
  static constexpr Integer ignored = -1;

  // The label of the first class: a single class has the label 1.
  static MEDKERN_INLINE Integer first_label(const Problem& p) { return p.classes == 1 ? 1 : 0; }

  template <class S>
  static constexpr bool kReadInPlace = std::is_same_v<S, C>;

  // Rows of `classes` classes, in place where the layout is that of a tile; zeros behind the end.
  template <class S>
  static const C* rows(const S* from, int64_t channel, int64_t voxel, const Problem& p,
                       const Tile& t, C* scratch, int64_t& step) {
    if constexpr (kReadInPlace<S>) {
      if (voxel == 1 && t.count == t.padded) {
        step = channel;
        return from;
      }
    }
    for (int64_t k = 0; k < p.classes; ++k) {
      C* to = scratch + k * row;
      read_row(from + k * channel, voxel, t.count, to);
      for (int64_t i = t.count; i < t.padded; ++i) to[i] = C{};
    }
    step = row;
    return scratch;
  }

  static void read_logits(const Problem& p, Tile& t, C* scratch) {
    const SegmentationView& v = p.logits;
    const Z* from = static_cast<const Z*>(v.data) + t.sample * v.batch + t.first * v.voxel;
    t.z = rows(from, v.channel, v.voxel, p, t, scratch, t.z_step);
  }

  template <class S>
  static void read_values(const Problem& p, Tile& t, C* scratch) {
    const SegmentationTarget& y = p.target;
    const S* from = static_cast<const S*>(y.data) + t.sample * y.batch + t.first * y.voxel;
    t.y = rows(from, y.channel, y.voxel, p, t, scratch, t.y_step);
  }

  static void read_values(const Problem& p, Tile& t, C* scratch) {
    switch (p.target.type) {
      case TargetType::float16:
        return read_values<Half>(p, t, scratch);
      case TargetType::bfloat16:
        return read_values<BFloat16>(p, t, scratch);
      case TargetType::float32:
        return read_values<float>(p, t, scratch);
      case TargetType::float64:
        return read_values<double>(p, t, scratch);
      default:
        return read_values<uint8_t>(p, t, scratch);
    }
  }

  // Labels of the tile, `ignored` where there is none; how many name no class, how many count.
  template <class Y>
  static MEDKERN_INLINE void read_labels(const Problem& p, const Tile& t, int64_t stride,
                                         Integer* to, int64_t& invalid, int64_t& valid) {
    const SegmentationTarget& y = p.target;
    const Y* from = static_cast<const Y*>(y.data) + t.sample * y.batch + t.first * y.voxel;
    const uint64_t last = p.classes == 1 ? 1 : static_cast<uint64_t>(p.classes - 1);
    int64_t wrong = 0, counted = 0;
    for (int64_t i = 0; i < t.count; ++i) {
      const int64_t label = from[i * stride];
      const bool named = static_cast<uint64_t>(label) <= last, kept = label != y.ignore;
      wrong += !named && kept;
      counted += kept;
      to[i] = named && kept ? static_cast<Integer>(label) : ignored;
    }
    invalid += wrong;
    valid += counted;
  }

  static void read_labels(const Problem& p, const Tile& t, Integer* to, int64_t& invalid,
                          int64_t& valid) {
    const bool bytes = p.target.type == TargetType::uint8;
    if (p.target.voxel == 1) {
      bytes ? read_labels<uint8_t>(p, t, 1, to, invalid, valid)
            : read_labels<int64_t>(p, t, 1, to, invalid, valid);
    } else {
      bytes ? read_labels<uint8_t>(p, t, p.target.voxel, to, invalid, valid)
            : read_labels<int64_t>(p, t, p.target.voxel, to, invalid, valid);
    }
  }

  static MEDKERN_INLINE V largest_logit(const Problem& p, const Tile& t, int64_t i) {
    V largest = load<C>(t.z + i);
    for (int64_t k = 1; k < p.classes; ++k) {
      const V other = load<C>(t.z + k * t.z_step + i);
      largest = other > largest ? other : largest;
    }
    return largest;
  }

  // exp(z_k - largest) of lanes from i on into the rows of p; their sum over the classes.
  static MEDKERN_INLINE V exponentials(const Problem& p, const Tile& t, int64_t i, V largest) {
    V total{};
    for (int64_t k = 0; k < p.classes; ++k) {
      const V e = exp_of_negative<C>(load<C>(t.z + k * t.z_step + i) - largest);
      store(t.p + k * row + i, e);
      total += e;
    }
    return total;
  }

  // p = sigmoid(z), and -log p(-z) less its linear part: log(1 + exp(-|z|)).
  static MEDKERN_INLINE V sigmoid(V z, V& log_part) {
    const V e = exp_of_negative<C>(z < C{} ? z : -z);
    const V total = e + C{1}, inverse = C{1} / total;
    log_part = log_of_positive<C>(total) + (e - (total - C{1})) * inverse;  // what rounding lost
    return (z < C{} ? e : V{} + C{1}) * inverse;
  }

  // One class of a tile. `terms(k, i, z)` gives p and the parts of the cross-entropy at lanes i:
  // constant, and what y multiplies.
  template <bool labels, class Terms>
  static MEDKERN_INLINE void sum_class(const Problem& p, const Tile& t, int64_t k, double* totals,
                                       const Terms& terms) {
    LaneSums<C> product, mass, squares, target, target_squares, surprise;
    const Integer mine = static_cast<Integer>(k) + first_label(p);
    for (int64_t start = 0; start < t.padded; start += width) {
#pragma GCC unroll 4
      for (int part = 0; part < parts; ++part) {
        const int64_t i = start + part * lanes;
        const Integers label = load_raw<Integers>(t.label + i);
        V constant, slope;
        V q = terms(i, load<C>(t.z + k * t.z_step + i), constant, slope);
        q = label == ignored ? V{} : q;
        constant = label == ignored ? V{} : constant;
        mass.part[part] += q;
        squares.part[part] += q * q;
        if constexpr (labels) {
          product.part[part] += label == mine ? q : V{};
          target.part[part] += label == mine ? V{} + C{1} : V{};
          surprise.part[part] += constant + (label == mine ? slope : V{});
        } else {
          const V y = load<C>(t.y + k * t.y_step + i);
          product.part[part] += q * y;
          target.part[part] += y;
          target_squares.part[part] += y * y;
          surprise.part[part] += constant + (y == C{} ? V{} : y * slope);
        }
      }
    }
    const LaneSums<C>* sums[columns] = {
        &product, &mass, &squares, &target, labels ? &target : &target_squares, &surprise};
    for (int c = 0; c < columns; ++c) sums[c]->add_to(totals + c * kSegmentationLanes);
  }

  template <bool softmax, bool labels>
  static void sum_tile(const Problem& p, const Tile& t, double* totals) {
    constexpr int64_t stride = columns * kSegmentationLanes;
    if constexpr (softmax) {
      alignas(64) C largest[row], scale[row], log_total[row];
      for (int64_t i = 0; i < t.padded; i += lanes) {
        const V top = largest_logit(p, t, i), total = exponentials(p, t, i, top);
        store(largest + i, top);
        store(scale + i, V{} + C{1} / total);
        store(log_total + i, log_of_positive<C>(total));
      }
      for (int64_t k = 0; k < p.classes; ++k) {
        sum_class<labels>(p, t, k, totals + k * stride, [&](int64_t i, V z, V& constant, V& slope) {
          constant = V{};
          slope = (load<C>(largest + i) - z) + load<C>(log_total + i);
          return load<C>(t.p + k * row + i) * load<C>(scale + i);
        });
      }
    } else {
      for (int64_t k = 0; k < p.classes; ++k) {
        sum_class<labels>(p, t, k, totals + k * stride, [&](int64_t, V z, V& constant, V& slope) {
          V log_part;
          const V q = sigmoid(z, log_part);
          constant = (z > C{} ? z : V{}) + log_part;
          slope = -z;
          return q;
        });
      }
    }
  }

  // y of class k times `value`, at lanes i.
  template <bool labels>
  static MEDKERN_INLINE V times_target(const Tile& t, int64_t k, Integer mine, int64_t i, C value) {
    if constexpr (labels) return load_raw<Integers>(t.label + i) == mine ? V{} + value : V{};
    return load<C>(t.y + k * t.y_step + i) * value;
  }

  // The gradient takes the place of the probabilities in the tile.
  template <bool softmax, bool labels>
  static void differentiate_tile(const Problem& p, const Tile& t) {
    const C* weights = static_cast<const C*>(p.weights) + t.sample * p.classes * kSegmentationSums;
    const Integer first = first_label(p);
    for (int64_t i = 0; i < t.padded; i += lanes) {
      const Integers skip = load_raw<Integers>(t.label + i) == ignored;
      if constexpr (softmax) {
        const V scale = C{1} / exponentials(p, t, i, largest_logit(p, t, i));
        V shift{};
        for (int64_t k = 0; k < p.classes; ++k) {
          const C* g = weights + k * kSegmentationSums;
          const Integer mine = static_cast<Integer>(k) + first;
          const V q = load<C>(t.p + k * row + i) * scale;
          const V a = times_target<labels>(t, k, mine, i, g[0]) + (g[1] + (g[2] + g[2]) * q);
          shift += times_target<labels>(t, k, mine, i, g[5]) - q * a;
          store(t.p + k * row + i, q);
        }
        for (int64_t k = 0; k < p.classes; ++k) {
          const C* g = weights + k * kSegmentationSums;
          const Integer mine = static_cast<Integer>(k) + first;
          const V q = load<C>(t.p + k * row + i);
          const V a = times_target<labels>(t, k, mine, i, g[0]) + (g[1] + (g[2] + g[2]) * q);
          const V slope = q * (a + shift) - times_target<labels>(t, k, mine, i, g[5]);
          store(t.p + k * row + i, skip ? V{} : slope);
        }
      } else {
        for (int64_t k = 0; k < p.classes; ++k) {
          const C* g = weights + k * kSegmentationSums;
          const Integer mine = static_cast<Integer>(k) + first;
          V unused;
          const V q = sigmoid(load<C>(t.z + k * t.z_step + i), unused);
          const V a = times_target<labels>(t, k, mine, i, g[0]) + (g[1] + (g[2] + g[2]) * q);
          const V error = q - times_target<labels>(t, k, mine, i, C{1});
          const V slope = q * (C{1} - q) * a + g[5] * error;
          store(t.p + k * row + i, skip ? V{} : slope);
        }
      }
    }
  }

  // Scratch of a thread: [classes, row] of p, z and y, then the sums of a block in lanes.
  struct Scratch {
    C *p, *z, *y;
    double* totals;

    Scratch(const Problem& problem, void* bytes)
        : p(static_cast<C*>(bytes)), z(p + problem.classes * row), y(z + problem.classes * row) {
      totals = static_cast<double*>(bytes) + 3 * problem.classes * row;
    }
  };

  // Calls body(tile, invalid, valid) for every tile of a block.
  template <bool labels, class Body>
  static MEDKERN_INLINE void each_tile(const Problem& p, int64_t block, const Scratch& scratch,
                                       const Body& body) {
    alignas(64) Integer label[row] = {};
    Tile t;
    t.p = scratch.p;
    t.label = label;
    const int64_t per_sample = segmentation_blocks_per_sample(p);
    t.sample = block / per_sample;
    const int64_t start = (block % per_sample) * kSegmentationBlock;
    const int64_t rest = p.voxels - start;
    const int64_t stop = rest < kSegmentationBlock ? rest : kSegmentationBlock;
    for (int64_t at = 0; at < stop; at += row) {
      t.first = start + at;
      t.count = stop - at < row ? stop - at : row;
      t.padded = (t.count + width - 1) / width * width;
      int64_t invalid = 0, valid = labels ? 0 : t.count;
      read_logits(p, t, scratch.z);
      if constexpr (labels) {
        read_labels(p, t, label, invalid, valid);
      } else {
        read_values(p, t, scratch.y);
      }
      for (int64_t i = t.count; i < t.padded; ++i) label[i] = ignored;
      body(t, invalid, valid);
    }
  }

  template <bool softmax, bool labels>
  static void forward(const Problem& p, int64_t begin, int64_t end, void* bytes) {
    const Scratch scratch(p, bytes);
    const int64_t lane_sums = p.classes * columns * kSegmentationLanes;
    for (int64_t block = begin; block < end; ++block) {
      for (int64_t i = 0; i < lane_sums; ++i) scratch.totals[i] = 0;
      int64_t wrong = 0, counted = 0;
      each_tile<labels>(p, block, scratch, [&](const Tile& t, int64_t invalid, int64_t valid) {
        sum_tile<softmax, labels>(p, t, scratch.totals);
        wrong += invalid;
        counted += valid;
      });
      p.invalid[block] = wrong;
      double* out = p.sums + block * p.classes * kSegmentationSums;
      for (int64_t k = 0; k < p.classes; ++k, out += kSegmentationSums) {
        double* lane = scratch.totals + k * columns * kSegmentationLanes;
        for (int c = 0; c < columns; ++c) out[c] = sum_of_lanes<C>(lane + c * kSegmentationLanes);
        out[columns] = static_cast<double>(counted);
      }
    }
  }

  template <bool softmax, bool labels>
  static void backward(const Problem& p, int64_t begin, int64_t end, void* bytes) {
    const Scratch scratch(p, bytes);
    const SegmentationView& v = p.grad;
    for (int64_t block = begin; block < end; ++block) {
      each_tile<labels>(p, block, scratch, [&](const Tile& t, int64_t, int64_t) {
        differentiate_tile<softmax, labels>(p, t);
        Z* to = static_cast<Z*>(v.data) + t.sample * v.batch + t.first * v.voxel;
        for (int64_t k = 0; k < p.classes; ++k) {
          write_row(t.p + k * row, p.streams, v.voxel, t.count, to + k * v.channel);
        }
      });
    }
    if (p.streams) stream_fence();
  }

  template <bool softmax, bool labels>
  static void run(const Problem& p, int64_t begin, int64_t end, void* bytes) {
    p.sums != nullptr ? forward<softmax, labels>(p, begin, end, bytes)
                      : backward<softmax, labels>(p, begin, end, bytes);
  }

  static void any(const Problem& p, int64_t begin, int64_t end, void* bytes) {
    if (p.softmax) {
      p.target.labels ? run<true, true>(p, begin, end, bytes)
                      : run<true, false>(p, begin, end, bytes);
    } else {
      p.target.labels ? run<false, true>(p, begin, end, bytes)
                      : run<false, false>(p, begin, end, bytes);
    }
  }
};

SegmentationKernel segmentation_kernel(FloatType logits) {
  switch (logits) {
    case FloatType::float16:
      return SegmentationRun<Half>::any;
    case FloatType::bfloat16:
      return SegmentationRun<BFloat16>::any;
    case FloatType::float64:
      return SegmentationRun<double>::any;
    default:
      return SegmentationRun<float>::any;
  }
}

}  // namespace medkern::MEDKERN_ISA
