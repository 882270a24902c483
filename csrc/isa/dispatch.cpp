#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "isa/isa.hpp"

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

}  // namespace

Isa active_isa() { return current().load(std::memory_order_relaxed); }

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
