// The one point where device code meets its compiler: nvcc, or the emulation on the CPU
// (csrc/emulation), which the tests use.
//
// Kernels are written once against CUDA's own names (threadIdx, __syncthreads, __shfl_down_sync,
// atomicAdd, ...) inside namespace medkern, and these:
//   MEDKERN_GLOBAL, MEDKERN_DEVICE, MEDKERN_HD   __global__, __device__, __host__ __device__
//   MEDKERN_LAUNCH_BOUNDS(threads[, blocks])     after MEDKERN_GLOBAL
//   MEDKERN_SHARED(T, name, count)               T name[count] in shared memory; T may be float[33]
//   MEDKERN_DYNAMIC_SHARED(T, name)              T* name: the launch's shared bytes
//   MEDKERN_LAUNCH(kernel, grid, block, shared_bytes, stream, arguments...)
//       a kernel with commas in its template arguments goes in parentheses
//   launch_error()                               what became of the launches so far
//   allow_dynamic_shared(kernel, bytes)          needed before a launch with more than 48 KB
//   load_vector, store_vector                    up to 16 bytes in one access, aligned to its size
//   load_relaxed, store_relaxed                  what other threads may write or read meanwhile
//   copy_async, copy_async_commit, copy_async_wait
//   clear_device, read_device                    on the host: zeros; a value, once it is there
// Under emulation errors of a kernel, and of its launch, are exceptions.
#pragma once

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#elif defined(MEDKERN_EMULATED)
#include "emulation/cuda.hpp"
#else
#error "device code: compile with nvcc, or define MEDKERN_EMULATED"
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/common/inline.hpp"
#include "launch.hpp"

namespace medkern {

// N values that travel together; aligned to their size.
template <class T, int N>
struct alignas(sizeof(T) * N) DeviceVector {
  static constexpr int bytes = static_cast<int>(sizeof(T)) * N;
  static_assert(bytes <= 16 && (bytes & (bytes - 1)) == 0, "1, 2, 4, 8 or 16 bytes");

  T lane[N];

#if defined(__CUDACC__)
  __host__ __device__ __forceinline__ T& operator[](int i) { return lane[i]; }
  __host__ __device__ __forceinline__ const T& operator[](int i) const { return lane[i]; }
#else
  T& operator[](int i) { return lane[i]; }
  const T& operator[](int i) const { return lane[i]; }
#endif
};

// Lets MEDKERN_SHARED take array types: SharedElement<float[33]> name[count].
template <class T>
using SharedElement = T;

}  // namespace medkern

#if defined(__CUDACC__)

#define MEDKERN_GLOBAL __global__
#define MEDKERN_DEVICE __device__
#define MEDKERN_HD __host__ __device__
#define MEDKERN_LAUNCH_BOUNDS(...) __launch_bounds__(__VA_ARGS__)

#define MEDKERN_SHARED(T, name, count) __shared__::medkern::SharedElement<T> name[count]
#define MEDKERN_DYNAMIC_SHARED(T, name)                                   \
  extern __shared__ __align__(16) unsigned char medkern_dynamic_shared[]; \
  T* const name = reinterpret_cast<T*>(medkern_dynamic_shared)
#define MEDKERN_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  kernel<<<grid, block, shared_bytes, stream>>>(__VA_ARGS__)

namespace medkern {

inline LaunchError as_launch_error(cudaError_t error) {
  return error == cudaSuccess ? LaunchError() : LaunchError(cudaGetErrorString(error));
}

inline LaunchError launch_error() { return as_launch_error(cudaGetLastError()); }

template <class Kernel>
LaunchError allow_dynamic_shared(Kernel kernel, size_t bytes) {
  return as_launch_error(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                              static_cast<int>(bytes)));
}

template <int Bytes>
struct RawVector;
template <>
struct RawVector<1> {
  using type = uint8_t;
};
template <>
struct RawVector<2> {
  using type = uint16_t;
};
template <>
struct RawVector<4> {
  using type = uint32_t;
};
template <>
struct RawVector<8> {
  using type = uint2;
};
template <>
struct RawVector<16> {
  using type = uint4;
};

template <class T, int N>
__device__ __forceinline__ DeviceVector<T, N> load_vector(const T* source) {
  using Raw = typename RawVector<DeviceVector<T, N>::bytes>::type;
  const Raw raw = *reinterpret_cast<const Raw*>(source);
  DeviceVector<T, N> values;
  memcpy(&values, &raw, sizeof(raw));
  return values;
}

template <class T, int N>
__device__ __forceinline__ void store_vector(T* target, const DeviceVector<T, N>& values) {
  using Raw = typename RawVector<DeviceVector<T, N>::bytes>::type;
  Raw raw;
  memcpy(&raw, &values, sizeof(raw));
  *reinterpret_cast<Raw*>(target) = raw;
}

