// Whether this machine has the instruction set that a test is compiled for (MEDKERN_ISA).
#pragma once

#include <string>

#include "isa/isa.hpp"

#define MEDKERN_TEXT_OF(name) #name
#define MEDKERN_TEXT(name) MEDKERN_TEXT_OF(name)

namespace medkern::test {

constexpr int kSkipped = 77;

inline bool has_this_isa() {
  const std::string have = std::string(" ") + medkern_isas() + " ";
  return have.find(std::string(" ") + MEDKERN_TEXT(MEDKERN_ISA) + " ") != std::string::npos;
}

}  // namespace medkern::test
