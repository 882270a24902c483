// CUDA's built-in vector types, with its sizes and alignments.
#pragma once

#include <cstdint>

namespace medkern::emulation::cuda {

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

#define MEDKERN_EMULATION_VECTORS(scalar, name, alignment2, alignment4) \
  struct alignas(alignment2) name##2 { scalar x, y; };                  \
  struct alignas(alignment4) name##4 { scalar x, y, z, w; };            \
  inline name##2 make_##name##2(scalar x, scalar y) { return {x, y}; }  \
  inline name##4 make_##name##4(scalar x, scalar y, scalar z, scalar w) { return {x, y, z, w}; }

MEDKERN_EMULATION_VECTORS(float, float, 8, 16)
MEDKERN_EMULATION_VECTORS(double, double, 16, 16)
MEDKERN_EMULATION_VECTORS(int, int, 8, 16)
MEDKERN_EMULATION_VECTORS(unsigned, uint, 8, 16)
MEDKERN_EMULATION_VECTORS(short, short, 4, 8)
MEDKERN_EMULATION_VECTORS(unsigned short, ushort, 4, 8)
MEDKERN_EMULATION_VECTORS(unsigned char, uchar, 2, 4)
#undef MEDKERN_EMULATION_VECTORS

struct float3 {
  float x, y, z;
};
struct int3 {
  int x, y, z;
};
inline float3 make_float3(float x, float y, float z) { return {x, y, z}; }
inline int3 make_int3(int x, int y, int z) { return {x, y, z}; }
inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }

}  // namespace medkern::emulation::cuda