// In order with nothing else: for fixpoints that any mix of old and new values leads to.
template <class T>
__device__ __forceinline__ T load_relaxed(const T* source) {
  return *static_cast<const volatile T*>(source);
}

template <class T>
__device__ __forceinline__ void store_relaxed(T* target, T value) {
  *static_cast<volatile T*>(target) = value;
}

inline LaunchError clear_device(void* target, size_t bytes, Stream stream) {
  return as_launch_error(cudaMemsetAsync(target, 0, bytes, stream));
}

// Waits for all that is enqueued on the stream.
template <class T>
LaunchError read_device(T& value, const T* source, Stream stream) {
  const cudaError_t error =
      cudaMemcpyAsync(&value, source, sizeof(T), cudaMemcpyDeviceToHost, stream);
  return as_launch_error(error == cudaSuccess ? cudaStreamSynchronize(stream) : error);
}

// Starts a copy of 4, 8 or 16 aligned bytes from global to shared memory; zeros where not `valid`.
template <int Bytes>
__device__ __forceinline__ void copy_async(void* shared, const void* global, bool valid = true) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16, "cp.async copies 4, 8 or 16 bytes");
  const auto target = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  const int bytes = valid ? Bytes : 0;
  if constexpr (Bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(global),
                 "r"(bytes)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(target), "l"(global),
                 "n"(Bytes), "r"(bytes)
                 : "memory");
  }
}

// Closes a group: the copies that this thread started since the last commit.
__device__ __forceinline__ void copy_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most Pending of this thread's groups, the newest, are unfinished. Other threads
// see the copies only after a barrier.
template <int Pending>
__device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

}  // namespace medkern

#else

#define MEDKERN_GLOBAL
#define MEDKERN_DEVICE
#define MEDKERN_HD
#define MEDKERN_LAUNCH_BOUNDS(...)

#define MEDKERN_SHARED(T, name, count)                                                        \
  static const char name##_declaration = 0;                                                   \
  ::medkern::SharedElement<T>(&name)[count] =                                                 \
      *static_cast<::medkern::SharedElement<T>(*)[count]>(::medkern::emulation::shared_array( \
          &name##_declaration, sizeof(::medkern::SharedElement<T>[count]),                    \
          alignof(::medkern::SharedElement<T>)))
#define MEDKERN_DYNAMIC_SHARED(T, name) \
  T* const name = static_cast<T*>(::medkern::emulation::dynamic_shared())
#define MEDKERN_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  (static_cast<void>(stream),                                          \
   ::medkern::emulation::launch(#kernel, kernel, grid, block,          \
                                shared_bytes __VA_OPT__(, ) __VA_ARGS__))

namespace medkern {

inline LaunchError launch_error() { return {}; }

template <class... Parameters>
LaunchError allow_dynamic_shared(void (*kernel)(Parameters...), size_t bytes) {
  if (bytes > emulation::kLargestSharedBytes) return LaunchError("invalid argument");
  emulation::shared_opt_ins().set(reinterpret_cast<const void*>(kernel), bytes);
  return {};
}

template <class T, int N>
DeviceVector<T, N> load_vector(const T* source, emulation::Site site = emulation::Site::current()) {
  emulation::check_aligned(source, DeviceVector<T, N>::bytes, site);
  DeviceVector<T, N> values;
  std::memcpy(&values, source, sizeof(values));
  return values;
}

template <class T, int N>
void store_vector(T* target, const DeviceVector<T, N>& values,
                  emulation::Site site = emulation::Site::current()) {
  emulation::check_aligned(target, sizeof(values), site);
  std::memcpy(target, &values, sizeof(values));
}

template <class T>
T load_relaxed(const T* source) {
  T value;
  __atomic_load(source, &value, __ATOMIC_RELAXED);
  return value;
}

template <class T>
void store_relaxed(T* target, T value) {
  __atomic_store(target, &value, __ATOMIC_RELAXED);
}

inline LaunchError clear_device(void* target, size_t bytes, Stream) {
  std::memset(target, 0, bytes);
  return {};
}

template <class T>
LaunchError read_device(T& value, const T* source, Stream) {
  value = *source;
  return {};
}

template <int Bytes>
void copy_async(void* shared, const void* global, bool valid = true,
                emulation::Site site = emulation::Site::current()) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16, "cp.async copies 4, 8 or 16 bytes");
  emulation::start_copy(shared, global, Bytes, valid, site);
}

inline void copy_async_commit() { emulation::commit_copies(); }

template <int Pending>
void copy_async_wait() {
  emulation::wait_copies(Pending);
}

}  // namespace medkern

#endif
