# Fails where an object compiled for one instruction set defines a symbol outside its own namespace:
# the linker would keep one copy of it for all, perhaps one with AVX-512 instructions in it.
# Run as: cmake -DNM=... -DISA=avx2 -DOBJECTS=a.o,b.o -P check_symbols.cmake
string(REPLACE "," ";" objects "${OBJECTS}")
if(NOT objects)
  message(FATAL_ERROR "no objects to check")
endif()
foreach(object IN LISTS objects)
  execute_process(COMMAND ${NM} --demangle --defined-only --extern-only ${object}
    OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  string(REPLACE ";" "," symbols "${symbols}")
  string(REGEX MATCHALL "[^\n]+" symbols "${symbols}")
  set(own 0)
  foreach(symbol IN LISTS symbols)
    if(symbol MATCHES "^[0-9a-f]* *[A-Za-z] (DW\\.ref\\.|__odr_asan|_?_?ubsan|__asan)")
      continue()  # personality references and sanitizer tables are data, not code
    endif()
    if(NOT symbol MATCHES "^[0-9a-f]* *[A-Za-z] .*medkern::${ISA}::")
      message(FATAL_ERROR "${object} defines outside medkern::${ISA}: ${symbol}")
    endif()
    math(EXPR own "${own} + 1")
  endforeach()
  if(own EQUAL 0)
    message(FATAL_ERROR "${object} defines no symbol in medkern::${ISA}: is the check broken?")
  endif()
endforeach()
