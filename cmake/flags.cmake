# Flags of all our own code. Never the unsafe-math options: linking with them changes denormals for
# the whole process. Contraction is off so that every instruction set gives the same bits; integer
# overflow wraps, since the transforms of hostile integers may overflow.
add_library(medkern_flags INTERFACE)
target_include_directories(medkern_flags INTERFACE ${CMAKE_CURRENT_SOURCE_DIR}/csrc)
target_compile_options(medkern_flags INTERFACE
  -Wall -Wextra -Wno-psabi -fno-math-errno -fno-trapping-math -ffp-contract=off -fwrapv)
if(MEDKERN_SANITIZE)
  target_compile_options(medkern_flags INTERFACE
    -fsanitize=${MEDKERN_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
  target_link_options(medkern_flags INTERFACE -fsanitize=${MEDKERN_SANITIZE})
  # A library for an unsanitized Python leaves the runtime to be preloaded.
  if(MEDKERN_SHARED_RUNTIME AND CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    target_link_options(medkern_flags INTERFACE -shared-libsan)
  endif()
endif()
