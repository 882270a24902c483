// Choosing the instruction set at run time.
//
// Hot kernels are compiled once per instruction set; selector.hpp forwards each declared
// `*_kernel` selector to the variant in use. MEDKERN_ISA in the environment forces one.
#pragma once

namespace medkern {

enum class Isa { baseline, avx2, avx512 };

Isa active_isa();

}  // namespace medkern

// For the Python loaders: plain C, so that the torch libraries can be asked through ctypes.
extern "C" {
// Space-separated names that this processor and this build can run, best last.
__attribute__((visibility("default"))) const char* medkern_isas();
__attribute__((visibility("default"))) const char* medkern_active_isa();
// Returns 0 on success, 1 where the name is not among medkern_isas().
__attribute__((visibility("default"))) int medkern_set_isa(const char* name);
}
