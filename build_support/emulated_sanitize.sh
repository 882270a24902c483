#!/usr/bin/env bash
# Runs the emulated CUDA kernels under AddressSanitizer (g++) and ThreadSanitizer (clang), in pytest.
#
# The library is built with the sanitizer and its runtime is preloaded into Python. TSan sees the
# threads of a kernel as the fibers they are: its report exits with code 66. The distances are left
# to the C++ race tests of csrc/tests/emulation, which take seconds instead of minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${MEDKERN_TORCH_ROOT:?}" "${PYTHON:?}"
tests=(tests/test_emulated.py -q -p no:cacheprovider)

build() { # folder, sanitizer, compiler
  cmake -S . -B "build/$1" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_CXX_COMPILER="$3" \
    -DMEDKERN_SANITIZE="$2" -DMEDKERN_SHARED_RUNTIME=ON -DMEDKERN_PYTHON=OFF -DMEDKERN_CUDA=OFF \
    -DMEDKERN_EMULATED=ON >/dev/null
  cmake --build "build/$1" --target emulated --parallel "$(nproc)"
}

address() {
  LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libstdc++.so)" \
    ASAN_OPTIONS=detect_leaks=0,detect_stack_use_after_return=0 \
    MEDKERN_EMULATED_LIBRARY=build/emulated-asan/_emulated.so "$PYTHON" -m pytest "${tests[@]}"
}

thread() { # compiler
  LD_PRELOAD="$("$1" -print-file-name=libclang_rt.tsan-x86_64.so)" OMP_NUM_THREADS=1 \
    TSAN_OPTIONS=ignore_noninstrumented_modules=1:exitcode=66 \
    MEDKERN_EMULATED_LIBRARY=build/emulated-tsan/_emulated.so \
    "$PYTHON" -m pytest "${tests[@]}" \
    -k "(sizes or order) and not barrier_sizes and not euclidean_sizes and not geodesic_sizes"
}

build emulated-asan address g++
clang=$(command -v clang++-19 || command -v clang++ || true)
if [[ -z $clang ]]; then
  echo "emulated_sanitize: no clang, ThreadSanitizer is left out" >&2
  address
  exit
fi
build emulated-tsan thread "$clang"
address & # each keeps one processor busy
thread "$clang"
wait $!
