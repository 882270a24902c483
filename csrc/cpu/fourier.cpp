#include "binding/fourier.hpp"

#include <memory>

#include "half_spectrum.hpp"
#include "waves.hpp"

namespace medkern {
namespace {

constexpr int64_t kBinsOfBlock = 8192;

struct Cpu : HalfSpectrumCpu {
  // Calls body(image, first row, last row, top) for blocks of rows, whole images to a thread where
  // there are enough: the pass for the largest value then leaves them in its caches.
  template <class Body>
  static void each_block(const SpectrumProblem& p, bool float64, const SpectrumKernels& kernels,
                         const Body& body) {
    const int64_t columns = spectrum_columns(p.width);
    const int64_t rows = std::max<int64_t>(1, kBinsOfBlock / columns);
    const int64_t blocks = (p.height + rows - 1) / rows;
    const bool looks = p.loss == SpectrumLoss::focal && p.peak == nullptr;
    std::vector<double> tops(static_cast<size_t>(p.images * blocks), 0.0);
    const auto look = [&](int64_t unit) {
      const int64_t image = unit / blocks, first = unit % blocks * rows;
      tops[unit] = kernels.largest(p, image, first, std::min(first + rows, p.height));
    };
    const auto top_of = [&](int64_t image) {
      if (!looks) return p.peak ? peak_of(p, float64, image) : 0.0;
      const auto first = tops.begin() + image * blocks;
      return *std::max_element(first, first + blocks);
    };
    const auto run = [&](int64_t unit, double top) {
      const int64_t image = unit / blocks, first = unit % blocks * rows;
      body(unit, image, first, std::min(first + rows, p.height), top);
    };
    if (p.images >= 2 * TorchThreads().threads()) {
      parallel_units(p.images, columns * p.height, [&](int64_t begin, int64_t end) {
        for (int64_t image = begin; image < end; ++image) {
          for (int64_t i = 0; looks && i < blocks; ++i) look(image * blocks + i);
          const double top = top_of(image);
          for (int64_t i = 0; i < blocks; ++i) run(image * blocks + i, top);
        }
      });
      return;
    }
    if (looks) {
      parallel_units(p.images * blocks, columns * rows, [&](int64_t begin, int64_t end) {
        for (int64_t unit = begin; unit < end; ++unit) look(unit);
      });
    }
    parallel_units(p.images * blocks, columns * rows, [&](int64_t begin, int64_t end) {
      for (int64_t unit = begin; unit < end; ++unit) run(unit, top_of(unit / blocks));
    });
  }

  static double peak_of(const SpectrumProblem& p, bool float64, int64_t image) {
    return float64 ? static_cast<const double*>(p.peak)[image]
                   : static_cast<double>(static_cast<const float*>(p.peak)[image]);
  }

  static void loss(const SpectrumProblem& p, const Tensor& sums) {
    const bool float64 = is_float64(sums);
    const SpectrumKernels kernels = spectrum_kernels(float64, p.loss);
    const int64_t rows = std::max<int64_t>(1, kBinsOfBlock / spectrum_columns(p.width));
    std::vector<double> parts(static_cast<size_t>(p.images * ((p.height + rows - 1) / rows)));
    each_block(p, float64, kernels,
               [&](int64_t unit, int64_t image, int64_t first, int64_t last, double top) {
                 parts[unit] = kernels.sum(p, image, first, last, top);
               });
    float64 ? add_up<double>(p, parts, sums) : add_up<float>(p, parts, sums);
  }

  template <class C>
  static void add_up(const SpectrumProblem& p, const std::vector<double>& parts,
                     const Tensor& sums) {
    const int64_t blocks = p.images ? static_cast<int64_t>(parts.size()) / p.images : 0;
    for (int64_t image = 0; image < p.images; ++image) {
      double total = 0;
      for (int64_t i = 0; i < blocks; ++i) total += parts[image * blocks + i];
      static_cast<C*>(sums.data_ptr())[image] = static_cast<C>(total);
    }
  }

  static void loss_gradient(const SpectrumProblem& p, const Tensor& out) {
    const bool float64 = is_float64(out);
    const SpectrumKernels kernels = spectrum_kernels(float64, p.loss);
    each_block(p, float64, kernels,
               [&](int64_t, int64_t image, int64_t first, int64_t last, double top) {
                 kernels.gradient(p, image, first, last, top);
               });
  }

