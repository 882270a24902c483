// The Winograd kernels of ConvLSTM on every instruction set against convolutions by definition.
#include "core/convlstm_winograd.hpp"
#include "kernel_test.hpp"

using namespace medkern;
using namespace medkern::test;

namespace {

using Floats = Exact<float>;

struct Case {
  int64_t images, height, width, inputs, hidden;

  int64_t pixels() const { return height * width; }
  std::string name() const {
    return std::to_string(height) + "x" + std::to_string(width) + ", " + std::to_string(inputs) +
           " inputs, " + std::to_string(hidden) + " hidden";
  }
};

void fill(Floats& values, uint64_t seed) {
  Random random{seed};
  for (size_t i = 0; i < values.size(); ++i) values.set(i, random.uniform() - 0.5);
}

// Planes [images, channels, pixels] as padded images, packed one by one.
struct Packed {
  int64_t padded;
  Floats values;
  std::vector<float*> images;

  Packed(const Case& c, int64_t channels)
      : padded(padded_channels(channels)), values(c.images * c.pixels() * padded) {
    for (int64_t i = 0; i < c.images; ++i) {
      images.push_back(values.get() + i * c.pixels() * padded);
    }
  }
  Packed(const Case& c, int64_t channels, const Floats& planes) : Packed(c, channels) {
    for (int64_t i = 0; i < c.images; ++i) {
      winograd_kernels().pack(planes.get() + i * channels * c.pixels(), channels, c.pixels(),
                              c.pixels(), 1, images[i]);
    }
  }
  float at(const Case& c, int64_t image, int64_t pixel, int64_t channel) const {
    return values[(image * c.pixels() + pixel) * padded + channel];
  }
};

// sum_taps w[out][in][tap] x[in][pixel + tap]; the transposed kernel with `adjoint`.
double convolved(const Case& c, const Floats& x, const Floats& w, int64_t channels, int64_t image,
                 int64_t pixel, int64_t out, bool adjoint) {
  double sum = 0;
  const int64_t y = pixel / c.width, left = pixel % c.width;
  for (int64_t in = 0; in < channels; ++in) {
    for (int64_t tap = 0; tap < 9; ++tap) {
      const int64_t row = y + tap / 3 - 1, column = left + tap % 3 - 1;
      if (row < 0 || row >= c.height || column < 0 || column >= c.width) continue;
      const double value = x.value((image * channels + in) * c.pixels() + row * c.width + column);
      const int64_t at =
          adjoint ? (in * c.inputs + out) * 9 + 8 - tap : (out * channels + in) * 9 + tap;
      sum += value * w.value(at);
    }
  }
  return sum;
}

template <class Kernel>
void run(WinogradProblem& p, Kernel kernel) {
  const WinogradKernels kernels = winograd_kernels();
  p.block = 5;  // the last is cut short
  const int64_t tiles = winograd_tiles(p), blocks = (tiles + p.block - 1) / p.block;
  const int64_t panels = winograd_panels(p, kernels.vector);
  in_two_threads(blocks, [&](int64_t begin, int64_t end) {
    Floats scratch(winograd_scratch(p, kernels.vector), true);
    for (int64_t i = begin; i < end; ++i) {
      kernel(p, {i * p.block, std::min(tiles, (i + 1) * p.block), 0, panels}, scratch.get());
    }
  });
}

WinogradProblem problem(const Case& c) {
  WinogradProblem p;
  p.images = c.images;
  p.height = c.height;
  p.width = c.width;
  return p;
}

// The 4 gates of an input, its adjoint, and the gradient of the weights.
void check_convolutions(const Case& c) {
  const WinogradKernels kernels = winograd_kernels();
  const int64_t gates = 4 * c.hidden, padded = padded_channels(c.hidden);
  const int64_t rows = padded_channels(c.inputs), count = kWinogradPoints * rows * 4 * padded;
  Floats x(c.images * c.inputs * c.pixels()), y(c.images * gates * c.pixels());
  Floats w(gates * c.inputs * 9), weights(count), adjoint(count), recent(count), sums(count),
      d_w(w.size());
  fill(x, 1);
  fill(y, 2);
  fill(w, 3);
  const Packed inputs(c, c.inputs, x);
  kernels.forward_weights(w.get(), c.hidden, c.inputs, 0, rows, weights.get());
  kernels.adjoint_weights(w.get(), c.hidden, c.inputs, adjoint.get());

  WinogradProblem p = problem(c);
  p.sources = 1;
  p.source[0] = {inputs.images.data(), rows};
  p.weights = weights.get();
  p.rows = rows;
  p.channels = padded;
  p.gates = true;
  Packed out(c, 4 * padded);
  p.out = out.images.data();
  run(p, kernels.convolution);
  for (int64_t image = 0; image < c.images; ++image) {
    for (int64_t pixel = 0; pixel < c.pixels(); ++pixel) {
      for (int64_t gate = 0; gate < 4; ++gate) {
        for (int64_t channel = 0; channel < padded; ++channel) {
          const double want = channel < c.hidden ? convolved(c, x, w, c.inputs, image, pixel,
                                                             gate * c.hidden + channel, false)
                                                 : 0;
          check_near(out.at(c, image, pixel, gate * padded + channel), want, 2e-5,
                     "convolution of " + c.name());
        }
      }
    }
  }

  // Gradients of the gates, each gate padded by itself.
  Packed grads(c, 4 * padded);
  for (int64_t image = 0; image < c.images; ++image) {
    for (int64_t gate = 0; gate < 4; ++gate) {
      for (int64_t i = 0; i < c.hidden * c.pixels(); ++i) {
        const int64_t channel = i / c.pixels(), pixel = i % c.pixels();
        grads.values[(image * c.pixels() + pixel) * 4 * padded + gate * padded + channel] =
            y[(image * gates + gate * c.hidden + channel) * c.pixels() + pixel];
      }
    }
  }
  WinogradProblem back = problem(c);
  back.sources = 1;
  back.source[0] = {grads.images.data(), 4 * padded};
  back.weights = adjoint.get();
  back.rows = 4 * padded;
  back.channels = rows;
  Packed d_x(c, c.inputs);
  back.out = d_x.images.data();
  back.adds = true;  // to zeros
  run(back, kernels.convolution);
  for (int64_t image = 0; image < c.images; ++image) {
    for (int64_t pixel = 0; pixel < c.pixels(); ++pixel) {
      for (int64_t channel = 0; channel < c.inputs; ++channel) {
        check_near(d_x.at(c, image, pixel, channel),
                   convolved(c, y, w, gates, image, pixel, channel, true), 5e-5,
                   "adjoint of " + c.name());
      }
    }
  }

  p.given = grads.images.data();
  p.block = std::min<int64_t>(winograd_tiles(p), 3);
  in_two_threads(winograd_panels(p, kernels.vector), [&](int64_t begin, int64_t end) {
    Floats scratch(winograd_scratch(p, kernels.vector), true);
    kernels.weight_gradient(p, {0, 0, begin, end}, scratch.get(), recent.get(), sums.get());
  });
  kernels.forward_weights_adjoint(sums.get(), c.hidden, c.inputs, 0, rows, d_w.get());
  for (int64_t out_channel = 0; out_channel < gates; ++out_channel) {
    for (int64_t in = 0; in < c.inputs; ++in) {
      for (int64_t tap = 0; tap < 9; ++tap) {
        double want = 0;
        for (int64_t image = 0; image < c.images; ++image) {
          for (int64_t pixel = 0; pixel < c.pixels(); ++pixel) {
            const int64_t row = pixel / c.width + tap / 3 - 1;
            const int64_t column = pixel % c.width + tap % 3 - 1;
            if (row < 0 || row >= c.height || column < 0 || column >= c.width) continue;
            want += y.value((image * gates + out_channel) * c.pixels() + pixel) *
                    x.value((image * c.inputs + in) * c.pixels() + row * c.width + column);
          }
        }
        check_near(d_w.value((out_channel * c.inputs + in) * 9 + tap), want, 5e-5,
                   "weight gradient of " + c.name());
      }
    }
  }
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// A step from x and h, of which the last image rests.
void check_step(const Case& c) {
  const WinogradKernels kernels = winograd_kernels();
  const int64_t padded = padded_channels(c.hidden), first = padded_channels(c.inputs);
  const int64_t rows = first + padded, gates = 4 * c.hidden;
  Floats x(c.images * c.inputs * c.pixels()), h(c.images * c.hidden * c.pixels());
  Floats state(h.size()), w_x(gates * c.inputs * 9), w_h(gates * c.hidden * 9);
  Floats weights(kWinogradPoints * rows * 4 * padded), bias(4 * padded), peephole(3 * padded);
  fill(x, 1);
  fill(h, 2);
  fill(state, 3);
  fill(w_x, 4);
  fill(w_h, 5);
  fill(bias, 6);
  fill(peephole, 7);
  kernels.forward_weights(w_x.get(), c.hidden, c.inputs, 0, rows, weights.get());
  kernels.forward_weights(w_h.get(), c.hidden, c.hidden, first, rows, weights.get());
  const Packed inputs(c, c.inputs, x), states(c, c.hidden, h), cells(c, c.hidden, state);
  Packed h_out(c, c.hidden), c_out(c, c.hidden), total(c, c.hidden), pre(c, 4 * padded);
  Exact<uint8_t> running(c.images);
  for (int64_t i = 0; i < c.images; ++i) running[i] = c.images == 1 || i + 1 < c.images;
  WinogradProblem p = problem(c);
  p.sources = 2;
  p.source[0] = {inputs.images.data(), first};
  p.source[1] = {states.images.data(), padded};
  p.weights = weights.get();
  p.rows = rows;
  p.channels = padded;
  p.gates = true;
  p.bias = bias.get();
  p.peephole = peephole.get();
  p.running = running.get();
  p.h = states.values.get();
  p.c = cells.values.get();
  p.h_out = h_out.values.get();
  p.c_out = c_out.values.get();
  p.pre = pre.values.get();
  p.total = total.values.get();
  run(p, kernels.step);
  for (int64_t image = 0; image < c.images; ++image) {
    for (int64_t pixel = 0; pixel < c.pixels(); ++pixel) {
      for (int64_t channel = 0; channel < c.hidden; ++channel) {
        const float got_h = h_out.at(c, image, pixel, channel);
        const float got_c = c_out.at(c, image, pixel, channel);
        const double old = cells.at(c, image, pixel, channel);
        if (running[image] == 0) {
          check(got_c == cells.at(c, image, pixel, channel) &&
                    got_h == states.at(c, image, pixel, channel),
                "the states of what rests");
          continue;
        }
        double a[4], peep[3];
        for (int64_t gate = 0; gate < 4; ++gate) {
          const int64_t out = gate * c.hidden + channel;
          a[gate] = convolved(c, x, w_x, c.inputs, image, pixel, out, false) +
                    convolved(c, h, w_h, c.hidden, image, pixel, out, false) +
                    bias.value(gate * padded + channel);
          check_near(pre.at(c, image, pixel, gate * padded + channel), a[gate], 5e-5,
                     "pre-activations of " + c.name());
          if (gate < 3) peep[gate] = peephole.value(gate * padded + channel);
        }
        const double cell =
            sigmoid(a[1] + peep[1] * old) * old + sigmoid(a[0] + peep[0] * old) * std::tanh(a[3]);
        const double want = sigmoid(a[2] + peep[2] * cell) * std::tanh(cell);
        check_near(got_c, cell, 5e-5, "cell state of " + c.name());
        check_near(got_h, want, 5e-5, "hidden state of " + c.name());
        check_near(total.at(c, image, pixel, channel), want, 5e-5, "sum of " + c.name());
      }
    }
  }
}

// Every way there and back, at any stride; NaN spoils what it reaches and no more.
void check_layout_and_nan() {
  for (const int64_t channels : {1, 15, 16, 19, 33}) {
    for (const int64_t pixels : {1, 16, 37}) {
      for (const bool last : {false, true}) {
        const int64_t step = last ? 1 : pixels, pixel = last ? channels : 1;
        Floats planes(channels * pixels), back(channels * pixels);
        Floats packed(padded_channels(channels) * pixels);
        fill(planes, 8);
        const WinogradKernels kernels = winograd_kernels();
        kernels.pack(planes.get(), channels, pixels, step, pixel, packed.get());
        kernels.unpack(packed.get(), channels, pixels, step, pixel, false, back.get());
        kernels.unpack(packed.get(), channels, pixels, step, pixel, true, back.get());
        for (size_t i = 0; i < back.size(); ++i) check(back[i] == 2 * planes[i], "there and back");
      }
    }
  }
  const Case c{2, 3, 9, 1, 1};
  Floats x(2 * c.pixels()), w(36), weights(kWinogradPoints * 16 * 64);
  fill(w, 1);
  x.set(0, kNaN);
  const Packed inputs(c, 1, x);
  winograd_kernels().forward_weights(w.get(), 1, 1, 0, 16, weights.get());
  WinogradProblem p = problem(c);
  p.sources = 1;
  p.source[0] = {inputs.images.data(), 16};
  p.weights = weights.get();
  p.rows = p.channels = 16;
  p.gates = true;
  Packed out(c, 64);
  p.out = out.images.data();
  run(p, winograd_kernels().convolution);
  check(std::isnan(out.at(c, 0, 0, 0)), "NaN");
  check(out.at(c, 0, 8, 0) == 0 && out.at(c, 1, 0, 0) == 0, "NaN in its tile");
}

}  // namespace

int main() {
  return on_every_isa([] {
    // One pixel; one row or column; tiles cut short; channels that fill no vector, and two panels.
    for (const Case& c : {Case{1, 1, 1, 1, 1}, Case{2, 1, 7, 3, 2}, Case{1, 9, 1, 2, 17},
                          Case{2, 6, 5, 17, 3}, Case{3, 4, 13, 5, 16}}) {
      check_convolutions(c);
      check_step(c);
    }
    check_layout_and_nan();
  });
}
