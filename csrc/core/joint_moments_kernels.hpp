// The kernels declared in joint_moments.hpp, compiled once per instruction set by csrc/isa.
#pragma once

#include "common/simd.hpp"
#include "joint_moments.hpp"
#include "rows.hpp"

namespace medkern::MEDKERN_ISA {

template <class S>
struct JointMomentsRun {
  using C = Compute<S>;
  using V = Vec<double>;
  static constexpr int lanes = kLanes<double>, vectors = kMomentLanes / lanes;

  struct Block {
    int64_t row, first, count;

    Block(const JointMomentsProblem& p, int64_t block) {
      const int64_t per_row = joint_moments_blocks_per_row(p);
      row = block / per_row;
      first = (block % per_row) * kMomentBlock;
      count = p.voxels - first < kMomentBlock ? p.voxels - first : kMomentBlock;
    }
  };

  static const S* at(const void* image, const JointMomentsProblem& p, const Block& block) {
    return static_cast<const S*>(image) + block.row * p.voxels + block.first;
  }

  // Sum of term(i) over [0, padded): lane by lane, then halving the lanes.
  template <class Term>
  static MEDKERN_INLINE double sum(int64_t padded, const Term& term) {
    V sums[vectors] = {};
    for (int64_t i = 0; i < padded; i += kMomentLanes) {
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) sums[v] += term(i + v * lanes);
    }
    double chain[kMomentLanes];
    for (int v = 0; v < vectors; ++v) store(chain + v * lanes, sums[v]);
    for (int half = kMomentLanes / 2; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) chain[i] += chain[i + half];
    }
    return chain[0];
  }

  // The block less its mean, zeros up to whole lanes.
  static double centre(const S* from, int64_t count, int64_t padded, double* x) {
    const double guess = static_cast<double>(load_one<C>(from));
    widen_row(from, count, guess, x);
    for (int64_t i = count; i < padded; ++i) x[i] = 0;
    const double mean =
        sum(padded, [&](int64_t i) { return load<double>(x + i); }) / static_cast<double>(count);
    for (int64_t i = 0; i < padded; i += lanes) store(x + i, load<double>(x + i) - mean);
    for (int64_t i = count; i < padded; ++i) x[i] = 0;
    return guess + mean;
  }

  static void forward(const JointMomentsProblem& p, int64_t begin, int64_t end) {
    double a[kMomentBlock], b[kMomentBlock];
    for (int64_t i = begin; i < end; ++i) {
      const Block block(p, i);
      const int64_t padded = (block.count + kMomentLanes - 1) / kMomentLanes * kMomentLanes;
      JointMoments& m = p.blocks[i];
      m.count = static_cast<double>(block.count);
      m.mean_a = centre(at(p.a, p, block), block.count, padded, a);
      m.mean_b = centre(at(p.b, p, block), block.count, padded, b);
      const auto product = [&](const double* x, const double* y) {
        return sum(padded, [=](int64_t k) { return load<double>(x + k) * load<double>(y + k); });
      };
      m.var_a = product(a, a);
      m.var_b = product(b, b);
      m.cross = product(a, b);
    }
  }

  // `variance` and `covariance`: the weights of x and y in the gradient of x.
  static void write(const double* x, const double* y, double variance, double covariance,
                    int64_t count, double* scratch, S* to) {
    for (int64_t i = 0; i < count; i += lanes) {
      store(scratch + i, variance * load<double>(x + i) + covariance * load<double>(y + i));
    }
    narrow_row(scratch, count, to);
  }

  static void backward(const JointMomentsProblem& p, int64_t begin, int64_t end) {
    double a[kMomentBlock], b[kMomentBlock], scratch[kMomentBlock];
    for (int64_t i = begin; i < end; ++i) {
      const Block block(p, i);
      const JointMoments& m = p.moments[block.row];
      const C* g = static_cast<const C*>(p.weights) + 3 * block.row;
      const double covariance = static_cast<double>(g[2]) / m.count;
      widen_row(at(p.a, p, block), block.count, m.mean_a, a);
      widen_row(at(p.b, p, block), block.count, m.mean_b, b);
      const int64_t images = p.both ? 2 : 1, sample = block.row / p.channels;
      const int64_t row = sample * images * p.channels + block.row % p.channels;
      S* to = static_cast<S*>(p.grads) + row * p.voxels + block.first;
      write(a, b, 2 * static_cast<double>(g[0]) / m.count, covariance, block.count, scratch, to);
      if (!p.both) continue;
      write(b, a, 2 * static_cast<double>(g[1]) / m.count, covariance, block.count, scratch,
            to + p.channels * p.voxels);
    }
  }
};

JointMomentsKernel joint_moments_kernel(bool backward, FloatType type) {
  const auto select = [&](auto run) { return backward ? run.backward : run.forward; };
  switch (type) {
    case FloatType::float16:
      return select(JointMomentsRun<Half>{});
    case FloatType::bfloat16:
      return select(JointMomentsRun<BFloat16>{});
    case FloatType::float64:
      return select(JointMomentsRun<double>{});
    default:
      return select(JointMomentsRun<float>{});
  }
}

}  // namespace medkern::MEDKERN_ISA