  static void multiply_by_noise(const NoiseProblem& p, const Tensor& spectrum) {
    const NoiseKernel kernel = noise_kernel(is_float64(spectrum));
    const int64_t row = 2 * spectrum_columns(p.width);
    const auto bytes = static_cast<size_t>(noise_scratch(p.width)) * spectrum.element_size();
    parallel_units(p.images * noise_pairs(p.height), 4 * row, [&](int64_t begin, int64_t end) {
      const std::unique_ptr<std::byte[]> scratch(new std::byte[bytes]);
      kernel(p, begin, end, scratch.get());
    });
  }

  static void analyse(const ModesProblem& p, const Tensor& modes) {
    is_float64(modes) ? analyse_as<double>(p) : analyse_as<float>(p);
  }

  template <class C>
  static void analyse_as(ModesProblem p) {
    const int64_t taken = p.radius + 1;
    const WaveTable<C> across(p.width, taken, spectrum_columns(p.width), p.padded, true);
    const WaveTable<double> down(p.height, taken, p.height, p.height, false);
    set_tables(p, across, down);
    const std::unique_ptr<double[]> rows(
        new double[static_cast<size_t>(p.images * p.height * 2 * p.padded)]);
    p.rows = rows.get();
    const ModesKernels kernels = modes_kernels(sizeof(C) == 8);
    run_rows<C>(p, kernels.analyse_rows);
    parallel_units(p.images, p.height * taken * 16,
                   [&](int64_t begin, int64_t end) { kernels.analyse_columns(p, begin, end); });
  }

  static void synthesise(const ModesProblem& p, const Tensor& out) {
    is_float64(out) ? synthesise_as<double>(p) : synthesise_as<float>(p);
  }

  template <class C>
  static void synthesise_as(ModesProblem p) {
    const int64_t taken = p.radius + 1;
    const WaveTable<C> across(p.width, taken, spectrum_columns(p.width), p.across_stride, false);
    const WaveTable<C> down(p.height, taken, p.height, p.height, false);
    set_tables(p, across, down);
    const std::vector<C> folded = fold<C>(p);
    p.folded = folded.data();
    run_rows<C>(p, modes_kernels(sizeof(C) == 8).synthesise);
  }

  template <class Across, class Down>
  static void set_tables(ModesProblem& p, const Across& across, const Down& down) {
    p.across_cos = across.cosines.data();
    p.across_sin = across.sines.data();
    p.down_cos = down.cosines.data();
    p.down_sin = down.sines.data();
  }

  // Sums and differences of the modes k and -k; the mode 0 has no partner.
  template <class C>
  static std::vector<C> fold(const ModesProblem& p) {
    const int64_t taken = p.radius + 1, plane = taken * p.padded, row = 2 * taken;
    std::vector<C> folded(static_cast<size_t>(p.images * 4 * plane));
    for (int64_t image = 0; image < p.images; ++image) {
      const C* middle = static_cast<const C*>(p.modes) + (image * (2 * taken - 1) + p.radius) * row;
      for (int64_t k = 0; k < taken; ++k) {
        C* to = folded.data() + image * 4 * plane + k * p.padded;
        const C *plus = middle + k * row, *minus = middle - k * row;
        for (int64_t l = 0; l < taken; ++l) {
          for (int part = 0; part < 2; ++part) {
            const C a = plus[2 * l + part], b = k == 0 ? C{} : minus[2 * l + part];
            to[part * plane + l] = a + b;
            to[(2 + part) * plane + l] = a - b;
          }
        }
      }
    }
    return folded;
  }

  template <class C>
  static void run_rows(const ModesProblem& p,
                       void (*kernel)(const ModesProblem&, int64_t, int64_t, void*)) {
    const int64_t work = kModesRows * p.width * (p.radius + 1) / 4;
    parallel_units(p.images * modes_blocks(p.height), work, [&](int64_t begin, int64_t end) {
      const std::unique_ptr<C[]> scratch(new C[static_cast<size_t>(modes_scratch(p))]);
      kernel(p, begin, end, scratch.get());
    });
  }
};

}  // namespace
}  // namespace medkern

STABLE_TORCH_LIBRARY_IMPL(medkern, CPU, m) { MEDKERN_REGISTER_FOURIER(m, medkern::Cpu); }
