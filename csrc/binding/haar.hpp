// The Haar ops on tensors, for any device: checks, layouts and allocation. A Backend runs the
// kernel:
//   static void run(const HaarProblem&, HaarMode, bool adjoint, HaarDType, int ndim, const Tensor&
//   out)
#pragma once

#include <string>
#include <vector>

#include "core/haar.hpp"
#include "tensor.hpp"

namespace medkern {

inline Pad parse_pad(const std::string& pad) {
  if (pad == "zero") return Pad::zero;
  if (pad == "replicate" || pad == "symmetric") return Pad::replicate;
  if (pad == "reflect") return Pad::reflect;
  STD_TORCH_CHECK(pad == "periodic",
                  "pad must be zero, replicate, symmetric, reflect or periodic, got ", pad);
  return Pad::periodic;
}

inline HaarMode parse_pool_mode(const std::string& mode) {
  if (mode == "ll") return HaarMode::ll;
  if (mode == "iewa") return HaarMode::iewa;
  if (mode == "all") return HaarMode::all;
  STD_TORCH_CHECK(mode == "bands", "mode must be ll, iewa, all or bands, got ", mode);
  return HaarMode::dwt;
}

inline HaarDType float_dtype(const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Half:
      return HaarDType::float16;
    case ScalarType::BFloat16:
      return HaarDType::bfloat16;
    case ScalarType::Double:
      return HaarDType::float64;
    default:
      STD_TORCH_CHECK(t.scalar_type() == ScalarType::Float, "input must be floating point");
      return HaarDType::float32;
  }
}

// Where the channel, band and spatial axes of a tensor are.
struct Axes {
  int ndim;
  int first_space;
};

inline Axes axes_of(const Tensor& t, int64_t ndim, bool has_band) {
  STD_TORCH_CHECK(ndim >= 1 && ndim <= 3, "ndim must be 1, 2 or 3, got ", ndim);
  const int first = has_band ? 3 : 2;
  STD_TORCH_CHECK(t.dim() == first + ndim, "input must have ", first + ndim, " axes, got ",
                  t.dim());
  return {static_cast<int>(ndim), first};
}

// Lanes run along the channels where those are the contiguous axis, else along W.
inline bool is_channels_last(const Tensor& t) {
  return t.size(1) > 1 && t.stride(1) == 1 && t.stride(t.dim() - 1) != 1;
}

inline HaarView view_of(const Tensor& t, Axes axes) {
  HaarView view;
  view.data = t.data_ptr();
  view.batch = t.stride(0);
  view.channel = t.stride(1);
  if (axes.first_space == 3) view.band = t.stride(2);
  for (int i = 0; i < axes.ndim; ++i) {
    view.space[3 - axes.ndim + i] = t.stride(axes.first_space + i);
  }
  return view;
}

inline void set_extents(HaarProblem& p, int64_t batch, int64_t channels,
                        const std::vector<int64_t>& size) {
  p.batch = batch;
  p.channels = channels;
  const int ndim = static_cast<int>(size.size());
  for (int i = 0; i < ndim; ++i) {
    STD_TORCH_CHECK(size[i] > 0, "spatial axes must not be empty");
    p.size[3 - ndim + i] = size[i];
    p.half[3 - ndim + i] = size[i] / 2 + size[i] % 2;
  }
}

inline std::vector<int64_t> spatial_size(const Tensor& t, Axes axes) {
  std::vector<int64_t> size;
  for (int i = 0; i < axes.ndim; ++i) size.push_back(t.size(axes.first_space + i));
  return size;
}

inline std::vector<int64_t> half_size(const std::vector<int64_t>& size) {
  std::vector<int64_t> half;
  for (int64_t n : size) half.push_back(n / 2 + n % 2);
  return half;
}

inline void check_half(const Tensor& y, Axes axes, const std::vector<int64_t>& size) {
  STD_TORCH_CHECK(static_cast<int>(size.size()) == axes.ndim, "size must have ", axes.ndim,
                  " entries, got ", size.size());
  STD_TORCH_CHECK(spatial_size(y, axes) == half_size(size),
                  "size must be 2n or 2n-1 for each coarse extent n");
}

// [batch, channels, *space] contiguous, or with the channels innermost.
inline Tensor allocate(const Tensor& like, int64_t batch, int64_t channels,
                       std::vector<int64_t> space, bool channels_last, ScalarType dtype) {
  std::vector<int64_t> size{batch, channels};
  size.insert(size.end(), space.begin(), space.end());
  std::vector<int64_t> stride(size.size());
  int64_t step = channels_last ? std::max<int64_t>(channels, 1) : 1;
  for (size_t i = size.size() - 1; i >= 2; --i) {
    stride[i] = step;
    step *= std::max<int64_t>(size[i], 1);
  }
  stride[1] = channels_last ? 1 : step;
  stride[0] = channels_last ? step : step * std::max<int64_t>(channels, 1);
  return empty_strided(like, size, stride, dtype);
}

