#include <dlfcn.h>

#include "binding/threads.hpp"

namespace medkern {

bool python_interrupted() {
  using Check = int (*)();
  using Ensure = int (*)();
  using Release = void (*)(int);
  using Clear = void (*)();
  static const auto initialised = reinterpret_cast<Check>(dlsym(RTLD_DEFAULT, "Py_IsInitialized"));
  static const auto check = reinterpret_cast<Check>(dlsym(RTLD_DEFAULT, "PyErr_CheckSignals"));
  static const auto ensure = reinterpret_cast<Ensure>(dlsym(RTLD_DEFAULT, "PyGILState_Ensure"));
  static const auto release = reinterpret_cast<Release>(dlsym(RTLD_DEFAULT, "PyGILState_Release"));
  static const auto clear = reinterpret_cast<Clear>(dlsym(RTLD_DEFAULT, "PyErr_Clear"));
  if (!initialised || !check || !ensure || !release || !clear || !initialised()) return false;
  const int state = ensure();
  const bool pending = check() != 0;
  // medkern's Python side raises KeyboardInterrupt again, from the kernel's own exception.
  if (pending) clear();
  release(state);
  return pending;
}

}  // namespace medkern
