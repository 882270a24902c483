// Sums and roots on a forest of shortest paths, given by every voxel's parent.
//
// parents[p] is the voxel before p, p itself for a root, -1 for a voxel in no tree. Sums have one
// order, whoever computes them: along a path from its root, over children by ascending index.
// Work: one pass over the voxels, and two words per voxel.
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/parallel.hpp"

namespace medkern {

// Index: a signed integer for which voxels + 1 is a value.
template <class Index>
class Tree {
 public:
  // Throws std::invalid_argument where parents are no voxels, or have none.
  Tree(const int64_t* parents, int64_t voxels)
      : parents_(parents), voxels_(voxels), family_(static_cast<size_t>(voxels)) {
    for (int64_t p = voxels; p-- > 0;) {
      const int64_t parent = parents[p];
      if (parent < -1 || parent >= voxels) refuse("must be voxels of the sample, or -1");
      if (parent < 0) continue;
      ++members_;
      if (parent == p) continue;
      if (parents[parent] < 0) refuse("must themselves have parents");
      family_[p].sibling = family_[parent].child;
      family_[parent].child = static_cast<Index>(p + 1);
    }
  }

  // out(p): the sum of the values on the path from the root to p, both included; 0 in no tree.
  template <class T>
  void paths(const T* values, T* out) const {
    std::fill(out, out + voxels_, T{0});
    walk([&](int64_t p,
             int64_t parent) { out[p] = p == parent ? values[p] : out[parent] + values[p]; },
         [](int64_t, int64_t) {});
  }

  // Its adjoint; out(p): the sum of the values of p and of all voxels whose path meets p.
  template <class T>
  void subtrees(const T* values, T* out) const {
    for (int64_t p = 0; p < voxels_; ++p) out[p] = parents_[p] < 0 ? T{0} : values[p];
    walk([](int64_t, int64_t) {}, [&](int64_t p, int64_t parent) { out[parent] += out[p]; });
  }

  void roots(int64_t* out) const {
    std::fill(out, out + voxels_, int64_t{-1});
    walk([&](int64_t p, int64_t parent) { out[p] = p == parent ? p : out[parent]; },
         [](int64_t, int64_t) {});
  }

 private:
  // One more than the first child and than the next sibling; 0: none.
  struct Family {
    Index child = 0, sibling = 0;
  };

  [[noreturn]] static void refuse(const char* rule) {
    throw std::invalid_argument(std::string("parents ") + rule);
  }

  // Depth first: enter(p, parent) before p's children, leave(p, parent) after them; a root, its own
  // parent, is only entered. Throws where some voxels hang on no root.
  template <class Enter, class Leave>
  void walk(const Enter& enter, const Leave& leave) const {
    int64_t met = 0;
    for (int64_t root = 0; root < voxels_; ++root) {
      if (parents_[root] != root) continue;
      enter(root, root);
      ++met;
      int64_t parent = root;
      Index next = family_[root].child;
      for (;;) {
        if (next != 0) {
          const int64_t p = int64_t{next} - 1;
          enter(p, parent);
          ++met;
          next = family_[p].child;
          if (next != 0) {
            parent = p;
          } else {
            leave(p, parent);
            next = family_[p].sibling;
          }
        } else if (parent == root) {
          break;
        } else {
          const int64_t p = parent;
          parent = parents_[p];
          leave(p, parent);
          next = family_[p].sibling;
        }
      }
    }
    if (met != members_) refuse("must not have cycles");
  }

  const int64_t* const parents_;
  const int64_t voxels_;
  int64_t members_ = 0;
  std::vector<Family> family_;
};

enum class TreeOp { paths, subtrees, roots };

template <class Index, class T>
void run_tree(TreeOp op, const T* values, const int64_t* parents, void* out, int64_t voxels) {
  const Tree<Index> tree(parents, voxels);
  if (op == TreeOp::paths) tree.paths(values, static_cast<T*>(out));
  if (op == TreeOp::subtrees) tree.subtrees(values, static_cast<T*>(out));
  if (op == TreeOp::roots) tree.roots(static_cast<int64_t*>(out));
}

// op on every sample: values [samples, voxels] (not for the roots), parents alike; out T, or int64
// for the roots.
template <class T>
void run_trees(TreeOp op, const T* values, const int64_t* parents, void* out, int64_t samples,
               int64_t voxels, const Parallel& parallel) {
  std::vector<std::exception_ptr> errors(static_cast<size_t>(samples));
  const int64_t bytes = op == TreeOp::roots ? sizeof(int64_t) : sizeof(T);
  const bool narrow = voxels < std::numeric_limits<int32_t>::max();
  const auto one = [&](int64_t sample) {
    const int64_t at = sample * voxels;
    const T* mine = values == nullptr ? nullptr : values + at;
    void* to = static_cast<char*>(out) + at * bytes;
    narrow ? run_tree<int32_t>(op, mine, parents + at, to, voxels)
           : run_tree<int64_t>(op, mine, parents + at, to, voxels);
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
