// The warp ops on tensors: checks, allocation, and the loops over samples and groups of channels.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "core/warp.hpp"
#include "tensor.hpp"
#include "threads.hpp"

namespace medkern {

inline WarpMode parse_warp_mode(const std::string& mode) {
  if (mode == "linear") return WarpMode::linear;
  if (mode == "cubic") return WarpMode::cubic;
  STD_TORCH_CHECK(mode == "nearest", "mode must be linear, nearest or cubic, got ", mode);
  return WarpMode::nearest;
}

inline WarpPadding parse_warp_padding(const std::string& padding) {
  if (padding == "border") return WarpPadding::border;
  if (padding == "reflection") return WarpPadding::reflection;
  STD_TORCH_CHECK(padding == "zeros", "padding must be zeros, border or reflection, got ", padding);
  return WarpPadding::zeros;
}

inline bool is_floating(const Tensor& t) {
  const ScalarType type = t.scalar_type();
  return type == ScalarType::Half || type == ScalarType::BFloat16 || type == ScalarType::Float ||
         type == ScalarType::Double;
}

inline Tensor packed_as(const Tensor& t, ScalarType dtype) {
  if (t.scalar_type() == dtype) return torch::stable::contiguous(t);
  std::vector<int64_t> size;
  for (int64_t i = 0; i < t.dim(); ++i) size.push_back(t.size(i));
  Tensor copy = empty_packed(t, size, dtype);
  return torch::stable::copy_(copy, t);
}

// The geometry of a call: sizes, where output voxels lie in the image, displacements in the compute
// type of `values` (image or gradient).
class WarpGeometry {
 public:
  WarpGeometry(const Tensor& values, const std::vector<int64_t>& size, const Tensor& displacement,
               const std::string& padding, bool normalized)
      : displacement_(packed_as(displacement, compute_type_of(values))) {
    WarpProblem& p = problem;
    const auto ndim = static_cast<int>(size.size());
    STD_TORCH_CHECK(ndim == 2 || ndim == 3, "image must be [B, C, *space] of 2 or 3 spatial axes");
    STD_TORCH_CHECK(values.dim() == ndim + 2 && displacement.dim() == ndim + 2,
                    "image and displacement must have as many spatial axes");
    STD_TORCH_CHECK(is_floating(displacement), "displacement must be floating point");
    STD_TORCH_CHECK(displacement.size(0) == values.size(0) && displacement.size(1) == ndim,
                    "displacement must be [", values.size(0), ", ", ndim, ", *space]");
    p.ndim = ndim;
    p.batch = values.size(0);
    p.channels = values.size(1);
    p.padding = parse_warp_padding(padding);
    p.displacement = displacement_.data_ptr();
    for (int axis = 0; axis < 3; ++axis) {
      const int i = axis - 3 + ndim;
      if (i >= 0) {
        p.size[axis] = size[i];
        p.out[axis] = displacement.size(2 + i);
      }
      STD_TORCH_CHECK(p.size[axis] > 0 && p.out[axis] > 0, "spatial axes must not be empty");
      STD_TORCH_CHECK(p.size[axis] < kWarpFar / 2 && p.out[axis] < kWarpFar / 2,
                      "spatial axes must be shorter than 2^29");
      place(axis, normalized);
    }
  }

  WarpProblem problem;

 private:
  void place(int axis, bool normalized) {
    WarpProblem& p = problem;
    const int64_t size = p.size[axis], out = p.out[axis];
    double step = 1;
    if (normalized) {
      step = out > 1 ? static_cast<double>(size - 1) / static_cast<double>(out - 1) : 0.0;
      p.scale[axis] = static_cast<double>(size - 1) / 2;
    }
    const bool wide = compute_type_of(displacement_) == ScalarType::Double;
    auto& bytes = places_[axis];
    const size_t item = wide ? 8 : 4;
    bytes.reset(new double[static_cast<size_t>(2 * out) * item / 8 + 1]);
    auto* start = reinterpret_cast<std::byte*>(bytes.get());
    for (int64_t x = 0; x < out; ++x) {
      const double at = static_cast<double>(x) * step, whole = std::floor(at);
      if (wide) {
        reinterpret_cast<int64_t*>(start)[x] = static_cast<int64_t>(whole);
        reinterpret_cast<double*>(start)[out + x] = at - whole;
      } else {
        reinterpret_cast<int32_t*>(start)[x] = static_cast<int32_t>(whole);
        reinterpret_cast<float*>(start)[out + x] = static_cast<float>(at - whole);
      }
    }
    p.whole[axis] = start;
    p.part[axis] = start + static_cast<size_t>(out) * item;
  }

