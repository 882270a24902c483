// The choice of the instruction set: names, forcing, and what the row's length changes.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <sstream>
#include <string>
#include <vector>

#include "core/haar.hpp"
#include "isa/isa.hpp"

using namespace medkern;

namespace {

int failures = 0;

void check(bool holds, const char* what, const std::string& isa) {
  if (holds) return;
  std::fprintf(stderr, "FAILED: %s (isa %s)\n", what, isa.c_str());
  ++failures;
}

HaarKernel kernel(int64_t row) {
  return haar_kernel(HaarMode::dwt, false, HaarDType::float32, 2, row);
}

}  // namespace

int main() {
  std::istringstream list(medkern_isas());
  std::vector<std::string> names;
  for (std::string name; list >> name;) names.push_back(name);
  check(names.front() == "baseline", "the baseline is always there, first", names.front());
  check(medkern_active_isa() == names.back(), "the best is in use at first", medkern_active_isa());
  check(medkern_set_isa("sse9") == 1, "an unknown name is refused", "sse9");
  check(medkern_active_isa() == names.back(), "and changes nothing", medkern_active_isa());

  std::vector<HaarKernel> widest;
  for (const std::string& name : names) {
    check(medkern_set_isa(name.c_str()) == 0, "can be chosen", name);
    check(medkern_active_isa() == name, "is then active", name);
    widest.push_back(kernel(int64_t{1} << 40));
    for (size_t i = 0; i + 1 < widest.size(); ++i) {
      check(widest[i] != widest.back(), "has kernels of its own", name);
    }
    check(kernel(0) == widest.front(), "an empty row takes the baseline", name);
    // A row of 16 floats fills 64 bytes, one of 8 fills 32.
    const size_t active = widest.size() - 1;
    check(kernel(16) == widest[active], "16 floats fill every vector", name);
    check(kernel(15) == widest[active < 1 ? active : 1], "15 floats do not fill 64 bytes", name);
    check(kernel(7) == widest.front(), "7 floats do not fill 32 bytes", name);
    check(kernel(INT64_MAX) == widest[active], "the longest row takes the widest vectors", name);
    check(haar_kernel(HaarMode::dwt, false, HaarDType::float32, 2) == widest[active],
          "without a row, the widest vectors", name);
  }
  return failures;
}
