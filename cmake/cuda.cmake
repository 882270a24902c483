# Two libraries from the sources in csrc/cuda:
#   _native_cuda.so  the CUDA kernels, built by nvcc; needs no GPU, and a CPU torch will do
#   _emulated.so     the same files built by the C++ compiler and run on the CPU, for the tests
# MEDKERN_CUDA: AUTO builds the first where nvcc is found and the torch is a CUDA torch; ON insists
# on nvcc and does not care about the torch; OFF leaves it out.
set(MEDKERN_CUDA AUTO CACHE STRING "AUTO, ON or OFF")
option(MEDKERN_EMULATED "Build the CUDA kernels for the CPU, for tests" OFF)

file(GLOB device_sources CONFIGURE_DEPENDS csrc/cuda/*.cu)
file(GLOB device_bindings CONFIGURE_DEPENDS csrc/cuda/*.cpp)

if(MEDKERN_EMULATED)
  # C++ files that include the CUDA files: a file cannot have two languages in one build.
  foreach(source IN LISTS device_sources)
    get_filename_component(name ${source} NAME_WE)
    set(wrapper ${CMAKE_CURRENT_BINARY_DIR}/emulated/${name}.cpp)
    file(CONFIGURE OUTPUT ${wrapper} CONTENT "#include \"${source}\"\n" @ONLY)
    list(APPEND emulated_sources ${wrapper})
  endforeach()
  add_library(emulated MODULE ${emulated_sources} ${device_bindings})
  target_compile_options(emulated PRIVATE -O1)
  target_compile_definitions(emulated PRIVATE MEDKERN_EMULATED MEDKERN_ISA=emulated)
  set_target_properties(emulated PROPERTIES OUTPUT_NAME _emulated PREFIX "" SKIP_BUILD_RPATH ON)
  target_link_libraries(emulated PRIVATE medkern_flags medkern_torch)
  install(TARGETS emulated LIBRARY DESTINATION medkern)
endif()

if(MEDKERN_CUDA STREQUAL "OFF" OR
   (MEDKERN_CUDA STREQUAL "AUTO" AND NOT EXISTS "${torch_root}/lib/libtorch_cuda.so"))
  message(STATUS "CUDA kernels: off")
  return()
endif()

# nvcc from PyPI's wheels, where the machine has none of its own.
if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
  find_program(nvcc nvcc HINTS ${torch_root}/../nvidia/cu13/bin)
  if(nvcc)
    set(CMAKE_CUDA_COMPILER ${nvcc})
  endif()
endif()
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90)  # machine code for sm_80 and sm_90, PTX for the rest
endif()
include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  if(MEDKERN_CUDA STREQUAL "ON")
    message(FATAL_ERROR "MEDKERN_CUDA=ON needs nvcc; install the CUDA toolkit, or the wheels "
      "nvidia-cuda-nvcc, nvidia-cuda-crt, nvidia-nvvm, nvidia-cuda-runtime and nvidia-cuda-cccl")
  endif()
  message(STATUS "CUDA kernels: off, no nvcc")
  return()
endif()
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)

# CMake before 3.25.2 does not know that nvcc takes C++20: the standard that CUDA targets would inherit
# is kept from this one, and the flag is given by hand, for every source, as CMake ends a target's flags
# with nvcc's own default.
set(cxx_standard ${CMAKE_CXX_STANDARD})
unset(CMAKE_CXX_STANDARD)
add_library(device OBJECT ${device_sources})
add_library(native_cuda MODULE ${device_bindings} $<TARGET_OBJECTS:device>)
set(CMAKE_CXX_STANDARD ${cxx_standard})
set_target_properties(device PROPERTIES POSITION_INDEPENDENT_CODE ON)
target_include_directories(device PRIVATE csrc)
target_compile_definitions(device PRIVATE MEDKERN_ISA=cuda)
# A register spill is an error: a kernel that spills is a kernel to redesign.
target_compile_options(device PRIVATE
  -Xcompiler=-fvisibility=hidden -Xfatbin=-compress-all
  "-Xptxas=--warn-on-spills,--warning-as-error")

set_source_files_properties(${device_sources} PROPERTIES
  COMPILE_OPTIONS "$<$<COMPILE_LANGUAGE:CUDA>:-std=c++20>")
# The fixpoints of distances are unique only in a fixed arithmetic; noise, and the rings that
# frequencies are in, must be the CPU's; and small differences of large sums those that the tests
# see: no contraction.
foreach(family IN ITEMS augment barrier correlation euclidean field geodesic geodesic_tree
    joint_histogram joint_moments local_ncc warp warp_bfloat16 warp_double warp_float warp_half)
  set_source_files_properties(csrc/cuda/${family}.cu PROPERTIES
    COMPILE_OPTIONS "$<$<COMPILE_LANGUAGE:CUDA>:-std=c++20;-fmad=false>")
endforeach()

target_compile_options(native_cuda PRIVATE -std=c++20)
set_target_properties(native_cuda PROPERTIES
  OUTPUT_NAME _native_cuda PREFIX "" SKIP_BUILD_RPATH ON CUDA_RESOLVE_DEVICE_SYMBOLS OFF
  LINKER_LANGUAGE CXX)
target_link_libraries(native_cuda PRIVATE
  medkern_flags medkern_torch CUDA::cudart_static -Wl,--no-as-needed ${torch_root}/lib/libtorch.so)
install(TARGETS native_cuda LIBRARY DESTINATION medkern)
