// How functions are emitted.
//
// Functions shared by files compiled for different instruction sets must leave no out-of-line copy
// under one name: the linker would keep one copy for all, perhaps one with AVX-512 instructions.
// So they are always inlined, or members of templates in namespace MEDKERN_ISA.
#pragma once

#if defined(__CUDACC__)
#define MEDKERN_INLINE __host__ __device__ __forceinline__
#define MEDKERN_OUT_OF_LINE __host__ __device__
#define MEDKERN_DEVICE_INLINE __device__ __forceinline__
#define MEDKERN_UNROLL _Pragma("unroll")
#define MEDKERN_UNROLL_BY(count) MEDKERN_PRAGMA(unroll(count))
#define MEDKERN_PRAGMA(text) _Pragma(#text)
#else
#define MEDKERN_INLINE inline __attribute__((always_inline))
#define MEDKERN_OUT_OF_LINE [[gnu::noinline]]
#define MEDKERN_DEVICE_INLINE inline
#define MEDKERN_UNROLL
#define MEDKERN_UNROLL_BY(count)
#endif
