// Launching truncated Fourier transforms and mode mixing, and their choice by dtype.
#include "for_float_type.cuh"
#include "spectral.cuh"
#include "spectral.hpp"

namespace medkern {

namespace MEDKERN_ISA {

// Where the parts of the workspace start, in elements of C; of 16 bytes at least.
struct DftWorkspace {
  int64_t tables = 0;
  int64_t last = 0;    // [images, rows, modes, 2]: the last axis has its modes
  int64_t middle = 0;  // of volumes: the two last axes have
  int64_t total = 0;

  explicit DftWorkspace(const DftCall& p) {
    int64_t count = 0;
    for (int a = 0; a < p.axes; ++a) count += 2 * (p.size[a] / 2 + 1) * modes_of(p, a);
    const int64_t lines = p.images * 2 * p.modes[p.last()];
    tables = take(count);
    last = take(p.axes >= 2 ? p.rows() * lines : 0);
    middle = take(p.axes >= 3 ? p.size[0] * p.modes[1] * lines : 0);
  }

  // Of which an axis has cosines.
  static int64_t modes_of(const DftCall& p, int axis) {
    return axis == p.last() ? p.modes[axis] : p.modes[axis] / 2 + 1;
  }

 private:
  int64_t take(int64_t count) {
    const int64_t at = total;
    total += (count + 3) / 4 * 4;
    return at;
  }
};

template <class S>
class DeviceDft {
  using C = Compute<S>;

 public:
  DeviceDft(const DftCall& call, bool inverse, void* workspace, Stream stream)
      : p_(call), at_(call), inverse_(inverse), work_(static_cast<C*>(workspace)), stream_(stream) {
    tables_.call = p_;
    tables_.count = 0;
    for (int a = 0; a < p_.axes; ++a) {
      AxisTable& table = tables_.axis[a];
      table = {p_.size[a], p_.grid[a], p_.size[a] / 2 + 1, DftWorkspace::modes_of(p_, a),
               0,          inverse};
      table.first = at_.tables + 2 * tables_.count;
      tables_.count += table.count();
    }
  }

  LaunchError run() {
    MEDKERN_LAUNCH(spectral_tables_fwd_kernel<C>, blocks_for(tables_.count), kThreads, 0, stream_,
                   tables_, work_);
    if (const LaunchError error = launch_error(); !error.ok()) return error;
    return inverse_ ? synthesise() : analyse();
  }

 private:
  template <class Pass>
  LaunchError launch(const Pass& pass, int64_t outputs, int axis) {
    const int64_t blocks = (outputs + kAxisOutputs - 1) / kAxisOutputs *
                           ((pass.columns + kAxisColumns - 1) / kAxisColumns);
    if (blocks > kMostBlocks) return LaunchError("the batch exceeds 2^31 blocks");
    const C* cosines = work_ + tables_.axis[axis].first;
    MEDKERN_LAUNCH(spectral_axis_fwd_kernel<Pass>, static_cast<unsigned>(blocks), kThreads, 0,
                   stream_, pass, cosines, cosines + tables_.axis[axis].count());
    return launch_error();
  }

  LaunchError analyse() {
    const int last = p_.last();
    const int64_t size = p_.size[last], modes = p_.modes[last];
    C* const z = static_cast<C*>(p_.z);
    C* to = last == 0 ? z : work_ + at_.last;
    LaunchError error = launch(
        SamplesToModes<S>{static_cast<const S*>(p_.x), to, p_.images * p_.rows(), size, modes},
        modes, last);
    int64_t inner = 2 * modes;
    for (int a = last - 1; a >= 0 && error.ok(); --a) {
      const C* from = to;
      to = a == 0 ? z : work_ + at_.middle;
      error = launch(full_axis<SamplesToSigned<C>>(from, to, a, inner), p_.modes[a] / 2 + 1, a);
      inner *= p_.modes[a];
    }
    return error;
  }

