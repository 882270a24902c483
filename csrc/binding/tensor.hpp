// What every torch binding needs: allocation with given strides, threads, clear errors.
//
// The library uses the LibTorch stable ABI only, so that one binary serves every torch >= 2.11.
// Users reach these kernels through medkern.<op>, which checks arguments and explains itself; the
// checks here keep a direct torch.ops call from touching memory it must not.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/common/float_type.hpp"

// The name of this check before torch 2.12.
#if !defined(STABLE_TORCH_ERROR_CODE_CHECK)
#define STABLE_TORCH_ERROR_CODE_CHECK TORCH_ERROR_CODE_CHECK
#endif

namespace medkern {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using MaybeTensor = std::optional<Tensor>;

// aten::<name>(arguments...) -> Tensor
template <class... Arguments>
Tensor call_aten(const char* name, const Arguments&... arguments) {
  std::array<StableIValue, sizeof...(Arguments)> stack{torch::stable::detail::from(arguments)...};
  STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher(name, "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

inline Tensor empty_strided(const Tensor& like, const std::vector<int64_t>& size,
                            const std::vector<int64_t>& stride, ScalarType dtype) {
  using torch::stable::detail::from;
  std::array<StableIValue, 7> stack{from(like),
                                    from(size),
                                    from(stride),
                                    from(std::optional<ScalarType>(dtype)),
                                    from(std::optional<int64_t>()),
                                    from(std::optional<torch::stable::Device>()),
                                    from(std::optional<bool>())};
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::new_empty_strided", "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

inline std::vector<int64_t> packed_strides(const std::vector<int64_t>& size) {
  std::vector<int64_t> stride(size.size());
  int64_t step = 1;
  for (size_t axis = size.size(); axis-- > 0;) {
    stride[axis] = step;
    step *= std::max<int64_t>(size[axis], 1);
  }
  return stride;
}

inline Tensor empty_packed(const Tensor& like, const std::vector<int64_t>& size, ScalarType dtype) {
  return empty_strided(like, size, packed_strides(size), dtype);
}

inline std::vector<int64_t> sizes_of(const Tensor& t) {
  std::vector<int64_t> size;
  for (int64_t axis = 0; axis < t.dim(); ++axis) size.push_back(t.size(axis));
  return size;
}

// t itself where it has this dtype, else a packed copy.
inline Tensor as_dtype(const Tensor& t, ScalarType dtype) {
  if (t.scalar_type() == dtype) return t;
  Tensor copy = empty_packed(t, sizes_of(t), dtype);
  return torch::stable::copy_(copy, t);
}

inline FloatType float_type_of(ScalarType dtype, const char* name) {
  switch (dtype) {
    case ScalarType::Half:
      return FloatType::float16;
    case ScalarType::BFloat16:
      return FloatType::bfloat16;
    case ScalarType::Double:
      return FloatType::float64;
    default:
      STD_TORCH_CHECK(dtype == ScalarType::Float, name, " must be floating point");
      return FloatType::float32;
  }
}

inline FloatType float_type_of(const Tensor& t, const char* name) {
  return float_type_of(t.scalar_type(), name);
}

// The floating dtype that both can be converted to.
inline ScalarType wider(ScalarType a, ScalarType b) {
  if (a == b) return a;
  return a == ScalarType::Double || b == ScalarType::Double ? ScalarType::Double
                                                            : ScalarType::Float;
}

// What a tensor of floating dtype is computed in.
inline ScalarType compute_type_of(const Tensor& t) {
  return t.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// Runs body(begin, end) over [0, units) on torch's threads, at least `kGrain` elements each.
template <class Body>
void parallel_units(int64_t units, int64_t elements_per_unit, const Body& body) {
  constexpr int64_t kGrain = 32768;
  const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, elements_per_unit));
  torch::stable::parallel_for(0, units, grain, body);
}

}  // namespace medkern
