# medkern_torch: headers and libtorch_cpu of the installed torch, nothing else. torch's own CMake
# package is not used: on a CUDA torch it insists on a CUDA toolkit even for CPU code.
if(DEFINED ENV{MEDKERN_TORCH_ROOT})
  set(torch_root "$ENV{MEDKERN_TORCH_ROOT}")
else()
  find_package(Python REQUIRED COMPONENTS Interpreter)
  execute_process(
    COMMAND ${Python_EXECUTABLE} -c
      "import importlib.util as u; print(list(u.find_spec('torch').submodule_search_locations)[0])"
    OUTPUT_VARIABLE torch_root OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
endif()
message(STATUS "torch: ${torch_root}")

add_library(medkern_torch INTERFACE)
target_include_directories(medkern_torch SYSTEM INTERFACE ${torch_root}/include)
# The binary then loads on every torch from 2.11 on; the compiler refuses newer features.
target_compile_definitions(medkern_torch INTERFACE
  TORCH_STABLE_ONLY TORCH_TARGET_VERSION=0x020b000000000000)
target_link_libraries(medkern_torch INTERFACE ${torch_root}/lib/libtorch_cpu.so)
