// The test kernels compiled by nvcc: what runs under emulation is CUDA C++.
#include "kernels.cuh"

namespace medkern::MEDKERN_ISA {

template <class Kernel, class... Arguments>
LaunchError compile(Kernel kernel, Stream stream, Arguments... arguments) {
  if (const LaunchError error = allow_dynamic_shared(kernel, 100 * 1024); !error.ok()) return error;
  MEDKERN_LAUNCH(kernel, dim3(2, 3), dim3(32, 4), 100 * 1024, stream, arguments...);
  return launch_error();
}

// Never called.
void compile_all(Stream stream, int* i, float* f, double* d, uint8_t* u, Splat* s, Half* h,
                 BFloat16* b, unsigned* n, unsigned long long* w) {
  compile(sum_kernel<float>, stream, f, 1, d);
  compile(last_block_kernel, stream, f, f, n, f);
  compile(transpose_kernel<uint8_t>, stream, u, 1, 1, u);
  compile(transpose_kernel<double>, stream, d, 1, 1, d);
  compile(scan_kernel<8>, stream, i, i);
  compile(histogram_kernel, stream, u, 1, 1, n);
  compile(raster_kernel<16>, stream, s, 1, 1, 1, f);
  compile(box_kernel<float>, stream, f, Extents{1, 1, 1}, f);
  compile(pipeline_kernel<float, 4>, stream, f, 1, f);
  compile(pipeline_kernel<double, 8>, stream, d, 1, d);
  compile(votes_kernel, stream, i, i);
  compile(mma_kernel<Half>, stream, h, h, f, f);
  compile(mma_kernel<BFloat16>, stream, b, b, f, f);
  compile(atomics_kernel, stream, i, w, f);
  MEDKERN_LAUNCH((pipeline_kernel<float, 16>), 1, 64, 0, stream, f, 1, f);
}

}  // namespace medkern::MEDKERN_ISA
