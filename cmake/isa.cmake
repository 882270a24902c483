# medkern_kernels: every csrc/isa/<family>.cpp compiled once per instruction set, and the run-time
# choice between them. A build for another architecture has the baseline only.
option(MEDKERN_ISA_VARIANTS "Compile the hot kernels for AVX2 and AVX-512 too" ON)

set(isa_variants "baseline")
set(isa_flags_baseline "")
if(MEDKERN_ISA_VARIANTS AND CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  list(APPEND isa_variants avx2 avx512)
  set(isa_flags_baseline -march=x86-64-v2)
  set(isa_flags_avx2 -march=x86-64-v3)
  set(isa_flags_avx512 -march=x86-64-v4 -mprefer-vector-width=512)
endif()

file(GLOB family_sources CONFIGURE_DEPENDS csrc/isa/*.cpp)
list(FILTER family_sources EXCLUDE REGEX "dispatch\\.cpp$")

# Sanitized kernels are tested, not timed: optimising them takes minutes, and so does compiling those
# that no C++ test runs. Under ThreadSanitizer only those that have threads of their own matter.
# UndefinedBehaviorSanitizer doubles the time to compile and sees nearly one source in all variants:
# the baseline alone has it. A library, as a target's own options come before those of medkern_flags,
# and the last one counts.
set(isa_optimisation -O3)
add_library(medkern_variant INTERFACE)
set(has_numeric_tests ON)
if(MEDKERN_SANITIZE)
  set(isa_optimisation -O1)
  target_compile_options(medkern_variant INTERFACE -fno-sanitize=undefined)
  set(tested euclidean geodesic haar warp)
  if(MEDKERN_SANITIZE STREQUAL "thread")
    set(has_numeric_tests OFF)
  else()
    list(APPEND tested convlstm_winograd correlation field fourier fourier_epilogue joint_histogram
      joint_moments local_ncc segmentation spectral)
  endif()
  list(JOIN tested "|" tested)
  list(FILTER family_sources INCLUDE REGEX "/(${tested})\\.cpp$")
endif()

# GCC 12's SLP vectoriser fuses complex products into fmsubadd though contraction is off.
set_source_files_properties(csrc/isa/fourier.cpp PROPERTIES COMPILE_OPTIONS -fno-tree-slp-vectorize)

add_library(medkern_kernels STATIC csrc/isa/dispatch.cpp)
target_link_libraries(medkern_kernels PUBLIC medkern_flags)
foreach(isa IN LISTS isa_variants)
  add_library(medkern_${isa} OBJECT ${family_sources})
  target_link_libraries(medkern_${isa} PRIVATE medkern_flags)
  if(NOT isa STREQUAL "baseline")
    target_link_libraries(medkern_${isa} PRIVATE medkern_variant)
  endif()
  target_compile_definitions(medkern_${isa} PRIVATE MEDKERN_ISA=${isa})
  target_compile_options(medkern_${isa} PRIVATE ${isa_optimisation} ${isa_flags_${isa}})
  target_sources(medkern_kernels PRIVATE $<TARGET_OBJECTS:medkern_${isa}>)
endforeach()
target_compile_definitions(medkern_baseline PRIVATE MEDKERN_DEFINE_SELECTORS)
if("avx2" IN_LIST isa_variants)
  target_compile_definitions(medkern_kernels PRIVATE MEDKERN_X86)
  target_compile_definitions(medkern_baseline PRIVATE MEDKERN_X86)
endif()
