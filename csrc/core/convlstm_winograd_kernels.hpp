// The kernels declared in convlstm_winograd.hpp, compiled once per instruction set.
#pragma once

#include <utility>

#include "common/transpose.hpp"
#include "convlstm_cell.hpp"
#include "convlstm_winograd.hpp"
#include "winograd.hpp"

namespace medkern::MEDKERN_ISA {

// Where a tile is.
struct WinogradTile {
  int64_t image, y, x;  // of its first output

  static MEDKERN_INLINE WinogradTile of(const WinogradProblem& p, int64_t index) {
    const int64_t across = (p.width + 3) / 4, down = (p.height + 3) / 4;
    const int64_t row = index / across;
    return {row / down, 4 * (row % down), 4 * (index % across)};
  }
};

class WinogradRun {
 public:
  static void step(const WinogradProblem& p, const WinogradPart& part, float* scratch) {
    const WinogradRun run(p, part, scratch);
    run.transform_inputs();
    for (int64_t panel = part.first_panel; panel < part.last_panel; ++panel) {
      run.multiply(panel, 4);
      for (int64_t i = 0; i < run.tiles_; ++i) run.finish_step(panel, i);
    }
  }

  static void convolution(const WinogradProblem& p, const WinogradPart& part, float* scratch) {
    const WinogradRun run(p, part, scratch);
    run.transform_inputs();
    const int64_t all = p.gates ? 4 : p.channels / kFloats;
    for (int64_t panel = part.first_panel; panel < part.last_panel; ++panel) {
      const int64_t rest = p.gates ? 4 : all - 4 * panel, vectors = rest < 4 ? rest : 4;
      run.multiply(panel, static_cast<int>(vectors));
      for (int64_t i = 0; i < run.tiles_; ++i) run.finish_convolution(panel, i, vectors);
    }
  }

  static void weight_gradient(const WinogradProblem& p, const WinogradPart& part, float* scratch,
                              float* recent, float* sums) {
    const int64_t size = kWinogradPoints * p.rows * 4 * kFloats;
    const int64_t begin = part.first_panel * size, end = part.last_panel * size;
    for (int64_t i = begin; i < end; ++i) sums[i] = recent[i] = 0;
    const auto settle = [&] {
      if (recent == sums) return;
      for (int64_t i = begin; i < end; ++i) {
        sums[i] += recent[i];
        recent[i] = 0;
      }
    };
    const int64_t tiles = winograd_tiles(p);
    for (int64_t first = 0; first < tiles; first += p.block) {
      if (first % (kWinogradRecent * p.block) == 0) settle();
      WinogradPart block = part;
      block.first = first;
      block.last = tiles - first < p.block ? tiles : first + p.block;
      const WinogradRun run(p, block, scratch);
      run.transform_inputs();
      for (int64_t panel = part.first_panel; panel < part.last_panel; ++panel) {
        for (int64_t i = 0; i < run.tiles_; ++i) run.transform_gradient(panel, i);
        run.add_products(recent + panel * size);
      }
    }
    settle();
  }

 private:
  WinogradRun(const WinogradProblem& p, const WinogradPart& part, float* scratch)
      : p_(p),
        part_(part),
        tiles_(part.last - part.first),
        input_step_(winograd_step(p.block, p.rows)),
        product_step_(winograd_step(p.block, 4 * kFloats)),
        inputs_(scratch),
        products_(inputs_ + kWinogradPoints * input_step_),
        results_(products_ + kWinogradPoints * product_step_),
        zeros_(results_ + 64 * kFloats) {
    for (int64_t i = 0; i < p.rows; ++i) zeros_[i] = 0;
    for (int i = 0; i < p.sources; ++i) inner_ += p.source[i].channels;
  }

  // inputs_[point][tile][channel] = B^T d B
  void transform_inputs() const {
    for (int64_t i = 0; i < tiles_; ++i) {
      const WinogradTile tile = WinogradTile::of(p_, part_.first + i);
      float* to = inputs_ + i * p_.rows;
      for (int s = 0; s < p_.sources; ++s) {
        transform_tile(p_.source[s], tile, to);
        to += p_.source[s].channels;
      }
    }
  }

