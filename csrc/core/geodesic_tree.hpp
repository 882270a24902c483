// Sums and roots on a forest of shortest paths, given by every voxel's parent.
//
// parents[p] is the voxel before p, p itself for a root, -1 for a voxel in no tree. Every operation
// is one pass over the voxels in an order where children come before their parents, or its reverse;
// that order depends on the parents only, and so do the roundings.
#pragma once

#include <cstdint>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/parallel.hpp"

namespace medkern {

class Tree {
 public:
  // Throws std::invalid_argument where the parents are no forest.
  Tree(const int64_t* parents, int64_t voxels) : parents_(parents), voxels_(voxels) {
    std::vector<int32_t> children = count_children();
    int64_t members = 0;
    for (int64_t p = 0; p < voxels; ++p) {
      if (parents[p] < 0) continue;
      ++members;
      if (children[static_cast<size_t>(p)] == 0) order_.push_back(p);
    }
    for (size_t i = 0; i < order_.size(); ++i) {
      const int64_t p = order_[i], parent = parents[p];
      if (parent != p && --children[static_cast<size_t>(parent)] == 0) order_.push_back(parent);
    }
    if (static_cast<int64_t>(order_.size()) != members) refuse("must not have cycles");
  }

  // out(p): the sum of the values on the path from the root to p, both included; 0 in no tree.
  template <class T>
  void paths(const T* values, T* out) const {
    clear(out, T{0});
    for (size_t i = order_.size(); i-- > 0;) {
      const int64_t p = order_[i];
      out[p] = is_root(p) ? values[p] : out[parents_[p]] + values[p];
    }
  }

  // Its adjoint; out(p): the sum of the values of p and of all voxels whose path meets p.
  template <class T>
  void subtrees(const T* values, T* out) const {
    clear(out, T{0});
    for (const int64_t p : order_) out[p] = values[p];
    for (const int64_t p : order_) {
      if (!is_root(p)) out[parents_[p]] += out[p];
    }
  }

  void roots(int64_t* out) const {
    clear(out, int64_t{-1});
    for (size_t i = order_.size(); i-- > 0;) {
      const int64_t p = order_[i];
      out[p] = is_root(p) ? p : out[parents_[p]];
    }
  }

 private:
  [[noreturn]] static void refuse(const char* rule) {
    throw std::invalid_argument(std::string("parents ") + rule);
  }

  bool is_root(int64_t p) const { return parents_[p] == p; }

  template <class T>
  void clear(T* out, T value) const {
    for (int64_t p = 0; p < voxels_; ++p) out[p] = value;
  }

  std::vector<int32_t> count_children() const {
    std::vector<int32_t> children(static_cast<size_t>(voxels_));
    for (int64_t p = 0; p < voxels_; ++p) {
      const int64_t parent = parents_[p];
      if (parent < -1 || parent >= voxels_) refuse("must be voxels of the sample, or -1");
      if (parent < 0 || parent == p) continue;
      if (parents_[parent] < 0) refuse("must themselves have parents");
      ++children[static_cast<size_t>(parent)];
    }
    return children;
  }

  const int64_t* const parents_;
  const int64_t voxels_;
  std::vector<int64_t> order_;  // of the members: children first
};

enum class TreeOp { paths, subtrees, roots };

// op on every sample: values [samples, voxels] (not for the roots), parents alike; out T, or int64
// for the roots.
template <class T>
void run_trees(TreeOp op, const T* values, const int64_t* parents, void* out, int64_t samples,
               int64_t voxels, const Parallel& parallel) {
  std::vector<std::exception_ptr> errors(static_cast<size_t>(samples));
  const auto one = [&](int64_t sample) {
    const int64_t at = sample * voxels;
    const Tree tree(parents + at, voxels);
    if (op == TreeOp::paths) tree.paths(values + at, static_cast<T*>(out) + at);
    if (op == TreeOp::subtrees) tree.subtrees(values + at, static_cast<T*>(out) + at);
    if (op == TreeOp::roots) tree.roots(static_cast<int64_t*>(out) + at);
  };
  parallel.run(samples, 1, [&](int64_t begin, int64_t end) {
    for (int64_t sample = begin; sample < end; ++sample) {
      try {
        one(sample);
      } catch (...) {
        errors[static_cast<size_t>(sample)] = std::current_exception();
      }
    }
  });
  parallel.check();
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

}  // namespace medkern
