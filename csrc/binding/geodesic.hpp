// The geodesic ops on tensors, for any device: checks and layouts. A Backend runs the kernels:
//   template <class T> static void solve(const GeodesicProblem&);
//   template <class T> static void parents(const GeodesicProblem&);
//   template <class T> static void pull(const PullProblem&);
//   template <class T> static void tree(TreeOp, const void* values, const int64_t* parents,
//                                       const Tensor& out, int64_t samples, int64_t voxels);
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "core/geodesic.hpp"
#include "core/geodesic_pull.hpp"
#include "core/geodesic_tree.hpp"
#include "euclidean.hpp"
#include "tensor.hpp"

namespace medkern {

// What the edges of a problem are made of, checked, and kept alive while kernels run.
class GeodesicInput {
 public:
  GeodesicInput(const Tensor& image, const Tensor& starts, const std::optional<Tensor>& mask,
                const Tensor& spacing, double lam, const std::string& metric,
                const std::string& channel_norm, int64_t connectivity)
      : image_(torch::stable::contiguous(image)),
        starts_(torch::stable::contiguous(starts)),
        spacing_(torch::stable::contiguous(spacing)) {
    ndim_ = static_cast<int>(image.dim()) - 2;
    check_shapes();
    problem.batch = image.size(0);
    problem.channels = image.size(1);
    problem.classes = starts.size(1);
    for (int i = 0; i < ndim_; ++i) problem.grid.size[3 - ndim_ + i] = image.size(2 + i);
    problem.metric = parse_geodesic_metric(metric);
    problem.norm = parse_channel_norm(channel_norm);
    problem.lam = lam;
    problem.image = image_.data_ptr();
    problem.starts = starts_.data_ptr();
    if (mask) set_mask(*mask);
    STD_TORCH_CHECK(connectivity >= 1 && connectivity <= ndim_,
                    "connectivity must be 1 to the number of axes, got ", connectivity);
    neighbours_ =
        batch_neighbours(problem.grid, static_cast<int>(connectivity),
                         static_cast<const double*>(spacing_.data_ptr()), problem.batch, ndim_);
    set_neighbours(problem, neighbours_);
  }

  GeodesicProblem problem;

  const Tensor& starts() const { return starts_; }
  bool empty() const { return problem.batch * problem.classes == 0; }
  bool float64() const { return image_.scalar_type() == ScalarType::Double; }

  static std::vector<int64_t> shape_of(const Tensor& t) {
    std::vector<int64_t> shape;
    for (int64_t i = 0; i < t.dim(); ++i) shape.push_back(t.size(i));
    return shape;
  }

  static Tensor allocate(const Tensor& like, const std::vector<int64_t>& shape, ScalarType dtype) {
    std::vector<int64_t> stride(shape.size(), 1);
    for (size_t i = shape.size(); i-- > 1;) {
      stride[i - 1] = stride[i] * std::max<int64_t>(shape[i], 1);
    }
    return empty_strided(like, shape, stride, dtype);
  }

 private:
  void check_shapes() const {
    STD_TORCH_CHECK(ndim_ >= 1 && ndim_ <= 3, "image must be [B, C, *space] of 1 to 3 axes, got ",
                    image_.dim(), " axes");
    STD_TORCH_CHECK(
        image_.scalar_type() == ScalarType::Float || image_.scalar_type() == ScalarType::Double,
        "image must be float32 or float64");
    STD_TORCH_CHECK(starts_.scalar_type() == image_.scalar_type(),
                    "starts must have the dtype of image");
    STD_TORCH_CHECK(image_.size(1) > 0, "image must have a channel");
    check_like_image(starts_, "starts");
    STD_TORCH_CHECK(spacing_.scalar_type() == ScalarType::Double, "spacing must be float64");
    STD_TORCH_CHECK(
        spacing_.dim() == 2 && spacing_.size(0) == image_.size(0) && spacing_.size(1) == ndim_,
        "spacing must be [B, ndim]");
    for (int i = 0; i < ndim_; ++i) {
      STD_TORCH_CHECK(image_.size(2 + i) > 0, "spatial axes must not be empty");
    }
  }

  void check_like_image(const Tensor& t, const char* name) const {
    STD_TORCH_CHECK(t.dim() == image_.dim(), name, " must have the axes of image");
    for (int64_t i = 0; i < t.dim(); ++i) {
      STD_TORCH_CHECK(i == 1 || t.size(i) == image_.size(i), name, " must fit image along axis ",
                      i);
    }
  }

