// The determinant of three columns, and its slopes.
#pragma once

#include "common/inline.hpp"

namespace medkern::MEDKERN_ISA {

template <class C>
struct FieldVector {
  C z, y, x;
};

template <class C>
MEDKERN_INLINE FieldVector<C> cross(const FieldVector<C>& a, const FieldVector<C>& b) {
  return {a.y * b.x - a.x * b.y, a.x * b.z - a.z * b.x, a.z * b.y - a.y * b.z};
}

template <class C>
MEDKERN_INLINE C dot(const FieldVector<C>& a, const FieldVector<C>& b) {
  return a.z * b.z + a.y * b.y + a.x * b.x;
}

}  // namespace medkern::MEDKERN_ISA
