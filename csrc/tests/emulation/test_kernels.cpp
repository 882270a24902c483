// Correct kernels on the emulation against plain loops, in three orders of threads and blocks.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include "kernels.cuh"

using namespace medkern;
using namespace medkern::MEDKERN_ISA;

namespace {

std::atomic<int> failures = 0;

void check(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "FAILED (order %u): %s\n", emulation::thread_order(), what);
  ++failures;
}

template <class T>
std::vector<T> integers(size_t count, int low, int high) {
  std::minstd_rand random(static_cast<unsigned>(count));
  std::vector<T> values(count);
  for (T& value : values) value = static_cast<T>(low + static_cast<int>(random() % (high - low)));
  return values;
}

template <class T>
void test_sum(int64_t n, unsigned blocks, unsigned threads) {
  const auto x = integers<T>(static_cast<size_t>(n), -50, 50);
  double expected = 0, out = 0;
  for (const T value : x) expected += static_cast<double>(value);
  MEDKERN_LAUNCH(sum_kernel<T>, blocks, threads, 0, nullptr, x.data(), n, &out);
  check(out == expected, "sum");
}

void test_last_block() {
  const auto x = integers<float>(32 * 7, -9, 9);
  std::vector<float> partial(7, NAN);
  unsigned finished = 0;
  float out = NAN, expected = 0;
  for (const float value : x) expected += value;
  MEDKERN_LAUNCH(last_block_kernel, 7, 32, 0, nullptr, x.data(), partial.data(), &finished, &out);
  check(out == expected && finished == 0, "last block");
}

template <class T>
void test_transpose(int rows, int columns) {
  const auto x = integers<T>(static_cast<size_t>(rows * columns), 0, 100);
  std::vector<T> y(x.size(), T(-1));
  const dim3 grid(static_cast<unsigned>(columns + 31) / 32, static_cast<unsigned>(rows + 31) / 32);
  MEDKERN_LAUNCH(transpose_kernel<T>, grid, dim3(32, 8), 0, nullptr, x.data(), rows, columns,
                 y.data());
  bool equal = true;
  for (int i = 0; i < rows * columns; ++i) equal &= y[i % columns * rows + i / columns] == x[i];
  check(equal, "transpose");
}

template <int Width>
void test_scan() {
  const auto x = integers<int>(192, -9, 9);
  std::vector<int> y(x.size());
  MEDKERN_LAUNCH(scan_kernel<Width>, 2, 96, 0, nullptr, x.data(), y.data());
  int sum = 0;
  bool equal = true;
  for (size_t i = 0; i < x.size(); ++i) {
    sum = (i % Width == 0 ? 0 : sum) + x[i];
    equal &= y[i] == sum;
  }
  check(equal, "scan");
}

void test_histogram() {
  const auto x = integers<uint8_t>(1001, 0, 77);
  std::vector<unsigned> counts(77), expected(77);
  for (const uint8_t value : x) ++expected[value];
  MEDKERN_LAUNCH(histogram_kernel, 3, dim3(13, 5), 77 * sizeof(unsigned), nullptr, x.data(), 1001,
                 77, counts.data());
  check(counts == expected, "histogram");
}

void test_raster() {
  constexpr int kWidth = 29, kHeight = 19, kCount = 150;
  std::vector<Splat> splats;
  const auto random = integers<int>(4 * kCount, 0, 1000);
  for (int i = 0; i < kCount; ++i) {
    const int* r = &random[4 * i];
    splats.push_back({r[0] * 0.03f, r[1] * 0.02f, 0.01f + r[2] * 1e-4f, r[3] * 9e-4f});
  }
  std::vector<float> image(kWidth * kHeight, NAN);
  MEDKERN_LAUNCH(raster_kernel<8>, dim3(4, 3), dim3(8, 8), 0, nullptr, splats.data(), kCount,
                 kWidth, kHeight, image.data());
  bool equal = true;
  for (int pixel = 0; pixel < kWidth * kHeight; ++pixel) {
    float through = 1, color = 0;
    for (int j = 0; j < kCount && through >= 1e-3f; ++j) {
      const float dx = splats[j].x - static_cast<float>(pixel % kWidth);
      const float dy = splats[j].y - static_cast<float>(pixel / kWidth);
      const float alpha = splats[j].opacity * std::exp(-splats[j].precision * (dx * dx + dy * dy));
      color += through * alpha * static_cast<float>(j);
      through *= 1 - alpha;
    }
    equal &= std::fabs(image[pixel] - (color + through)) <= 1e-5f * (color + through);
  }
  check(equal, "raster");
}

template <class T>
void test_box(Extents size, dim3 block) {
  const auto x = integers<T>(static_cast<size_t>(size.depth * size.height * size.width), 0, 9);
  std::vector<T> y(x.size(), T(-1)), expected(x.size());
  const auto blocks = [](int extent, unsigned threads) {
    return (static_cast<unsigned>(extent) + threads - 1) / threads;
  };
  const dim3 grid(blocks(size.width, block.x), blocks(size.height, block.y),
                  blocks(size.depth, block.z));
  const size_t shared = (block.x + 2) * (block.y + 2) * (block.z + 2) * sizeof(T);
  MEDKERN_LAUNCH(box_kernel<T>, grid, block, shared, nullptr, x.data(), size, y.data());
  const int plane = size.height * size.width;
  for (int i = 0; i < plane * size.depth; ++i) {
    for (int n = 0; n < 27; ++n) {
      const int c = i % size.width + n % 3 - 1, r = i / size.width % size.height + n / 3 % 3 - 1,
                p = i / plane + n / 9 - 1;
      if (c < 0 || c >= size.width || r < 0 || r >= size.height || p < 0 || p >= size.depth) {
        continue;
      }
      expected[i] += x[p * plane + r * size.width + c];
    }
  }
  check(y == expected, "box");
}