  Tensor displacement_;
  std::unique_ptr<double[]> places_[3];
};

inline std::vector<int64_t> space_of(const Tensor& t) {
  std::vector<int64_t> size;
  for (int64_t i = 2; i < t.dim(); ++i) size.push_back(t.size(i));
  return size;
}

inline std::vector<int64_t> with_lead(int64_t batch, int64_t channels,
                                      const std::vector<int64_t>& space) {
  std::vector<int64_t> size{batch, channels};
  size.insert(size.end(), space.begin(), space.end());
  return size;
}

// One call on the CPU: groups of channels, one after another, each spread over the threads.
class WarpCall {
 public:
  WarpCall(const WarpGeometry& geometry, WarpMode mode, const Tensor& values)
      : p_(geometry.problem), storage_(static_cast<int64_t>(values.element_size())) {
    const FloatType type = float_type_of(values, "image");
    const bool wide = type == FloatType::float64;
    compute_ = wide ? 8 : 4;
    for (const int width : kWarpWidths) {
      width_ = width;
      if (width >= p_.channels) break;
    }
    planar_ = width_ == 1 && storage_ == compute_;
    kernels_ = warp_kernels(mode, type, width_);
  }

  void forward(const void* image, void* out) {
    each_group([&](WarpGroup& g, int64_t channel) {
      g.grouped = grouped(g, at(image, channel * p_.voxels()));
      g.out = at(out, channel * p_.out_voxels());
      run_rows(g, kernels_.forward);
    });
  }

  // out: [batch, ndim, *out] in the compute type.
  void slope(const void* grad, const void* image, void* out) {
    each_group([&](WarpGroup& g, int64_t channel) {
      g.grouped = grouped(g, at(image, channel * p_.voxels()));
      g.grad = at(grad, channel * p_.out_voxels());
      g.out = static_cast<std::byte*>(out) + g.sample * p_.ndim * p_.out_voxels() * compute_;
      run_rows(g, kernels_.slope);
    });
  }

  void transpose(const void* grad, void* out) {
    const int64_t size = p_.size[p_.slab_axis()];
    const int64_t threads = threads_.threads();
    const int64_t slabs = threads == 1 ? 1 : std::min<int64_t>(size, 2 * threads);
    std::vector<WarpRange> ranges(slabs > 1 ? static_cast<size_t>(p_.rows()) : 0);
    each_group([&](WarpGroup& g, int64_t channel) {
      void* planar = at(out, channel * p_.voxels());
      g.grad = at(grad, channel * p_.out_voxels());
      g.sums = planar_ ? planar : scratch();
      if (slabs > 1 && g.first) {
        threads_.run(p_.rows(), grain(p_.out[2]), [&](int64_t begin, int64_t end) {
          kernels_.ranges(p_, g.sample, ranges.data(), begin, end);
        });
      }
      threads_.run(slabs, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) add_slab(g, ranges, i, slabs, planar);
      });
    });
  }

 private:
  template <class Body>
  void each_group(const Body& body) {
    for (int64_t sample = 0; sample < p_.batch; ++sample) {
      for (int64_t first = 0; first < p_.channels; first += width_) {
        WarpGroup g;
        g.sample = sample;
        g.count = std::min<int64_t>(width_, p_.channels - first);
        g.first = first == 0;
        body(g, sample * p_.channels + first);
        threads_.check();
      }
    }
  }

  const void* at(const void* values, int64_t i) const {
    return static_cast<const std::byte*>(values) + i * storage_;
  }
  void* at(void* values, int64_t i) const { return static_cast<std::byte*>(values) + i * storage_; }

  void* scratch() {
    if (!scratch_) {
      scratch_.reset(new std::byte[static_cast<size_t>(p_.voxels() * width_ * compute_ + 64)]);
    }
    const auto address = reinterpret_cast<uintptr_t>(scratch_.get());
    return scratch_.get() + (64 - address % 64) % 64;
  }

  const void* grouped(const WarpGroup& g, const void* planar) {
    if (planar_) return planar;
    void* to = scratch();
    threads_.run(p_.voxels(), grain(width_), [&](int64_t begin, int64_t end) {
      kernels_.group(planar, p_.voxels(), g.count, to, begin, end);
    });
    return to;
  }

  template <class Kernel>
  void run_rows(const WarpGroup& g, Kernel kernel) {
    threads_.run(p_.rows(), grain(p_.out[2] * width_),
                 [&](int64_t begin, int64_t end) { kernel(p_, g, begin, end); });
  }

  void add_slab(const WarpGroup& g, const std::vector<WarpRange>& ranges, int64_t i, int64_t slabs,
                void* planar) {
    const int axis = p_.slab_axis();
    const int64_t size = p_.size[axis], plane = p_.voxels() / size;
    const WarpRange slab{size * i / slabs, size * (i + 1) / slabs};
    kernels_.transpose(p_, g, ranges.empty() ? nullptr : ranges.data(), slab);
    if (planar_) return;
    kernels_.ungroup(g.sums, p_.voxels(), g.count, planar, slab.low * plane, slab.high * plane);
  }

  static int64_t grain(int64_t per_unit) {
    return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, per_unit));
  }

  const WarpProblem& p_;
  int64_t storage_, compute_ = 4;
  int width_ = 1;
  bool planar_ = true;
  WarpKernels kernels_{};
  std::unique_ptr<std::byte[]> scratch_;
  TorchThreads threads_;
};

