// Many threads on one problem: no two touch one address (ThreadSanitizer), and the result has the
// same bits as with one thread. Another thread keeps switching the instruction set meanwhile.
#include <atomic>
#include <iterator>
#include <sstream>
#include <thread>

#include "haar_case.hpp"

using namespace medkern;
using namespace medkern::test;

namespace {

constexpr int kThreads = 4;

void run(const Prepared& p, bool adjoint, int threads) {
  const int64_t units = haar_units(p.problem);
  std::vector<std::thread> pool;
  for (int i = 0; i < threads; ++i) {
    pool.emplace_back([&, i] {
      const HaarKernel kernel = kernel_of(p, adjoint);
      kernel(p.problem, units * i / threads, units * (i + 1) / threads);
    });
  }
  for (std::thread& thread : pool) thread.join();
}

void check(const Case& c, bool adjoint) {
  Prepared one(c), many(c);
  for (Prepared* p : {&one, &many}) {
    Random random{7};
    Case finite = c;
    finite.nans = false;
    p->fill(p->keys, p->fine, random);
    p->fill(p->x, p->fine, random);
    p->y.each([&](int64_t i, auto&&...) { put(p->y, p->coarse, i, draw(random, finite)); });
    run(*p, adjoint, p == &one ? 1 : kThreads);
  }
  const Array &a = adjoint ? one.x : one.y, &b = adjoint ? many.x : many.y;
  if (std::memcmp(a.bytes.get(), b.bytes.get(), static_cast<size_t>(a.elements) * a.item) != 0) {
    fail(c, "bits depend on the number of threads");
  }
}

void check_all() {
  for (const HaarMode mode : {HaarMode::dwt, HaarMode::ll, HaarMode::iewa, HaarMode::all,
                              HaarMode::max_concat, HaarMode::lift}) {
    for (int ndim = 1; ndim <= 3; ++ndim) {
      for (int pad = 0; pad < 4; ++pad) {
        for (const Layout layout : {Layout::planar, Layout::channels_last}) {
          Case c;
          c.mode = mode;
          c.dtype = mode == HaarMode::lift ? HaarDType::uint8 : HaarDType::float16;
          c.ndim = ndim;
          c.pad = static_cast<Pad>(pad);
          c.batch = 2;
          c.channels = 19;
          c.streams = pad % 2;
          c.x_layout = c.y_layout = c.key_layout = layout;
          for (int axis = 3 - ndim; axis < 3; ++axis) c.size[axis] = axis == 2 ? 35 : 5;
          check(c, false);
          check(c, true);
        }
      }
    }
  }
}

}  // namespace

int main() {
  std::atomic<bool> done{false};
  std::thread switcher([&] {
    std::istringstream isas(medkern_isas());
    const std::vector<std::string> names{std::istream_iterator<std::string>(isas), {}};
    for (size_t i = 0; !done; ++i) {
      if (medkern_set_isa(names[i % names.size()].c_str()) != 0) std::abort();
      std::this_thread::yield();
    }
  });
  check_all();
  done = true;
  switcher.join();
  return 0;
}