  void transform_tile(const WinogradSource& source, const WinogradTile& tile, float* to) const {
    const float* from[6][6];
    for (int64_t i = 0; i < 6; ++i) {
      for (int64_t j = 0; j < 6; ++j) {
        const int64_t y = tile.y + i - 1, x = tile.x + j - 1;
        const bool inside = y >= 0 && y < p_.height && x >= 0 && x < p_.width;
        from[i][j] =
            inside ? source.image[tile.image] + (y * p_.width + x) * source.channels : zeros_;
      }
    }
    for (int64_t c = 0; c < source.channels; c += kFloats) {
      Floats half[6][6];
#pragma GCC unroll 6
      for (int j = 0; j < 6; ++j) {
        Floats d[6], o[6];
#pragma GCC unroll 6
        for (int i = 0; i < 6; ++i) d[i] = load<float>(from[i][j] + c);
        winograd_input(d, o);
#pragma GCC unroll 6
        for (int i = 0; i < 6; ++i) half[i][j] = o[i];
      }
#pragma GCC unroll 6
      for (int i = 0; i < 6; ++i) {
        Floats o[6];
        winograd_input(half[i], o);
#pragma GCC unroll 6
        for (int j = 0; j < 6; ++j) store(to + (6 * i + j) * input_step_ + c, o[j]);
      }
    }
  }

  void multiply(int64_t panel, int vectors) const {
    if (inner_ == 0) return;
    switch (vectors) {
      case 1:
        return multiply_panel<1>(panel);
      case 2:
        return multiply_panel<2>(panel);
      case 3:
        return multiply_panel<3>(panel);
      default:
        return multiply_panel<4>(panel);
    }
  }

  // products_[point][tile][column] = sum over rows of inputs times weights
  template <int Vectors>
  void multiply_panel(int64_t panel) const {
    constexpr int rows = kRows<Vectors>, width = Vectors * kFloats;
    const float* weights = p_.weights + panel * kWinogradPoints * p_.rows * 4 * kFloats;
    for (int point = 0; point < kWinogradPoints; ++point) {
      const float* inputs = inputs_ + point * input_step_;
      float* products = products_ + point * product_step_;
      for (int64_t i = 0; i < tiles_; i += rows) {
        // The last rows once more where there are too few: their products are not read.
        const float* a[rows];
        for (int64_t r = 0; r < rows; ++r) {
          a[r] = inputs + (i + r < tiles_ ? i + r : tiles_ - 1) * p_.rows;
        }
        multiply_rows<Vectors>(a, weights + point * p_.rows * width, inner_,
                               products + i * 4 * kFloats, 4 * kFloats);
      }
    }
  }

  // One vector of results of a tile: to[pixel] = A^T m A, 16 pixels `step` apart.
  void transform_output(int64_t i, int64_t vector, float* to, int64_t step) const {
    if (inner_ == 0) {
      for (int pixel = 0; pixel < 16; ++pixel) store(to + pixel * step, Floats{});
      return;
    }
    const float* m = products_ + (i * 4 + vector) * kFloats;
    Floats half[4][6];
#pragma GCC unroll 6
    for (int b = 0; b < 6; ++b) {
      Floats d[6], o[4];
#pragma GCC unroll 6
      for (int a = 0; a < 6; ++a) d[a] = load<float>(m + (6 * a + b) * product_step_);
      winograd_output(d, o);
#pragma GCC unroll 4
      for (int a = 0; a < 4; ++a) half[a][b] = o[a];
    }
#pragma GCC unroll 4
    for (int a = 0; a < 4; ++a) {
      Floats o[4];
      winograd_output(half[a], o);
#pragma GCC unroll 4
      for (int b = 0; b < 4; ++b) store(to + (4 * a + b) * step, o[b]);
    }
  }

  // Calls body(pixel of the image, pixel of the tile) for the pixels inside the image.
  template <class Body>
  MEDKERN_INLINE void each_pixel(const WinogradTile& tile, const Body& body) const {
    const int64_t down = p_.height - tile.y < 4 ? p_.height - tile.y : 4;
    const int64_t across = p_.width - tile.x < 4 ? p_.width - tile.x : 4;
    for (int64_t a = 0; a < down; ++a) {
      for (int64_t b = 0; b < across; ++b) body((tile.y + a) * p_.width + tile.x + b, 4 * a + b);
    }
  }

  bool is_running(int64_t image) const { return !p_.running || p_.running[image] != 0; }