  void set_mask(const Tensor& mask) {
    STD_TORCH_CHECK(mask.scalar_type() == ScalarType::Bool, "mask must be bool");
    check_like_image(mask, "mask");
    STD_TORCH_CHECK(mask.size(1) == 1, "mask must be [B, 1, *space]");
    mask_ = torch::stable::contiguous(mask);
    problem.mask = static_cast<const bool*>(mask_->data_ptr());
  }

  Tensor image_, starts_, spacing_;
  std::optional<Tensor> mask_;
  std::vector<Neighbour> neighbours_;
  int ndim_;
};

// What a gradient is pulled through, checked; spacing is the rows' on the host.
class PullInput {
 public:
  PullInput(const Tensor& flow, const Tensor& parents, const Tensor& image, const Tensor& spacing,
            double lam, const std::string& metric, const std::string& channel_norm)
      : flow_(torch::stable::contiguous(flow)),
        parents_(torch::stable::contiguous(parents)),
        image_(torch::stable::contiguous(image)) {
    const int64_t ndim = image.dim() - 2;
    STD_TORCH_CHECK(ndim >= 1 && ndim <= 3, "image must be [B, C, *space] of 1 to 3 axes, got ",
                    image.dim(), " axes");
    STD_TORCH_CHECK(flow.scalar_type() == image.scalar_type() &&
                        (float64() || image.scalar_type() == ScalarType::Float),
                    "flow and image must both be float32 or float64");
    STD_TORCH_CHECK(parents.scalar_type() == ScalarType::Long, "parents must be int64");
    STD_TORCH_CHECK(flow.dim() == image.dim() && parents.dim() == image.dim(),
                    "flow and parents must have the axes of image");
    for (int64_t i = 0; i < image.dim(); ++i) {
      STD_TORCH_CHECK(parents.size(i) == flow.size(i) && (i == 1 || flow.size(i) == image.size(i)),
                      "flow, parents and image must fit along axis ", i);
    }
    rows_ = spacing_rows(spacing, image.size(0), ndim);
    problem.batch = image.size(0);
    problem.channels = image.size(1);
    problem.classes = flow.size(1);
    for (int64_t i = 0; i < ndim; ++i) problem.grid.size[3 - ndim + i] = image.size(2 + i);
    problem.metric = parse_geodesic_metric(metric);
    problem.norm = parse_channel_norm(channel_norm);
    problem.lam = lam;
    STD_TORCH_CHECK(problem.channels == 1 || uses_channels(problem.metric),
                    "metric mcp and node need one channel");
    problem.flow = flow_.data_ptr();
    problem.parents = static_cast<const int64_t*>(parents_.data_ptr());
    problem.image = image_.data_ptr();
    problem.spacing = rows_.data();
  }

  PullProblem problem;

  bool float64() const { return image_.scalar_type() == ScalarType::Double; }

 private:
  Tensor flow_, parents_, image_;
  std::vector<double> rows_;
};

template <class Backend>
struct GeodesicOps {
  using Input = GeodesicInput;

  static Tensor distance(const Tensor& image, const Tensor& starts,
                         const std::optional<Tensor>& mask, const Tensor& spacing, double lam,
                         const std::string& metric, const std::string& channel_norm,
                         int64_t connectivity, double limit, const std::string& method,
                         int64_t iterations) {
    Input input(image, starts, mask, spacing, lam, metric, channel_norm, connectivity);
    return solve(input, limit, method, iterations);
  }

  static std::tuple<Tensor, Tensor> info(const Tensor& image, const Tensor& starts,
                                         const std::optional<Tensor>& mask, const Tensor& spacing,
                                         double lam, const std::string& metric,
                                         const std::string& channel_norm, int64_t connectivity,
                                         double limit, const std::string& method,
                                         int64_t iterations) {
    Input input(image, starts, mask, spacing, lam, metric, channel_norm, connectivity);
    const Tensor info =
        Input::allocate(starts, {starts.size(0), starts.size(1), 4}, ScalarType::Double);
    input.problem.info = static_cast<double*>(info.data_ptr());
    return {solve(input, limit, method, iterations), info};
  }

  static Tensor parents(const Tensor& distance, const Tensor& image, const Tensor& starts,
                        const std::optional<Tensor>& mask, const Tensor& spacing, double lam,
                        const std::string& metric, const std::string& channel_norm,
                        int64_t connectivity) {
    Input input(image, starts, mask, spacing, lam, metric, channel_norm, connectivity);
    STD_TORCH_CHECK(Input::shape_of(distance) == Input::shape_of(starts) &&
                        distance.scalar_type() == starts.scalar_type(),
                    "distance must have the shape and dtype of starts");
    const Tensor read = torch::stable::contiguous(distance);
    const Tensor parents = Input::allocate(starts, Input::shape_of(starts), ScalarType::Long);
    input.problem.distance = read.data_ptr();
    input.problem.parents = static_cast<int64_t*>(parents.data_ptr());
    if (input.empty()) return parents;
    if (input.float64()) {
      Backend::template parents<double>(input.problem);
    } else {
      Backend::template parents<float>(input.problem);
    }
    return parents;
  }

