#include "core/euclidean_kernels.hpp"
#include "isa/selector.hpp"

MEDKERN_SELECTOR(EuclideanKernels, euclidean_kernels, (int label_bytes, bool wide),
                 (label_bytes, wide))