  void finish_convolution(int64_t panel, int64_t i, int64_t vectors) const {
    const WinogradTile tile = WinogradTile::of(p_, part_.first + i);
    if (!is_running(tile.image)) return;
    const int64_t width = p_.gates ? 4 * p_.channels : p_.channels;
    for (int64_t v = 0; v < vectors; ++v) {
      transform_output(i, v, results_, kFloats);
      const int64_t column =
          p_.gates ? v * p_.channels + panel * kFloats : (4 * panel + v) * kFloats;
      const Floats bias = p_.bias ? load<float>(p_.bias + column) : Floats{};
      float* out = p_.out[tile.image] + column;
      each_pixel(tile, [&](int64_t pixel, int64_t at) {
        Floats value = load<float>(results_ + at * kFloats) + bias;
        if (p_.adds) value += load<float>(out + pixel * width);
        store(out + pixel * width, value);
      });
    }
  }

  void finish_step(int64_t panel, int64_t i) const {
    const WinogradTile tile = WinogradTile::of(p_, part_.first + i);
    const int64_t channel = panel * kFloats;
    if (!is_running(tile.image)) return keep_states(tile, channel);
    for (int v = 0; v < 4; ++v) transform_output(i, v, results_ + v * kFloats, 4 * kFloats);
    Floats bias[4], weights[3];
    for (int v = 0; v < 4; ++v) {
      bias[v] = p_.bias ? load<float>(p_.bias + v * p_.channels + channel) : Floats{};
    }
    for (int v = 0; p_.peephole && v < 3; ++v) {
      weights[v] = load<float>(p_.peephole + v * p_.channels + channel);
    }
    const int64_t first = tile.image * p_.height * p_.width;
    const float* given = p_.given ? p_.given[tile.image] + channel : nullptr;
    each_pixel(tile, [&](int64_t pixel, int64_t at) {
      const int64_t state = (first + pixel) * p_.channels + channel;
      const int64_t gates = 4 * (first + pixel) * p_.channels + channel;
      Floats a[4];
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        a[v] = load<float>(results_ + (4 * at + v) * kFloats) + bias[v];
        if (given) a[v] += load<float>(given + (4 * pixel + v) * p_.channels);
        if (p_.pre) store(p_.pre + gates + v * p_.channels, a[v]);
      }
      const Floats old = p_.c ? load<float>(p_.c + state) : Floats{};
      const auto cell = ConvLSTMCell<float>::of(a, old, p_.peephole ? weights : nullptr);
      const Floats h = cell.o * cell.tanh_c;
      store(p_.c_out + state, cell.c);
      store(p_.h_out + state, h);
      if (p_.total) store(p_.total + state, load<float>(p_.total + state) + h);
    });
  }

  void keep_states(const WinogradTile& tile, int64_t channel) const {
    const int64_t first = tile.image * p_.height * p_.width;
    each_pixel(tile, [&](int64_t pixel, int64_t) {
      const int64_t state = (first + pixel) * p_.channels + channel;
      store(p_.c_out + state, p_.c ? load<float>(p_.c + state) : Floats{});
      store(p_.h_out + state, p_.h ? load<float>(p_.h + state) : Floats{});
      for (int v = 0; p_.pre && v < 4; ++v) {
        store(p_.pre + 4 * (first + pixel) * p_.channels + v * p_.channels + channel, Floats{});
      }
    });
  }

  // products_[point][tile][column] = A g A^T
  void transform_gradient(int64_t panel, int64_t i) const {
    const WinogradTile tile = WinogradTile::of(p_, part_.first + i);
    const float* image = p_.given[tile.image] + panel * kFloats;
    for (int64_t v = 0; v < 4; ++v) {
      for (int at = 0; at < 16; ++at) store(results_ + at * kFloats, Floats{});
      each_pixel(tile, [&](int64_t pixel, int64_t at) {
        store(results_ + at * kFloats, load<float>(image + (4 * pixel + v) * p_.channels));
      });
      Floats half[6][4];
      for (int b = 0; b < 4; ++b) {
        Floats y[4], o[6];
        for (int a = 0; a < 4; ++a) y[a] = load<float>(results_ + (4 * a + b) * kFloats);
        winograd_output_adjoint(y, o);
        for (int a = 0; a < 6; ++a) half[a][b] = o[a];
      }
      float* to = products_ + (i * 4 + v) * kFloats;
      for (int a = 0; a < 6; ++a) {
        Floats o[6];
        winograd_output_adjoint(half[a], o);
        for (int b = 0; b < 6; ++b) store(to + (6 * a + b) * product_step_, o[b]);
      }
    }
  }