// [batch, channels, bands, *space]; channels-last keeps the channels of one band together.
inline Tensor allocate_bands(const Tensor& like, int64_t batch, int64_t channels, int64_t bands,
                             const std::vector<int64_t>& space, bool channels_last,
                             ScalarType dtype) {
  std::vector<int64_t> size{batch, channels, bands};
  size.insert(size.end(), space.begin(), space.end());
  std::vector<int64_t> stride(size.size());
  int64_t step = channels_last ? std::max<int64_t>(channels, 1) * bands : 1;
  for (size_t i = size.size() - 1; i >= 3; --i) {
    stride[i] = step;
    step *= std::max<int64_t>(size[i], 1);
  }
  stride[2] = channels_last ? std::max<int64_t>(channels, 1) : step;
  stride[1] = channels_last ? 1 : step * bands;
  stride[0] = channels_last ? step : step * bands * std::max<int64_t>(channels, 1);
  return empty_strided(like, size, stride, dtype);
}

// t itself where its lanes are contiguous, else a copy in that layout.
inline Tensor with_contiguous_lanes(const Tensor& t, Axes axes, bool channels_last) {
  if (!channels_last) return t.stride(t.dim() - 1) == 1 ? t : torch::stable::contiguous(t);
  if (t.stride(1) == 1) return t;
  Tensor copy = allocate(t, t.size(0), t.size(1), spatial_size(t, axes), true, t.scalar_type());
  return torch::stable::copy_(copy, t);
}

// Pooled maps stack the outputs of a mode along the channels: [batch, outputs * channels, *half].
inline HaarView stacked_view(const Tensor& t, Axes axes, int64_t channels) {
  HaarView view = view_of(t, axes);
  view.band = channels * view.channel;
  return view;
}

inline void check_same(const Tensor& a, const Tensor& b) {
  STD_TORCH_CHECK(a.scalar_type() == b.scalar_type(), "x and keys must have one dtype");
  STD_TORCH_CHECK(a.dim() == b.dim(), "x and keys must have one shape");
  for (int64_t i = 0; i < a.dim(); ++i) {
    STD_TORCH_CHECK(a.size(i) == b.size(i), "x and keys must have one shape");
  }
}

template <class Backend>
struct HaarOps {
  static Tensor analyse(const Tensor& input, int64_t ndim, const std::string& pad, HaarMode mode,
                        HaarDType dtype, ScalarType out) {
    const Axes axes = axes_of(input, ndim, false);
    HaarProblem p;
    p.channels_last = is_channels_last(input);
    const Tensor x = with_contiguous_lanes(input, axes, p.channels_last);
    const auto size = spatial_size(x, axes);
    set_extents(p, x.size(0), x.size(1), size);
    p.pad = parse_pad(pad);
    const Tensor y = allocate_bands(x, p.batch, p.channels, haar_outputs(mode, axes.ndim),
                                    half_size(size), p.channels_last, out);
    p.x = view_of(x, axes);
    p.y = view_of(y, {axes.ndim, 3});
    run(p, y, mode, false, dtype, axes.ndim);
    return y;
  }

  static Tensor synthesise(const Tensor& input, const std::vector<int64_t>& size,
                           const std::string& pad, HaarMode mode, HaarDType dtype, ScalarType out) {
    const Axes axes = axes_of(input, static_cast<int64_t>(size.size()), true);
    check_half(input, axes, size);
    STD_TORCH_CHECK(input.size(2) == haar_outputs(mode, axes.ndim), "bands must have ",
                    haar_outputs(mode, axes.ndim), " bands, got ", input.size(2));
    HaarProblem p;
    p.channels_last = is_channels_last(input);
    const Tensor y = with_contiguous_lanes(input, axes, p.channels_last);
    set_extents(p, y.size(0), y.size(1), size);
    p.pad = parse_pad(pad);
    const Tensor x = allocate(y, p.batch, p.channels, size, p.channels_last, out);
    p.x = view_of(x, {axes.ndim, 2});
    p.y = view_of(y, axes);
    run(p, x, mode, true, dtype, axes.ndim);
    return x;
  }

  static Tensor dwt(const Tensor& x, int64_t ndim, const std::string& pad) {
    return analyse(x, ndim, pad, HaarMode::dwt, float_dtype(x), x.scalar_type());
  }

  static Tensor idwt(const Tensor& bands, const std::vector<int64_t>& size,
                     const std::string& pad) {
    return synthesise(bands, size, pad, HaarMode::dwt, float_dtype(bands), bands.scalar_type());
  }

  static Tensor lift(const Tensor& x, int64_t ndim, const std::string& pad) {
    const bool bytes = x.scalar_type() == ScalarType::Byte;
    STD_TORCH_CHECK(bytes || x.scalar_type() == ScalarType::Short, "x must be uint8 or int16");
    return analyse(x, ndim, pad, HaarMode::lift, bytes ? HaarDType::uint8 : HaarDType::int16,
                   bytes ? ScalarType::Short : ScalarType::Int);
  }

  static Tensor unlift(const Tensor& bands, const std::vector<int64_t>& size) {
    const bool bytes = bands.scalar_type() == ScalarType::Short;
    STD_TORCH_CHECK(bytes || bands.scalar_type() == ScalarType::Int,
                    "bands must be int16 or int32");
    return synthesise(bands, size, "zero", HaarMode::lift,
                      bytes ? HaarDType::uint8 : HaarDType::int16,
                      bytes ? ScalarType::Byte : ScalarType::Short);
  }

