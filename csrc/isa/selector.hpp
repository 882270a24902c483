// Joins the variants of a kernel selector, one per instruction set, to the one that callers see.
//
// A family declares `Result selector(params)` in csrc/core/<family>.hpp and defines it in namespace
// medkern::MEDKERN_ISA in what csrc/isa/<family>.cpp includes. MEDKERN_SELECTOR there makes
// medkern::selector, which calls the variant for the instruction set in use; it stands in the
// file's baseline variant only.
#pragma once

#include "isa/isa.hpp"

#if !defined(MEDKERN_DEFINE_SELECTORS)
#define MEDKERN_SELECTOR_OF(isa, Result, selector, params, own, args)
#elif defined(MEDKERN_X86)
#define MEDKERN_SELECTOR_OF(isa, Result, selector, params, own, args) \
  namespace medkern {                                                 \
  namespace avx2 {                                                    \
  Result selector own;                                                \
  }                                                                   \
  namespace avx512 {                                                  \
  Result selector own;                                                \
  }                                                                   \
  Result selector params {                                            \
    switch (isa) {                                                    \
      case Isa::avx512:                                               \
        return avx512::selector args;                                 \
      case Isa::avx2:                                                 \
        return avx2::selector args;                                   \
      default:                                                        \
        return baseline::selector args;                               \
    }                                                                 \
  }                                                                   \
  }
#else
#define MEDKERN_SELECTOR_OF(isa, Result, selector, params, own, args) \
  namespace medkern {                                                 \
  Result selector params { return baseline::selector args; }          \
  }
#endif

// `own` are the parameters of the variants, where they are not those of the selector.
#define MEDKERN_SELECTOR(Result, selector, params, args) \
  MEDKERN_SELECTOR_OF(active_isa(), Result, selector, params, params, args)
