#include "cuda/half_spectrum_device.hpp"

MEDKERN_DEVICE_LIBRARY(m) { medkern::register_half_spectrum<medkern::HalfSpectrumDevice>(m); }
