// Tensors that device bindings allocate for themselves, and small ones moved between devices.
#pragma once

#include <cstring>

#include "binding/euclidean.hpp"
#include "core/grid.hpp"
#include "device.hpp"

namespace medkern {

// Uninitialised bytes on the device of `like`.
inline Tensor device_bytes(const Tensor& like, int64_t bytes) {
  return empty_strided(like, {bytes}, {1}, ScalarType::Byte);
}

// t itself where it is contiguous and of this dtype, else a copy that is.
inline Tensor contiguous_as(const Tensor& t, ScalarType dtype) {
  if (t.scalar_type() == dtype) return torch::stable::contiguous(t);
  Tensor copy = empty_of(t, dtype);
  return torch::stable::copy_(copy, t);
}

// Small tensors of numbers that the host has to see; waits for the device.
inline Tensor host_copy(const Tensor& t) {
  using torch::stable::detail::from;
  const torch::stable::Device cpu(torch::headeronly::DeviceType::CPU);
  std::array<StableIValue, 6> stack{from(t),
                                    from(std::optional<ScalarType>(t.scalar_type())),
                                    from(std::optional<int64_t>()),
                                    from(std::optional<torch::stable::Device>(cpu)),
                                    from(std::optional<bool>()),
                                    from(std::optional<int64_t>())};
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::empty_like", "", stack.data(), TORCH_ABI_VERSION));
  Tensor copy = torch::stable::detail::to<Tensor>(stack[0]);
  return torch::stable::copy_(copy, t);
}

// Rows of D, H, W per sample on the device of `like`, checked; see spacing_rows.
inline Tensor device_spacing(const Tensor& spacing, const Tensor& like, int64_t ndim) {
  const Tensor given = host_copy(spacing);
  const std::vector<double> rows = spacing_rows(given, like.size(0), ndim);
  const Tensor host = empty_strided(given, {like.size(0), 3}, {3, 1}, ScalarType::Double);
  if (!rows.empty()) std::memcpy(host.data_ptr(), rows.data(), rows.size() * sizeof(double));
  Tensor device = empty_strided(like, {like.size(0), 3}, {3, 1}, ScalarType::Double);
  return torch::stable::copy_(device, host);
}

inline Grid grid_of(const Tensor& t) {
  const int64_t ndim = t.dim() - 2;
  Grid grid;
  for (int64_t i = 0; i < ndim; ++i) grid.size[3 - ndim + i] = t.size(2 + i);
  return grid;
}

}  // namespace medkern
