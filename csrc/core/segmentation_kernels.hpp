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
  C *p, *slopes;
  const typename ExpConstants<C>::Integer* label;
  bool ignores;  // a voxel of the padded tile has no label, or lies behind the end
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

  // The logit of the label's class at lanes i; 0 where there is none.
  static MEDKERN_INLINE V labelled_logit(const Problem& p, const Tile& t, int64_t i) {
    const Integers label = load_raw<Integers>(t.label + i);
    V chosen{};
    for (int64_t k = 0; k < p.classes; ++k) {
      const Integer mine = static_cast<Integer>(k) + first_label(p);
      chosen = label == mine ? load<C>(t.z + k * t.z_step + i) : chosen;
    }
    return chosen;
  }

  // The largest logits of a tile, exp(z_k - largest) in the rows of p, and their sums over the
  // classes. Row by row: the classes of one vector of voxels would each wait for the last one's
  // sum.
  static void exponentials(const Problem& p, const Tile& t, C* largest, C* total) {
    for (int64_t i = 0; i < t.padded; i += lanes) {
      store(largest + i, largest_logit(p, t, i));
      store(total + i, V{});
    }
    for (int64_t k = 0; k < p.classes; ++k) {
      for (int64_t i = 0; i < t.padded; i += lanes) {
        const V e = exp_of_negative<C>(load<C>(t.z + k * t.z_step + i) - load<C>(largest + i));
        store(t.p + k * row + i, e);
        store(total + i, load<C>(total + i) + e);
      }
    }
  }

  // Zeros in the rows of p where a voxel does not count, whatever its logits are.
  static void clear_ignored(const Problem& p, const Tile& t) {
    for (int64_t k = 0; k < p.classes; ++k) {
      for (int64_t i = 0; i < t.padded; i += lanes) {
        C* q = t.p + k * row + i;
        store(q, load_raw<Integers>(t.label + i) == ignored ? V{} : load<C>(q));
      }
    }
  }

  // p = sigmoid(z), and -log p(-z) less its linear part: log(1 + exp(-|z|)).
  static MEDKERN_INLINE V sigmoid(V z, V& log_part) {
    const V e = exp_of_negative<C>(z < C{} ? z : -z);
    const V total = e + C{1}, inverse = C{1} / total;
    log_part = log_of_positive<C>(total) + (e - (total - C{1})) * inverse;  // what rounding lost
    return (z < C{} ? e : V{} + C{1}) * inverse;
  }

  // What the target of a class is at lanes i: whether it is the label, or the value.
  template <bool labels>
  static MEDKERN_INLINE auto target_of(const Problem& p, const Tile& t, int64_t k, int64_t i) {
    if constexpr (labels) {
      return load_raw<Integers>(t.label + i) == static_cast<Integer>(k) + first_label(p);
    } else {
      return load<C>(t.y + k * t.y_step + i);
    }
  }

  // Adds `value` times the target, and nothing where that is 0, whatever the value.
  static MEDKERN_INLINE void add_times(V& sum, Integers is_label, V value) {
    sum += is_label ? value : V{};
  }
  static MEDKERN_INLINE void add_times(V& sum, V y, V value) { sum += y == C{} ? V{} : y * value; }

  // One class of a tile. `terms(i, target, entropy)` gives p at lanes i, 0 where a voxel does not
  // count, and adds its share of the cross-entropy.
  template <bool labels, class Terms>
  static MEDKERN_INLINE void sum_class(const Problem& p, const Tile& t, int64_t k, double* totals,
                                       const Terms& terms) {
    LaneSums<C> product, mass, squares, target, target_squares, surprise;
    for (int64_t start = 0; start < t.padded; start += width) {
#pragma GCC unroll 4
      for (int part = 0; part < parts; ++part) {
        const int64_t i = start + part * lanes;
        const auto y = target_of<labels>(p, t, k, i);
        const V q = terms(i, y, surprise.part[part]);
        mass.part[part] += q;
        squares.part[part] += q * q;
        add_times(product.part[part], y, q);
        add_times(target.part[part], y, V{} + C{1});
        if constexpr (!labels) target_squares.part[part] += y * y;
      }
    }
    const LaneSums<C>* sums[columns] = {
        &product, &mass, &squares, &target, labels ? &target : &target_squares, &surprise};
    for (int c = 0; c < columns; ++c) sums[c]->add_to(totals + c * kSegmentationLanes);
  }

  // -log p_k = (largest - z_k) + log_total; labels need it of their own class alone.
  template <bool labels>
  static void sum_softmax(const Problem& p, const Tile& t, double* totals) {
    alignas(64) C largest[row], total[row], scale[row], surprise[row];
    exponentials(p, t, largest, total);
    for (int64_t i = 0; i < t.padded; i += lanes) {
      const V sum = load<C>(total + i), log_total = log_of_positive<C>(sum);
      store(scale + i, load_raw<Integers>(t.label + i) == ignored ? V{} : C{1} / sum);
      const V below = labels ? load<C>(largest + i) - labelled_logit(p, t, i) : V{};
      store(surprise + i, labels ? below + log_total : log_total);
    }
    if (t.ignores) clear_ignored(p, t);
    for (int64_t k = 0; k < p.classes; ++k) {
      const auto terms = [&](int64_t i, auto y, V& entropy) {
        if constexpr (labels) {
          add_times(entropy, y, load<C>(surprise + i));
        } else {
          const V below = load<C>(largest + i) - load<C>(t.z + k * t.z_step + i);
          add_times(entropy, y, below + load<C>(surprise + i));
        }
        return load<C>(t.p + k * row + i) * load<C>(scale + i);
      };
      sum_class<labels>(p, t, k, totals + k * columns * kSegmentationLanes, terms);
    }
  }

  template <bool labels>
  static void sum_sigmoid(const Problem& p, const Tile& t, double* totals) {
    for (int64_t k = 0; k < p.classes; ++k) {
      const auto terms = [&](int64_t i, auto y, V& entropy) {
        const Integers skip = load_raw<Integers>(t.label + i) == ignored;
        const V z = load<C>(t.z + k * t.z_step + i);
        V log_part;
        const V q = sigmoid(z, log_part), constant = (z > C{} ? z : V{}) + log_part;
        entropy += skip ? V{} : constant;
        add_times(entropy, y, -z);
        return skip ? V{} : q;
      };
      sum_class<labels>(p, t, k, totals + k * columns * kSegmentationLanes, terms);
    }
  }

  // With v_j = p_j (g_1 + 2 g_2 p_j) + y_j (g_0 p_j - g_5) the gradient is v_j - p_j sum_k v_k.
  template <bool labels>
  static void differentiate_softmax(const Problem& p, const Tile& t, const C* weights) {
    alignas(64) C largest[row], total[row];
    exponentials(p, t, largest, total);
    for (int64_t i = 0; i < t.padded; i += lanes) {
      const V scale = C{1} / load<C>(total + i);
      V sum{};
      for (int64_t k = 0; k < p.classes; ++k) {
        const C* g = weights + k * kSegmentationSums;
        const V q = load<C>(t.p + k * row + i) * scale;
        V v = q * (g[1] + (g[2] + g[2]) * q);
        add_times(v, target_of<labels>(p, t, k, i), g[0] * q - g[5]);
        store(t.slopes + k * lanes, v);
        sum += v;
      }
      const V back = scale * sum;
      for (int64_t k = 0; k < p.classes; ++k) {
        C* q = t.p + k * row + i;
        store(q, load<C>(t.slopes + k * lanes) - load<C>(q) * back);
      }
    }
  }

  template <bool labels>
  static void differentiate_sigmoid(const Problem& p, const Tile& t, const C* weights) {
    for (int64_t i = 0; i < t.padded; i += lanes) {
      for (int64_t k = 0; k < p.classes; ++k) {
        const C* g = weights + k * kSegmentationSums;
        V unused;
        const V q = sigmoid(load<C>(t.z + k * t.z_step + i), unused);
        const auto y = target_of<labels>(p, t, k, i);
        V a = g[1] + (g[2] + g[2]) * q, error = q;
        add_times(a, y, V{} + g[0]);
        add_times(error, y, V{} - C{1});
        store(t.p + k * row + i, q * (C{1} - q) * a + g[5] * error);
      }
    }
  }

  // The gradient takes the place of the probabilities in the tile.
  template <bool softmax, bool labels>
  static void differentiate_tile(const Problem& p, const Tile& t) {
    const C* weights = static_cast<const C*>(p.weights) + t.sample * p.classes * kSegmentationSums;
    softmax ? differentiate_softmax<labels>(p, t, weights)
            : differentiate_sigmoid<labels>(p, t, weights);
    if (t.ignores) clear_ignored(p, t);
  }

  // Scratch of a thread: [classes, row] of p, z and y, a vector of slopes for each class, then the
  // sums of a block in lanes.
  struct Scratch {
    C *p, *z, *y, *slopes;
    double* totals;

    Scratch(const Problem& problem, void* bytes)
        : p(static_cast<C*>(bytes)),
          z(p + problem.classes * row),
          y(z + problem.classes * row),
          slopes(y + problem.classes * row) {
      totals = static_cast<double*>(bytes) + problem.classes * (3 * row + kSegmentationLanes);
    }
  };

  // Calls body(tile, invalid, valid) for every tile of a block.
  template <bool labels, class Body>
  static MEDKERN_INLINE void each_tile(const Problem& p, int64_t block, const Scratch& scratch,
                                       const Body& body) {
    alignas(64) Integer label[row] = {};
    Tile t;
    t.p = scratch.p;
    t.slopes = scratch.slopes;
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
      t.ignores = valid - invalid < t.padded;
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
        softmax ? sum_softmax<labels>(p, t, scratch.totals)
                : sum_sigmoid<labels>(p, t, scratch.totals);
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