  static Tensor pull(const Tensor& flow, const Tensor& parents, const Tensor& image,
                     const Tensor& spacing, double lam, const std::string& metric,
                     const std::string& channel_norm) {
    PullInput input(flow, parents, image, spacing, lam, metric, channel_norm);
    const Tensor grad = Input::allocate(image, Input::shape_of(image), image.scalar_type());
    input.problem.grad = grad.data_ptr();
    if (grad.numel() == 0) return grad;
    if (input.float64()) {
      Backend::template pull<double>(input.problem);
    } else {
      Backend::template pull<float>(input.problem);
    }
    return grad;
  }

  static Tensor tree_paths(const Tensor& values, const Tensor& parents) {
    return tree(TreeOp::paths, values, parents);
  }

  static Tensor tree_subtrees(const Tensor& values, const Tensor& parents) {
    return tree(TreeOp::subtrees, values, parents);
  }

  static Tensor tree_roots(const Tensor& parents) {
    const Tensor read = checked_parents(parents);
    const Tensor out = Input::allocate(read, Input::shape_of(read), ScalarType::Long);
    run_tree<double>(TreeOp::roots, nullptr, read, out);
    return out;
  }

 private:
  static Tensor solve(Input& input, double limit, const std::string& method, int64_t iterations) {
    GeodesicProblem& p = input.problem;
    p.limit = limit;
    p.method = parse_geodesic_method(method);
    p.iterations = iterations;
    const Tensor distance = Input::allocate(input.starts(), Input::shape_of(input.starts()),
                                            input.starts().scalar_type());
    p.distance = distance.data_ptr();
    if (input.empty()) return distance;
    if (input.float64()) {
      Backend::template solve<double>(p);
    } else {
      Backend::template solve<float>(p);
    }
    return distance;
  }

  static Tensor checked_parents(const Tensor& parents) {
    STD_TORCH_CHECK(parents.scalar_type() == ScalarType::Long, "parents must be int64");
    STD_TORCH_CHECK(parents.dim() >= 3, "parents must be [B, K, *space], got ", parents.dim(),
                    " axes");
    return torch::stable::contiguous(parents);
  }

  static Tensor tree(TreeOp op, const Tensor& values, const Tensor& parents) {
    const Tensor tree = checked_parents(parents), read = torch::stable::contiguous(values);
    STD_TORCH_CHECK(Input::shape_of(values) == Input::shape_of(parents),
                    "values must have the shape of parents");
    const bool float64 = values.scalar_type() == ScalarType::Double;
    STD_TORCH_CHECK(float64 || values.scalar_type() == ScalarType::Float,
                    "values must be float32 or float64");
    const Tensor out = Input::allocate(read, Input::shape_of(read), read.scalar_type());
    if (float64) {
      run_tree<double>(op, read.data_ptr(), tree, out);
    } else {
      run_tree<float>(op, read.data_ptr(), tree, out);
    }
    return out;
  }

  template <class T>
  static void run_tree(TreeOp op, const void* values, const Tensor& parents, const Tensor& out) {
    const int64_t samples = parents.size(0) * parents.size(1);
    if (out.numel() == 0) return;
    Backend::template tree<T>(op, values, static_cast<const int64_t*>(parents.data_ptr()), out,
                              samples, out.numel() / samples);
  }
};

// Registers the ops under the names of the Python schemas, on a library of one dispatch key.
#define MEDKERN_REGISTER_GEODESIC(m, Backend)                                \
  m.impl("geodesic_distance", TORCH_BOX(&GeodesicOps<Backend>::distance));   \
  m.impl("_geodesic_info", TORCH_BOX(&GeodesicOps<Backend>::info));          \
  m.impl("_geodesic_parents", TORCH_BOX(&GeodesicOps<Backend>::parents));    \
  m.impl("_geodesic_pull", TORCH_BOX(&GeodesicOps<Backend>::pull));          \
  m.impl("_tree_paths", TORCH_BOX(&GeodesicOps<Backend>::tree_paths));       \
  m.impl("_tree_subtrees", TORCH_BOX(&GeodesicOps<Backend>::tree_subtrees)); \
  m.impl("_tree_roots", TORCH_BOX(&GeodesicOps<Backend>::tree_roots))

}  // namespace medkern