  LaunchError synthesise() {
    const int last = p_.last();
    const int64_t size = p_.size[last], modes = p_.modes[last];
    const C* from = static_cast<const C*>(p_.z);
    LaunchError error;
    for (int a = 0; a < last && error.ok(); ++a) {
      int64_t inner = 2 * modes;
      for (int b = a + 1; b < last; ++b) inner *= p_.modes[b];
      C* to = work_ + (a + 1 == last ? at_.last : at_.middle);
      error = launch(full_axis<SignedToSamples<C>>(from, to, a, inner), p_.size[a] / 2 + 1, a);
      from = to;
    }
    if (!error.ok()) return error;
    return launch(
        ModesToSamples<S>{from, static_cast<S*>(p_.x), p_.images * p_.rows(), size, modes},
        size / 2 + 1, last);
  }

  // Axes before `axis` have their samples, those after it their modes: `inner` real numbers.
  template <class Pass>
  Pass full_axis(const C* from, C* to, int axis, int64_t inner) const {
    Pass pass;
    pass.from = from;
    pass.to = to;
    pass.columns = p_.images * DftCall::product(p_.size, axis) * inner;
    pass.size = p_.size[axis];
    pass.modes = p_.modes[axis];
    pass.inner = inner;
    return pass;
  }

  const DftCall& p_;
  const DftWorkspace at_;
  const bool inverse_;
  C* const work_;
  const Stream stream_;
  AxisTables tables_;
};

LaunchError launch_rows(const DftCall& p, bool gather, const void* from, void* to, Stream stream) {
  const unsigned blocks = blocks_for(p.images * p.kept_rows() * p.modes[p.last()]);
  if (p.type == FloatType::float64) {
    MEDKERN_LAUNCH(spectral_rows_fwd_kernel<double>, blocks, kThreads, 0, stream, p, gather,
                   static_cast<const double*>(from), static_cast<double*>(to));
  } else {
    MEDKERN_LAUNCH(spectral_rows_fwd_kernel<float>, blocks, kThreads, 0, stream, p, gather,
                   static_cast<const float*>(from), static_cast<float*>(to));
  }
  return launch_error();
}

}  // namespace MEDKERN_ISA

size_t device_dft_workspace(const DftCall& call) {
  const auto elements = static_cast<size_t>(MEDKERN_ISA::DftWorkspace(call).total);
  return elements * (call.type == FloatType::float64 ? sizeof(double) : sizeof(float));
}

LaunchError launch_dft(const DftCall& call, bool inverse, void* workspace, Stream stream) {
  using namespace MEDKERN_ISA;
  if (call.images == 0) return {};
  return for_float_type(call.type, [&](auto zero) {
    return DeviceDft<decltype(zero)>(call, inverse, workspace, stream).run();
  });
}

LaunchError launch_gather_kept(const DftCall& call, const void* spectrum, void* z, Stream stream) {
  return MEDKERN_ISA::launch_rows(call, true, spectrum, z, stream);
}

LaunchError launch_scatter_kept(const DftCall& call, const void* z, void* spectrum, Stream stream) {
  return MEDKERN_ISA::launch_rows(call, false, z, spectrum, stream);
}

LaunchError launch_mix(const MixProblem& p, bool float64, Stream stream) {
  using namespace MEDKERN_ISA;
  const int64_t blocks =
      mix_tiles(p.length / 2, kMixModes) * mix_tiles(p.x, kMixX) * mix_tiles(p.y, kMixY);
  if (blocks > kMostBlocks) return LaunchError("the batch exceeds 2^31 blocks");
  const auto grid = static_cast<unsigned>(blocks);
  if (float64) {
    MEDKERN_LAUNCH(spectral_mix_fwd_kernel<double>, grid, kThreads, 0, stream, p);
  } else {
    MEDKERN_LAUNCH(spectral_mix_fwd_kernel<float>, grid, kThreads, 0, stream, p);
  }
  return launch_error();
}

}  // namespace medkern