inline void copy_nearest(const WarpProblem& p, const Tensor& image, const Tensor& out) {
  uint64_t nan[] = {0x7e00, 0x7fc0, 0x7fc00000, 0x7ff8000000000000};
  WarpCopy copy{image.data_ptr(), out.data_ptr(), 0};
  const bool wide = image.scalar_type() == ScalarType::Double;
  if (is_floating(image)) copy.lost = nan[static_cast<int>(float_type_of(image, "image"))];
  const auto kernel = warp_copy_kernel(static_cast<int>(image.element_size()), wide);
  const TorchThreads threads;
  const int64_t per_row = std::max<int64_t>(1, p.out[2] * p.channels);
  for (int64_t sample = 0; sample < p.batch; ++sample) {
    threads.run(p.rows(), std::max<int64_t>(1, 16384 / per_row),
                [&](int64_t begin, int64_t end) { kernel(p, copy, sample, begin, end); });
  }
}

inline Tensor warp_cpu(const Tensor& image, const Tensor& displacement, const std::string& mode,
                       const std::string& padding, bool normalized) {
  const WarpMode how = parse_warp_mode(mode);
  const ScalarType type = image.scalar_type();
  const bool labels = type == ScalarType::Byte || type == ScalarType::Short ||
                      type == ScalarType::Int || type == ScalarType::Long;
  STD_TORCH_CHECK(is_floating(image) || (labels && how == WarpMode::nearest),
                  "image must be floating point, or integers with mode nearest");
  WarpGeometry geometry(image, space_of(image), displacement, padding, normalized);
  const Tensor x = torch::stable::contiguous(image);
  const Tensor out =
      empty_packed(image, with_lead(image.size(0), image.size(1), space_of(displacement)), type);
  if (how == WarpMode::nearest) {
    copy_nearest(geometry.problem, x, out);
  } else {
    WarpCall(geometry, how, x).forward(x.data_ptr(), out.data_ptr());
  }
  return out;
}

inline Tensor compose_cpu(const Tensor& u, const Tensor& v, const std::string& padding) {
  STD_TORCH_CHECK(u.scalar_type() == v.scalar_type(), "u and v must have one dtype");
  STD_TORCH_CHECK(u.dim() == v.dim() && u.size(1) == u.dim() - 2 && space_of(u) == space_of(v),
                  "u and v must be fields of one shape");
  WarpGeometry geometry(u, space_of(u), v, padding, false);
  geometry.problem.add_displacement = true;
  const Tensor x = torch::stable::contiguous(u);
  const Tensor out = empty_packed(u, with_lead(u.size(0), u.size(1), space_of(u)), u.scalar_type());
  WarpCall(geometry, WarpMode::linear, x).forward(x.data_ptr(), out.data_ptr());
  return out;
}

inline Tensor warp_transpose_cpu(const Tensor& grad, const Tensor& displacement,
                                 const std::vector<int64_t>& size, const std::string& mode,
                                 const std::string& padding, bool normalized) {
  STD_TORCH_CHECK(is_floating(grad), "grad must be floating point");
  WarpGeometry geometry(grad, size, displacement, padding, normalized);
  STD_TORCH_CHECK(space_of(grad) == space_of(displacement), "grad must have displacement's space");
  const Tensor g = torch::stable::contiguous(grad);
  const Tensor out =
      empty_packed(grad, with_lead(grad.size(0), grad.size(1), size), grad.scalar_type());
  WarpCall(geometry, parse_warp_mode(mode), g).transpose(g.data_ptr(), out.data_ptr());
  return out;
}

inline Tensor warp_slope_cpu(const Tensor& grad, const Tensor& image, const Tensor& displacement,
                             const std::string& mode, const std::string& padding, bool normalized) {
  STD_TORCH_CHECK(is_floating(image) && grad.scalar_type() == image.scalar_type(),
                  "grad and image must have one floating dtype");
  WarpGeometry geometry(image, space_of(image), displacement, padding, normalized);
  STD_TORCH_CHECK(grad.dim() == image.dim() && grad.size(0) == image.size(0) &&
                      grad.size(1) == image.size(1) && space_of(grad) == space_of(displacement),
                  "grad must be [B, C, *out]");
  const WarpMode how = parse_warp_mode(mode);
  const std::vector<int64_t> shape =
      with_lead(image.size(0), displacement.size(1), space_of(displacement));
  const ScalarType type = compute_type_of(image);
  Tensor out = empty_packed(image, shape, type);
  if (how == WarpMode::nearest || image.size(1) == 0) {
    torch::stable::zero_(out);
  } else {
    const Tensor g = torch::stable::contiguous(grad), x = torch::stable::contiguous(image);
    WarpCall(geometry, how, x).slope(g.data_ptr(), x.data_ptr(), out.data_ptr());
  }
  return packed_as(out, displacement.scalar_type());
}

}  // namespace medkern