  static Tensor pool(const Tensor& input, const Tensor* choose, int64_t ndim,
                     const std::string& pad, HaarMode mode) {
    const Axes axes = axes_of(input, ndim, false);
    HaarProblem p;
    p.channels_last = is_channels_last(choose ? *choose : input);
    const Tensor x = with_contiguous_lanes(input, axes, p.channels_last);
    const auto size = spatial_size(x, axes);
    set_extents(p, x.size(0), x.size(1), size);
    p.pad = parse_pad(pad);
    const Tensor y = allocate(x, p.batch, haar_outputs(mode, axes.ndim) * p.channels,
                              half_size(size), p.channels_last, x.scalar_type());
    p.x = view_of(x, axes);
    p.y = stacked_view(y, axes, p.channels);
    const Tensor keys = choose ? with_contiguous_lanes(*choose, axes, p.channels_last) : x;
    p.keys = view_of(keys, axes);
    run(p, y, mode, false, float_dtype(x), axes.ndim);
    return y;
  }

  static Tensor pool_backward(const Tensor& grad, const Tensor* choose,
                              const std::vector<int64_t>& size, const std::string& pad,
                              HaarMode mode) {
    const Axes axes = axes_of(grad, static_cast<int64_t>(size.size()), false);
    check_half(grad, axes, size);
    const int64_t outputs = haar_outputs(mode, axes.ndim);
    STD_TORCH_CHECK(grad.size(1) % outputs == 0, "grad must have a multiple of ", outputs,
                    " channels, got ", grad.size(1));
    HaarProblem p;
    p.channels_last = is_channels_last(choose ? *choose : grad);
    const Tensor y = with_contiguous_lanes(grad, axes, p.channels_last);
    set_extents(p, y.size(0), y.size(1) / outputs, size);
    p.pad = parse_pad(pad);
    const Tensor x = allocate(y, p.batch, p.channels, size, p.channels_last, y.scalar_type());
    p.x = view_of(x, axes);
    p.y = stacked_view(y, axes, p.channels);
    const Tensor keys = choose ? with_contiguous_lanes(*choose, axes, p.channels_last) : x;
    p.keys = view_of(keys, axes);
    run(p, x, mode, true, float_dtype(y), axes.ndim);
    return x;
  }

  static Tensor pool_map(const Tensor& x, const std::string& mode, int64_t ndim,
                         const std::string& pad) {
    return pool(x, nullptr, ndim, pad, parse_pool_mode(mode));
  }

  static Tensor pool_map_backward(const Tensor& grad, const std::vector<int64_t>& size,
                                  const std::string& mode, const std::string& pad) {
    return pool_backward(grad, nullptr, size, pad, parse_pool_mode(mode));
  }

  static Tensor max_concat(const Tensor& x, const Tensor& keys, int64_t ndim,
                           const std::string& pad) {
    check_same(x, keys);
    return pool(x, &keys, ndim, pad, HaarMode::max_concat);
  }

  static Tensor max_concat_backward(const Tensor& grad, const Tensor& keys, int64_t ndim,
                                    const std::string& pad) {
    const Axes axes = axes_of(keys, ndim, false);
    STD_TORCH_CHECK(grad.scalar_type() == keys.scalar_type(), "grad and keys must have one dtype");
    STD_TORCH_CHECK(grad.dim() == keys.dim() && grad.size(0) == keys.size(0) &&
                        grad.size(1) == 2 * keys.size(1),
                    "grad must be [B, 2C, *half] for keys [B, C, *size]");
    return pool_backward(grad, &keys, spatial_size(keys, axes), pad, HaarMode::max_concat);
  }

 private:
  static void run(HaarProblem& p, const Tensor& out, HaarMode mode, bool adjoint, HaarDType dtype,
                  int ndim) {
    if (haar_units(p) > 0 && p.channels > 0) Backend::run(p, mode, adjoint, dtype, ndim, out);
  }
};

// Registers the ops under the names of the Python schemas, on a library of one dispatch key.
#define MEDKERN_REGISTER_HAAR(m, Backend)                                         \
  m.impl("haar_dwt", TORCH_BOX(&HaarOps<Backend>::dwt));                          \
  m.impl("haar_idwt", TORCH_BOX(&HaarOps<Backend>::idwt));                        \
  m.impl("_haar_lift", TORCH_BOX(&HaarOps<Backend>::lift));                       \
  m.impl("_haar_unlift", TORCH_BOX(&HaarOps<Backend>::unlift));                   \
  m.impl("haar_pool", TORCH_BOX(&HaarOps<Backend>::pool_map));                    \
  m.impl("_haar_pool_backward", TORCH_BOX(&HaarOps<Backend>::pool_map_backward)); \
  m.impl("_haar_max_concat", TORCH_BOX(&HaarOps<Backend>::max_concat));           \
  m.impl("_haar_max_concat_backward", TORCH_BOX(&HaarOps<Backend>::max_concat_backward))

}  // namespace medkern
