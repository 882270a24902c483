// The warp ops on tensors, for any device: checks and allocation. A Backend computes, on contiguous
// tensors but for the displacement:
//   forward(p, mode, image, displacement, out)          mode linear or cubic
//   copy(p, lost, image, displacement, out)             mode nearest; `lost`: WarpCopy
//   transpose(p, mode, grad, displacement, out)
//   slope(p, mode, grad, image, displacement) -> Tensor
#pragma once

#include <string>
#include <vector>

#include "core/warp.hpp"
#include "tensor.hpp"

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

inline WarpProblem warp_problem(const Tensor& values, const std::vector<int64_t>& size,
                                const Tensor& displacement, const std::string& padding,
                                bool normalized) {
  WarpProblem p;
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
  for (int axis = 0; axis < 3; ++axis) {
    const int i = axis - 3 + ndim;
    if (i >= 0) {
      p.size[axis] = size[i];
      p.out[axis] = displacement.size(2 + i);
    }
    STD_TORCH_CHECK(p.size[axis] > 0 && p.out[axis] > 0, "spatial axes must not be empty");
    STD_TORCH_CHECK(p.size[axis] < kWarpFar / 2 && p.out[axis] < kWarpFar / 2,
                    "spatial axes must be shorter than 2^29");
    if (!normalized) continue;
    const auto last = static_cast<double>(p.size[axis] - 1);
    p.step[axis] = p.out[axis] > 1 ? last / static_cast<double>(p.out[axis] - 1) : 0.0;
    p.scale[axis] = last / 2;
  }
  return p;
}

// The bits of a NaN of the image's type, 0 for integers.
inline uint64_t warp_lost(const Tensor& image) {
  constexpr uint64_t nan[] = {0x7e00, 0x7fc0, 0x7fc00000, 0x7ff8000000000000};
  return is_floating(image) ? nan[static_cast<int>(float_type_of(image, "image"))] : 0;
}

template <class Backend>
struct WarpOps {
  static Tensor warp(const Tensor& image, const Tensor& displacement, const std::string& mode,
                     const std::string& padding, bool normalized) {
    const WarpMode how = parse_warp_mode(mode);
    const ScalarType type = image.scalar_type();
    const bool labels = type == ScalarType::Byte || type == ScalarType::Short ||
                        type == ScalarType::Int || type == ScalarType::Long;
    STD_TORCH_CHECK(is_floating(image) || (labels && how == WarpMode::nearest),
                    "image must be floating point, or integers with mode nearest");
    const WarpProblem p = warp_problem(image, space_of(image), displacement, padding, normalized);
    const Tensor x = torch::stable::contiguous(image);
    const Tensor out =
        empty_packed(image, with_lead(p.batch, p.channels, space_of(displacement)), type);
    if (how == WarpMode::nearest) {
      Backend::copy(p, warp_lost(image), x, displacement, out);
    } else {
      Backend::forward(p, how, x, displacement, out);
    }
    return out;
  }

  static Tensor compose(const Tensor& u, const Tensor& v, const std::string& padding) {
    STD_TORCH_CHECK(u.scalar_type() == v.scalar_type(), "u and v must have one dtype");
    STD_TORCH_CHECK(u.dim() == v.dim() && u.size(1) == u.dim() - 2 && space_of(u) == space_of(v),
                    "u and v must be fields of one shape");
    WarpProblem p = warp_problem(u, space_of(u), v, padding, false);
    p.add_displacement = true;
    const Tensor out =
        empty_packed(u, with_lead(p.batch, p.channels, space_of(u)), u.scalar_type());
    Backend::forward(p, WarpMode::linear, torch::stable::contiguous(u), v, out);
    return out;
  }

  static Tensor transpose(const Tensor& grad, const Tensor& displacement,
                          const std::vector<int64_t>& size, const std::string& mode,
                          const std::string& padding, bool normalized) {
    STD_TORCH_CHECK(is_floating(grad), "grad must be floating point");
    const WarpProblem p = warp_problem(grad, size, displacement, padding, normalized);
    STD_TORCH_CHECK(space_of(grad) == space_of(displacement),
                    "grad must have displacement's space");
    const Tensor out = empty_packed(grad, with_lead(p.batch, p.channels, size), grad.scalar_type());
    Backend::transpose(p, parse_warp_mode(mode), torch::stable::contiguous(grad), displacement,
                       out);
    return out;
  }

  static Tensor slope(const Tensor& grad, const Tensor& image, const Tensor& displacement,
                      const std::string& mode, const std::string& padding, bool normalized) {
    STD_TORCH_CHECK(is_floating(image) && grad.scalar_type() == image.scalar_type(),
                    "grad and image must have one floating dtype");
    const WarpProblem p = warp_problem(image, space_of(image), displacement, padding, normalized);
    STD_TORCH_CHECK(grad.dim() == image.dim() && grad.size(0) == image.size(0) &&
                        grad.size(1) == image.size(1) && space_of(grad) == space_of(displacement),
                    "grad must be [B, C, *out]");
    const WarpMode how = parse_warp_mode(mode);
    if (how == WarpMode::nearest || p.channels == 0) {
      Tensor none = empty_packed(displacement, with_lead(p.batch, p.ndim, space_of(displacement)),
                                 displacement.scalar_type());
      return torch::stable::zero_(none);
    }
    return Backend::slope(p, how, torch::stable::contiguous(grad), torch::stable::contiguous(image),
                          displacement);
  }

  template <class Library>
  static void register_in(Library& m) {
    m.impl("warp", TORCH_BOX(&warp));
    m.impl("_warp_transpose", TORCH_BOX(&transpose));
    m.impl("_warp_slope", TORCH_BOX(&slope));
    m.impl("compose", TORCH_BOX(&compose));
  }
};

}  // namespace medkern