  void add_products(float* sums) const {
    for (int point = 0; point < kWinogradPoints; ++point) {
      const float* inputs = inputs_ + point * input_step_;
      const float* products = products_ + point * product_step_;
      float* to = sums + point * p_.rows * 4 * kFloats;
      for (int64_t row = 0; row < p_.rows; row += kRows<4>) {
        const int64_t rest = p_.rows - row, count = rest < kRows<4> ? rest : kRows<4>;
        add_outer_products(inputs + row, p_.rows, count, products, tiles_, to + row * 4 * kFloats);
      }
    }
  }

  const WinogradProblem& p_;
  const WinogradPart& part_;
  const int64_t tiles_, input_step_, product_step_;
  int64_t inner_ = 0;
  float *inputs_, *products_, *results_, *zeros_;
};

// G g G^T of one vector of kernels: taps[i][j] holds lane l's g_ij. 36 vectors `step` apart.
inline void winograd_weights_of(const float (&taps)[9][kFloats], float* to, int64_t step) {
  Floats half[6][3];
  for (int j = 0; j < 3; ++j) {
    Floats g[3], o[6];
    for (int i = 0; i < 3; ++i) g[i] = load<float>(taps[3 * i + j]);
    winograd_weight(g, o);
    for (int i = 0; i < 6; ++i) half[i][j] = o[i];
  }
  for (int i = 0; i < 6; ++i) {
    Floats o[6];
    winograd_weight(half[i], o);
    for (int j = 0; j < 6; ++j) store(to + (6 * i + j) * step, o[j]);
  }
}

// The adjoint: taps = G^T u G.
inline void winograd_taps_of(const float* from, int64_t step, float (&taps)[9][kFloats]) {
  Floats half[3][6];
  for (int j = 0; j < 6; ++j) {
    Floats u[6], o[3];
    for (int i = 0; i < 6; ++i) u[i] = load<float>(from + (6 * i + j) * step);
    winograd_weight_adjoint(u, o);
    for (int i = 0; i < 3; ++i) half[i][j] = o[i];
  }
  for (int i = 0; i < 3; ++i) {
    Floats o[3];
    winograd_weight_adjoint(half[i], o);
    for (int j = 0; j < 3; ++j) store(taps[3 * i + j], o[j]);
  }
}

struct WinogradWeights {
  static void forward(const float* w, int64_t hidden, int64_t inputs, int64_t at, int64_t rows,
                      float* weights) {
    const int64_t channels = padded_channels(hidden);
    for (int64_t panel = 0; panel < channels / kFloats; ++panel) {
      for (int64_t row = 0; row < padded_channels(inputs); ++row) {
        for (int64_t gate = 0; gate < 4; ++gate) {
          float taps[9][kFloats];
          for (int64_t lane = 0; lane < kFloats; ++lane) {
            const int64_t channel = panel * kFloats + lane;
            const bool real = channel < hidden && row < inputs;
            const float* g = w + ((gate * hidden + channel) * inputs + row) * 9;
            for (int tap = 0; tap < 9; ++tap) taps[tap][lane] = real ? g[tap] : 0;
          }
          const int64_t column = ((panel * kWinogradPoints * rows + at + row) * 4 + gate) * kFloats;
          winograd_weights_of(taps, weights + column, rows * 4 * kFloats);
        }
      }
    }
  }

  static void forward_adjoint(const float* sums, int64_t hidden, int64_t inputs, int64_t at,
                              int64_t rows, float* d_w) {
    const int64_t step = rows * 4 * kFloats;
    for (int64_t panel = 0; panel < padded_channels(hidden) / kFloats; ++panel) {
      for (int64_t row = 0; row < inputs; ++row) {
        for (int64_t gate = 0; gate < 4; ++gate) {
          float taps[9][kFloats];
          const int64_t column = ((panel * kWinogradPoints * rows + at + row) * 4 + gate) * kFloats;
          winograd_taps_of(sums + column, step, taps);
          for (int64_t lane = 0; lane < kFloats; ++lane) {
            const int64_t channel = panel * kFloats + lane;
            if (channel >= hidden) continue;
            float* g = d_w + ((gate * hidden + channel) * inputs + row) * 9;
            for (int tap = 0; tap < 9; ++tap) g[tap] = taps[tap][lane];
          }
        }
      }
    }
  }

