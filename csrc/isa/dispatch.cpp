#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "core/boundary.hpp"
#include "core/euclidean.hpp"
#include "core/geodesic.hpp"
#include "core/haar.hpp"
#include "core/spectral.hpp"
#include "isa/isa.hpp"

// One declaration per selector and variant; the variants live in csrc/isa/<family>.cpp.
#define MEDKERN_DECLARE_VARIANTS(ns)                      \
  namespace medkern::ns {                                 \
  GeodesicKernel geodesic_parents_kernel(bool);           \
  GeodesicKernel geodesic_solve_kernel(bool);             \
  EuclideanKernels euclidean_kernels(int, bool);          \
  HaarKernel haar_kernel(HaarMode, bool, HaarDType, int); \
  BoundaryKernel boundary_kernel(bool, FloatType);        \
  DftKernel dft_kernel(bool, FloatType);                  \
  MixKernel mix_kernel(bool);                             \
  }

MEDKERN_DECLARE_VARIANTS(baseline)
#if defined(MEDKERN_X86)
MEDKERN_DECLARE_VARIANTS(avx2)
MEDKERN_DECLARE_VARIANTS(avx512)
#define MEDKERN_VARIANT(isa, selector, ...)                    \
  (isa == Isa::avx512 ? medkern::avx512::selector(__VA_ARGS__) \
   : isa == Isa::avx2 ? medkern::avx2::selector(__VA_ARGS__)   \
                      : medkern::baseline::selector(__VA_ARGS__))
#else
#define MEDKERN_VARIANT(isa, selector, ...) medkern::baseline::selector(__VA_ARGS__)
#endif

namespace medkern {
namespace {

constexpr const char* kNames[] = {"baseline", "avx2", "avx512"};

Isa best_isa() {
#if defined(MEDKERN_X86)
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                  __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
                  __builtin_cpu_supports("popcnt");
  const bool v4 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  if (v3 && v4) return Isa::avx512;
  if (v3) return Isa::avx2;
#endif
  return Isa::baseline;
}

std::atomic<Isa>& current() {
  static std::atomic<Isa> isa{best_isa()};
  return isa;
}

// The widest variant, of those allowed, whose vectors of `compute_bytes` fit into a row.
[[maybe_unused]] Isa fitting_isa(int64_t row, int compute_bytes) {
  const Isa isa = active_isa();
  if (isa == Isa::avx512 && row >= 64 / compute_bytes) return Isa::avx512;
  if (isa != Isa::baseline && row >= 32 / compute_bytes) return Isa::avx2;
  return Isa::baseline;
}

int compute_bytes(HaarDType dtype) {
  if (dtype == HaarDType::uint8) return 2;
  return dtype == HaarDType::float64 ? 8 : 4;
}

}  // namespace

Isa active_isa() { return current().load(std::memory_order_relaxed); }

GeodesicKernel geodesic_parents_kernel(bool float64) {
  [[maybe_unused]] const Isa isa = active_isa();
  return MEDKERN_VARIANT(isa, geodesic_parents_kernel, float64);
}

GeodesicKernel geodesic_solve_kernel(bool float64) {
  [[maybe_unused]] const Isa isa = active_isa();
  return MEDKERN_VARIANT(isa, geodesic_solve_kernel, float64);
}

HaarKernel haar_kernel(HaarMode mode, bool adjoint, HaarDType dtype, int ndim, int64_t row) {
  [[maybe_unused]] const Isa isa = fitting_isa(row, compute_bytes(dtype));
  return MEDKERN_VARIANT(isa, haar_kernel, mode, adjoint, dtype, ndim);
}

BoundaryKernel boundary_kernel(bool backward, FloatType logits) {
  return MEDKERN_VARIANT(active_isa(), boundary_kernel, backward, logits);
}

DftKernel dft_kernel(bool inverse, FloatType x) {
  return MEDKERN_VARIANT(active_isa(), dft_kernel, inverse, x);
}

MixKernel mix_kernel(bool float64) { return MEDKERN_VARIANT(active_isa(), mix_kernel, float64); }

EuclideanKernels euclidean_kernels(int label_bytes, bool wide) {
  [[maybe_unused]] const Isa isa = active_isa();
  return MEDKERN_VARIANT(isa, euclidean_kernels, label_bytes, wide);
}

}  // namespace medkern

extern "C" const char* medkern_isas() {
  static const std::string names = [] {
    std::string joined;
    for (int i = 0; i <= static_cast<int>(medkern::best_isa()); ++i) {
      joined += i ? " " : "";
      joined += medkern::kNames[i];
    }
    return joined;
  }();
  return names.c_str();
}

extern "C" const char* medkern_active_isa() {
  return medkern::kNames[static_cast<int>(medkern::active_isa())];
}

extern "C" int medkern_set_isa(const char* name) {
  for (int i = 0; i <= static_cast<int>(medkern::best_isa()); ++i) {
    if (std::strcmp(name, medkern::kNames[i]) != 0) continue;
    medkern::current().store(static_cast<medkern::Isa>(i), std::memory_order_relaxed);
    return 0;
  }
  return 1;
}
