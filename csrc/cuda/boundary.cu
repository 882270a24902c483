// Launching the boundary loss, and its choice by dtypes.
#include "boundary.cuh"
#include "boundary.hpp"

namespace medkern {

namespace MEDKERN_ISA {

using Type = BoundaryArrays::Type;

template <class S, class M>
struct BoundaryTypes {
  using Logit = S;
  using Map = M;
};

// Calls run(BoundaryTypes<S, M>) where the kernels know the pair: one type, or maps in float32.
template <class Run>
LaunchError for_boundary_types(const BoundaryArrays& a, Run run) {
  if (a.map_type != a.logit_type && a.map_type != Type::float32)
    return LaunchError("maps must be float32");
  const bool wide = a.map_type == Type::float32;
  switch (a.logit_type) {
    case Type::float16:
      return wide ? run(BoundaryTypes<Half, float>{}) : run(BoundaryTypes<Half, Half>{});
    case Type::bfloat16:
      return wide ? run(BoundaryTypes<BFloat16, float>{})
                  : run(BoundaryTypes<BFloat16, BFloat16>{});
    case Type::float32:
      return run(BoundaryTypes<float, float>{});
    default:
      return wide ? run(BoundaryTypes<double, float>{}) : run(BoundaryTypes<double, double>{});
  }
}

}  // namespace MEDKERN_ISA

LaunchError launch_boundary_forward(const BoundaryArrays& a, double* partial, double* sums,
                                    Stream stream) {
  using namespace MEDKERN_ISA;
  if (a.batch == 0) return {};
  const int64_t parts = boundary_parts(a.pixels);
  if (a.batch * parts > INT32_MAX) return LaunchError("the batch exceeds 2^31 blocks");
  const LaunchError error = for_boundary_types(a, [&](auto types) {
    using Types = decltype(types);
    MEDKERN_LAUNCH((boundary_fwd_parts_kernel<typename Types::Logit, typename Types::Map>),
                   static_cast<unsigned>(a.batch * parts), kThreads, 0, stream, a, parts, partial);
    return launch_error();
  });
  if (!error.ok()) return error;
  MEDKERN_LAUNCH(boundary_fwd_total_kernel, static_cast<unsigned>(a.batch), kThreads, 0, stream,
                 partial, parts, sums);
  return launch_error();
}

LaunchError launch_boundary_backward(const BoundaryArrays& a, const double* weights,
                                     void* grad_logits, void* grad_maps, Stream stream) {
  using namespace MEDKERN_ISA;
  const int64_t count = a.batch * a.pixels;
  if (count == 0) return {};
  return for_boundary_types(a, [&](auto types) {
    using S = typename decltype(types)::Logit;
    using M = typename decltype(types)::Map;
    MEDKERN_LAUNCH((boundary_bwd_kernel<S, M>), blocks_for(count), kThreads, 0, stream, a, weights,
                   static_cast<S*>(grad_logits), static_cast<M*>(grad_maps));
    return launch_error();
  });
}

}  // namespace medkern
