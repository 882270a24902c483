#include "core/geodesic_kernels.hpp"
#include "isa/selector.hpp"

MEDKERN_SELECTOR(GeodesicKernel, geodesic_parents_kernel, (bool float64), (float64))
MEDKERN_SELECTOR(GeodesicKernel, geodesic_solve_kernel, (bool float64), (float64))