template <class T, int Bytes>
void test_pipeline() {
  constexpr int kLane = Bytes / static_cast<int>(sizeof(T)), kCount = 64 * kLane * 5;
  const auto x = integers<T>(kCount, 0, 50);
  std::vector<T> y(kCount);
  MEDKERN_LAUNCH((pipeline_kernel<T, Bytes>), 1, 64, 0, nullptr, x.data(), kCount, y.data());
  bool equal = true;
  for (int i = 0; i < kCount; ++i) equal &= y[i] == static_cast<T>(2 * x[i] + 1);
  check(equal, "pipeline");
}

void test_votes() {
  std::vector<int> x(64), y(12 * 64);
  for (int i = 0; i < 64; ++i) x[i] = i % 5 - 3 + (i == 40 ? 10 : 0);
  MEDKERN_LAUNCH(votes_kernel, 1, 64, 0, nullptr, x.data(), y.data());
  bool equal = true;
  for (int i = 0; i < 64; ++i) {
    const int warp = i / 32 * 32;
    unsigned positive = 0, same = 0;
    int sum = 0, low = x[i], high = x[i];
    for (int j = 0; j < 32; ++j) {
      const int other = x[warp + j];
      positive |= (other > 0 ? 1u : 0u) << j;
      same |= (other == x[i] ? 1u : 0u) << j;
      sum += other;
      low = std::min(low, other);
      high = std::max(high, other);
    }
    const int expected[12] = {static_cast<int>(positive),
                              high == 7,
                              1,
                              static_cast<int>(same),
                              sum,
                              low,
                              high,
                              x[i / 8 * 8 + 5],
                              x[warp + (i % 32 ^ 3)],
                              x[warp + (i % 32 < 16 ? 2 : 18)],
                              3,
                              1};
    equal &= std::equal(expected, expected + 12, &y[12 * i]);
  }
  check(equal, "votes");
}

template <class S>
void test_mma() {
  DeviceVector<S, 2> a[128], b[64];
  float c[128], d[128];
  for (int i = 0; i < 256; ++i) a[i / 2][i % 2] = from_float<S>(static_cast<float>(i * 7 % 19 - 9));
  for (int i = 0; i < 128; ++i) {
    b[i / 2][i % 2] = from_float<S>(static_cast<float>(i * 5 % 17 - 8));
    c[i] = static_cast<float>(i % 23);
  }
  MEDKERN_LAUNCH(mma_kernel<S>, 1, 32, 0, nullptr, a[0].lane, b[0].lane, c, d);
  bool equal = true;
  for (int i = 0; i < 128; ++i) {
    float sum = c[i];
    for (int k = 0; k < 16; ++k) {
      const int left = i / 8 * 16 + k, right = i % 8 * 16 + k;
      sum += to_float(a[left / 2][left % 2]) * to_float(b[right / 2][right % 2]);
    }
    equal &= d[i] == sum;
  }
  check(equal, "mma");
}

void test_atomics() {
  int out[8] = {0, 0, 0, 0, -1, 0, 0, 0};
  unsigned long long wide[2] = {0, 0};
  float real = 0;
  MEDKERN_LAUNCH(atomics_kernel, 3, dim3(4, 2, 5), 0, nullptr, out, wide, &real);
  const int threads = 120;
  check(out[0] == threads * (threads - 1) / 2 && out[1] == 1 - threads && out[2] == threads - 1 &&
            out[3] == 0x7fffffff && out[4] == INT32_MIN && out[5] == 9 && out[7] == 1,
        "integer atomics");
  check(wide[0] == static_cast<unsigned long long>(threads) << 33 && wide[1] == threads - 1 &&
            real == 0.5f * threads,
        "other atomics");
}

// A library may be called from any thread of its user's.
void test_threads() {
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; ++i) callers.emplace_back(test_scan<16>);
  for (std::thread& caller : callers) caller.join();
}

void test_all() {
  test_sum<float>(100003, 3, 128);
  test_sum<int>(31, 2, 64);
  test_sum<double>(0, 1, 96);
  test_last_block();
  test_transpose<float>(67, 45);
  test_transpose<uint8_t>(1, 40);
  test_transpose<double>(32, 32);
  test_scan<32>();
  test_scan<8>();
  test_histogram();
  test_raster();
  test_box<float>({5, 7, 9}, dim3(4, 3, 2));
  test_box<int>({1, 1, 70}, dim3(64, 1, 1));
  test_box<double>({9, 2, 3}, dim3(1, 2, 8));
  test_pipeline<float, 4>();
  test_pipeline<float, 16>();
  test_pipeline<int16_t, 8>();
  test_votes();
  test_mma<Half>();
  test_mma<BFloat16>();
  test_atomics();
  test_threads();
}

}  // namespace

int main() {
  for (const int order : {0, 1, 7}) {
    emulation::set_thread_order(order);
    test_all();
  }
  return failures;
}
