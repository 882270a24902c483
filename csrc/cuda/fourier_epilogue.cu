// Launching the epilogue of a Fourier layer, and its choice by dtype.
#include "for_float_type.cuh"
#include "fourier_epilogue.cuh"

namespace medkern {

namespace MEDKERN_ISA {

template <class S, class X>
unsigned product_blocks(const EpilogueProduct<S, X>& p) {
  return static_cast<unsigned>(std::min(p.units(), kMostBlocks));
}

template <class S>
EpilogueProduct<S, S> epilogue_product(const FourierEpilogue& p) {
  using C = Compute<S>;
  return {p.batch,
          p.inputs,
          p.outputs,
          p.pixels,
          p.x,
          p.k,
          p.residual ? p.x : EpilogueView{},
          static_cast<const C*>(p.weight),
          static_cast<const C*>(p.bias)};
}

// d_x = W^T d_k + grad
template <class S>
EpilogueProduct<S, Compute<S>> epilogue_adjoint(const FourierEpilogue& p, const Compute<S>* d_k) {
  return {p.batch,
          p.outputs,
          p.inputs,
          p.pixels,
          {d_k, p.outputs * p.pixels, p.pixels},
          p.residual ? p.grad : EpilogueView{},
          {},
          static_cast<const Compute<S>*>(p.transposed),
          nullptr};
}

inline size_t epilogue_partial_sums(const FourierEpilogue& p) {
  return static_cast<size_t>(epilogue_parts(p) * p.sums_of_chunk());
}

template <class S>
LaunchError epilogue_forward(const FourierEpilogue& p, Stream stream) {
  const auto product = epilogue_product<S>(p);
  MEDKERN_LAUNCH((fourier_epilogue_fwd_kernel<S, S>), product_blocks(product), kThreads, 0, stream,
                 product, p.gelu, static_cast<S*>(p.y));
  return launch_error();
}

template <class S>
LaunchError epilogue_slope(const FourierEpilogue& p, Compute<S>* wide, Stream stream) {
  const auto product = epilogue_product<S>(p);
  S* const d_k = static_cast<S*>(p.d_k);
  if (p.gelu) {
    MEDKERN_LAUNCH(fourier_epilogue_slope_bwd_kernel<S>, product_blocks(product), kThreads, 0,
                   stream, product, p.grad, d_k, wide);
  } else {
    MEDKERN_LAUNCH(fourier_epilogue_copy_bwd_kernel<S>, blocks_for(p.batch * p.outputs * p.pixels),
                   kThreads, 0, stream, p.grad, p.batch, p.outputs, p.pixels, d_k, wide);
  }
  return launch_error();
}

template <class S>
LaunchError epilogue_sums(const FourierEpilogue& p, const Compute<S>* d_k, double* partial,
                          Compute<S>* d_weight, Compute<S>* d_bias, Stream stream) {
  const int64_t parts = epilogue_parts(p), blocks = epilogue_weight_blocks(p) * parts;
  if (blocks > kMostBlocks) return LaunchError("the weights exceed 2^31 blocks");
  const EpilogueSums<S> sums{p.batch, p.inputs, p.outputs, p.pixels, parts, p.x, d_k};
  MEDKERN_LAUNCH(fourier_epilogue_parts_bwd_kernel<S>, static_cast<unsigned>(blocks), kThreads, 0,
                 stream, sums, partial);
  MEDKERN_LAUNCH(fourier_epilogue_total_bwd_kernel<Compute<S>>, blocks_for(p.sums_of_chunk()),
                 kThreads, 0, stream, partial, parts, p.outputs, p.inputs, d_weight, d_bias);
  return launch_error();
}

template <class S>
LaunchError epilogue_backward(const FourierEpilogue& p, void* workspace, Compute<S>* d_weight,
                              Compute<S>* d_bias, Stream stream) {
  using C = Compute<S>;
  double* const partial = static_cast<double*>(workspace);
  C* wide = nullptr;
  const C* d_k = nullptr;
  if constexpr (std::is_same_v<S, C>) {
    d_k = static_cast<const C*>(p.d_k);
  } else {
    wide = reinterpret_cast<C*>(partial + epilogue_partial_sums(p));
    d_k = wide;
  }
  if (const LaunchError e = epilogue_slope<S>(p, wide, stream); !e.ok()) return e;
  const auto adjoint = epilogue_adjoint<S>(p, d_k);
  MEDKERN_LAUNCH((fourier_epilogue_fwd_kernel<S, C>), product_blocks(adjoint), kThreads, 0, stream,
                 adjoint, false, static_cast<S*>(p.d_x));
  if (const LaunchError e = launch_error(); !e.ok()) return e;
  return epilogue_sums<S>(p, d_k, partial, d_weight, d_bias, stream);
}

}  // namespace MEDKERN_ISA

size_t epilogue_workspace(const FourierEpilogue& p) {
  const bool half = bytes_of(p.type) == 2;
  const int64_t wide = half ? p.batch * p.outputs * p.pixels : 0;
  return MEDKERN_ISA::epilogue_partial_sums(p) * sizeof(double) +
         static_cast<size_t>(wide) * sizeof(float);
}

LaunchError launch_epilogue_forward(const FourierEpilogue& p, Stream stream) {
  using namespace MEDKERN_ISA;
  return for_float_type(p.type, [&](auto s) { return epilogue_forward<decltype(s)>(p, stream); });
}

LaunchError launch_epilogue_backward(const FourierEpilogue& p, void* workspace, void* d_weight,
                                     void* d_bias, Stream stream) {
  using namespace MEDKERN_ISA;
  return for_float_type(p.type, [&](auto s) {
    using S = decltype(s);
    using C = Compute<S>;
    return epilogue_backward<S>(p, workspace, static_cast<C*>(d_weight), static_cast<C*>(d_bias),
                                stream);
  });
}

}  // namespace medkern