  // The kernels turned by half a turn, from outputs to inputs.
  static void adjoint(const float* w, int64_t hidden, int64_t inputs, float* weights) {
    const int64_t padded = padded_channels(hidden), rows = 4 * padded;
    const int64_t all = padded_channels(inputs) / kFloats;
    for (int64_t vector = 0; vector < all; ++vector) {
      const int64_t panel = vector / 4, rest = all - 4 * panel, vectors = rest < 4 ? rest : 4;
      float* of_panel = weights + panel * kWinogradPoints * rows * 4 * kFloats;
      for (int64_t row = 0; row < rows; ++row) {
        const int64_t gate = row / padded, channel = row % padded;
        float taps[9][kFloats];
        for (int64_t lane = 0; lane < kFloats; ++lane) {
          const int64_t input = vector * kFloats + lane;
          const bool real = channel < hidden && input < inputs;
          const float* g = w + ((gate * hidden + channel) * inputs + input) * 9;
          for (int tap = 0; tap < 9; ++tap) taps[tap][lane] = real ? g[8 - tap] : 0;
        }
        const int64_t column = (row * vectors + vector % 4) * kFloats;
        winograd_weights_of(taps, of_panel + column, rows * vectors * kFloats);
      }
    }
  }
};

// Between planes and channels-last, in squares of kFloats channels and pixels.
struct WinogradLayout {
  static void pack(const float* from, int64_t channels, int64_t pixels, int64_t step, int64_t pixel,
                   float* to) {
    const int64_t padded = padded_channels(channels);
    for (int64_t first = 0; first < pixels; first += kFloats) {
      const int64_t count = pixels - first < kFloats ? pixels - first : kFloats;
      for (int64_t c = 0; c < padded; c += kFloats) {
        const int64_t real = channels - c < kFloats ? channels - c : kFloats;
        float* target = to + first * padded + c;
        if (pixel == 1 && count == kFloats && real == kFloats) {
          Floats v[kFloats];
          for (int i = 0; i < kFloats; ++i) v[i] = load<float>(from + (c + i) * step + first);
          transpose<float>(v);
          for (int i = 0; i < kFloats; ++i) store(target + i * padded, v[i]);
          continue;
        }
        for (int64_t i = 0; i < count; ++i) {
          for (int64_t j = 0; j < kFloats; ++j) {
            target[i * padded + j] = j < real ? from[(c + j) * step + (first + i) * pixel] : 0.0f;
          }
        }
      }
    }
  }

  static void unpack(const float* from, int64_t channels, int64_t pixels, int64_t step,
                     int64_t pixel, bool adds, float* to) {
    const int64_t padded = padded_channels(channels);
    for (int64_t first = 0; first < pixels; first += kFloats) {
      const int64_t count = pixels - first < kFloats ? pixels - first : kFloats;
      for (int64_t c = 0; c < channels; c += kFloats) {
        const int64_t real = channels - c < kFloats ? channels - c : kFloats;
        const float* source = from + first * padded + c;
        if (pixel == 1 && count == kFloats && real == kFloats) {
          Floats v[kFloats];
          for (int i = 0; i < kFloats; ++i) v[i] = load<float>(source + i * padded);
          transpose<float>(v);
          for (int i = 0; i < kFloats; ++i) {
            float* row = to + (c + i) * step + first;
            store(row, adds ? load<float>(row) + v[i] : v[i]);
          }
          continue;
        }
        for (int64_t i = 0; i < count; ++i) {
          for (int64_t j = 0; j < real; ++j) {
            float& target = to[(c + j) * step + (first + i) * pixel];
            target = adds ? target + source[i * padded + j] : source[i * padded + j];
          }
        }
      }
    }
  }
};

WinogradKernels winograd_kernels() {
  return {kFloats,
          WinogradRun::step,
          WinogradRun::convolution,
          WinogradRun::weight_gradient,
          WinogradWeights::forward,
          WinogradWeights::adjoint,
          WinogradWeights::forward_adjoint,
          WinogradLayout::pack,
          WinogradLayout::unpack};
}

}  // namespace medkern::MEDKERN_ISA
