// libFuzzer target: bytes -> shape, layouts, pad, mode, dtype and samples -> check against the
// definition, with every buffer of exact size. Build with clang and -DMEDKERN_FUZZ=ON, then run
// `fuzz_haar -max_len=64 CORPUS`. Without libFuzzer the same code replays drawn inputs in ctest.
#include "haar_case.hpp"

using namespace medkern;
using namespace medkern::test;

namespace {

struct Bytes {
  const uint8_t* data;
  size_t size;
  int64_t below(int64_t n) {
    if (size == 0) return 0;
    --size;
    return *data++ % n;
  }
};

Case read_case(Bytes& bytes) {
  Case c;
  c.mode = static_cast<HaarMode>(bytes.below(6));
  c.dtype = static_cast<HaarDType>(c.integer() ? 4 + bytes.below(2) : bytes.below(4));
  c.ndim = static_cast<int>(1 + bytes.below(3));
  c.pad = static_cast<Pad>(bytes.below(4));
  const int64_t first = 2 * bytes.below(2);  // planar or channels-last; all views alike
  c.x_layout = static_cast<Layout>(first + bytes.below(2));
  c.y_layout = static_cast<Layout>(first + bytes.below(2));
  c.key_layout = static_cast<Layout>(first + bytes.below(2));
  c.batch = 1 + bytes.below(3);
  c.channels = 1 + bytes.below(c.channels_last() ? 130 : 4);
  for (int axis = 3 - c.ndim; axis < 3; ++axis) {
    c.size[axis] = 1 + bytes.below(axis == 2 && !c.channels_last() ? 200 : 7);
  }
  c.nans = bytes.below(2);
  c.streams = bytes.below(2);
  c.row_choice = bytes.below(2);
  return c;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string isas = medkern_isas();
  Bytes bytes{data, size};
  const char* const names[] = {"baseline", "avx2", "avx512"};
  const char* const isa = names[bytes.below(3)];
  if (isas.find(isa) == std::string::npos) return 0;
  if (medkern_set_isa(isa) != 0) std::abort();
  const Case c = read_case(bytes);
  uint64_t seed = 0;
  while (bytes.size) seed = seed * 257 + static_cast<uint64_t>(bytes.below(256)) + 1;
  check_case(c, Random{seed});
  return 0;
}

#if !defined(MEDKERN_FUZZ)
int main() {
  Random random{42};
  for (int run = 0; run < 1500; ++run) {
    std::vector<uint8_t> input(static_cast<size_t>(random.below(40)));
    for (uint8_t& byte : input) byte = static_cast<uint8_t>(random.next());
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
}
#endif
