// The Euclidean distance ops on tensors, for any device: checks and allocation. A Backend runs the
// kernel:
//   static void run(const EuclideanProblem&)
#pragma once

#include <tuple>

#include "core/euclidean.hpp"
#include "tensor.hpp"

namespace medkern {

inline bool is_label_dtype(ScalarType dtype) {
  return dtype == ScalarType::Bool || dtype == ScalarType::Byte || dtype == ScalarType::Char ||
         dtype == ScalarType::Short || dtype == ScalarType::Int || dtype == ScalarType::Long;
}

inline Tensor empty_of(const Tensor& like, ScalarType dtype) {
  std::vector<int64_t> size;
  for (int64_t i = 0; i < like.dim(); ++i) size.push_back(like.size(i));
  return empty_packed(like, size, dtype);
}

// [B, 3]: one row of D, H, W per sample, 1 for axes that a picture or a line lacks.
inline std::vector<double> spacing_rows(const Tensor& spacing, int64_t batch, int64_t ndim) {
  STD_TORCH_CHECK(spacing.scalar_type() == ScalarType::Double && spacing.is_cpu(),
                  "spacing must be float64 on the CPU");
  STD_TORCH_CHECK(spacing.dim() == 2 && spacing.size(0) == batch && spacing.size(1) == ndim,
                  "spacing must be [", batch, ", ", ndim, "]");
  const Tensor values = torch::stable::contiguous(spacing);
  const auto* given = static_cast<const double*>(values.data_ptr());
  std::vector<double> rows(static_cast<size_t>(batch * 3), 1.0);
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t i = 0; i < ndim; ++i) {
      const double length = given[b * ndim + i];
      STD_TORCH_CHECK(length > 0 && std::isfinite(length), "spacing must be positive and finite");
      rows[static_cast<size_t>(b * 3 + 3 - ndim + i)] = length;
    }
  }
  return rows;
}

template <class Backend>
struct EuclideanOps {
  static Tensor distance(const Tensor& labels, const Tensor& spacing, bool is_signed, bool wide) {
    const Tensor out = empty_of(labels, wide ? ScalarType::Double : ScalarType::Float);
    run(labels, spacing, is_signed, out, nullptr);
    return out;
  }

  static std::tuple<Tensor, Tensor> indices(const Tensor& labels, const Tensor& spacing,
                                            bool is_signed, bool wide) {
    const Tensor out = empty_of(labels, wide ? ScalarType::Double : ScalarType::Float);
    const Tensor nearest = empty_of(labels, ScalarType::Long);
    run(labels, spacing, is_signed, out, static_cast<int64_t*>(nearest.data_ptr()));
    return {out, nearest};
  }

 private:
  static void run(const Tensor& labels, const Tensor& spacing, bool is_signed, const Tensor& out,
                  int64_t* nearest) {
    const int64_t ndim = labels.dim() - 2;
    STD_TORCH_CHECK(is_label_dtype(labels.scalar_type()), "labels must be integers or bool");
    STD_TORCH_CHECK(ndim >= 1 && ndim <= 3, "labels must be [B, K, *space] of 1 to 3 axes, got ",
                    labels.dim(), " axes");
    const Tensor voxels = torch::stable::contiguous(labels);
    const std::vector<double> rows = spacing_rows(spacing, labels.size(0), ndim);
    EuclideanProblem p;
    p.volumes = labels.size(0) * labels.size(1);
    for (int64_t i = 0; i < ndim; ++i) p.size[3 - ndim + i] = labels.size(2 + i);
    p.labels = voxels.data_ptr();
    p.label_bytes = static_cast<int>(voxels.element_size());
    p.spacing = rows.data();
    p.sets = labels.size(1);
    p.both_sides = is_signed;
    p.wide = out.scalar_type() == ScalarType::Double;
    p.distance = out.data_ptr();
    p.nearest = nearest;
    Backend::run(p);
  }
};

// Registers the ops under the names of the Python schemas, on a library of one dispatch key.
#define MEDKERN_REGISTER_EUCLIDEAN(m, Backend)                               \
  m.impl("euclidean_distance", TORCH_BOX(&EuclideanOps<Backend>::distance)); \
  m.impl("_euclidean_indices", TORCH_BOX(&EuclideanOps<Backend>::indices))

}  // namespace medkern
