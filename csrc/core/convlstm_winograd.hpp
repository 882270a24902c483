// 3 x 3 ConvLSTM steps in Winograd's form (winograd.hpp), float32: the convolution of x and h,
// whose output transform goes on with the gates, and the convolutions of the backward.
//
// Images are [height, width, channels], channels padded to a multiple of 16; pre-activations
// [height, width, 4, hidden]. Work is cut into blocks of tiles times ranges of panels, a panel
// being 4 vectors of outputs: one vector of channels of the 4 gates, or 4 of consecutive channels.
// Cost: 72 multiplications and additions per tile and pair of channels, a quarter of the direct
// way, and one read and write of the states. Scratch: winograd_scratch floats per thread, within
// the L2 cache.
#pragma once

#include <cstdint>

#include "common/inline.hpp"

namespace medkern {

constexpr int64_t kChannelPadding = 16;
constexpr int kWinogradPoints = 36;
constexpr int kWinogradRecent = 16;

MEDKERN_INLINE int64_t padded_channels(int64_t channels) {
  return (channels + kChannelPadding - 1) / kChannelPadding * kChannelPadding;
}

struct WinogradSource {
  const float* const* image = nullptr;  // one pointer per image
  int64_t channels = 0;                 // padded
};

struct WinogradProblem {
  int64_t images = 0, height = 0, width = 0;
  int sources = 0;
  WinogradSource source[2];  // their channels follow one another in the rows of the weights
  // [panels][36][rows][vectors of the panel]; see winograd_panels
  const float* weights = nullptr;
  int64_t rows = 0, channels = 0;  // of the weights; channels: padded outputs, of one gate if gates
  bool gates = false;              // whether the outputs are 4 gates
  const float* bias = nullptr;     // [channels] or [4, channels]
  const uint8_t* running = nullptr;  // per image: 0 leaves its outputs (steps: copies its states)
  int64_t block = 0;                 // tiles of a block
  // A convolution writes out; a step the others, some of which may be null.
  float* const* out = nullptr;
  bool adds = false;                    // out += instead of out =
  const float* const* given = nullptr;  // summand of the pre-activations, per image
  const float *peephole = nullptr, *h = nullptr,
              *c = nullptr;  // [3, channels], [images, ...] twice
  float *h_out = nullptr, *c_out = nullptr, *pre = nullptr, *total = nullptr;
};

// Tiles [first, last) of all images, in order, times panels [first_panel, last_panel).
struct WinogradPart {
  int64_t first, last, first_panel, last_panel;
};

struct WinogradKernels {
  int64_t vector;  // channels of a vector
  void (*step)(const WinogradProblem&, const WinogradPart&, float* scratch);
  void (*convolution)(const WinogradProblem&, const WinogradPart&, float* scratch);
  // For the gradients `given` of the gates: sums [panels][36][rows][4 vector] over all tiles, block
  // by block, of transformed inputs times gradients; `part` says which panels. `recent`, of the
  // same size, holds those of up to kWinogradRecent blocks, so that a small summand meets no large
  // sum; it may be `sums` where there are no more blocks than these.
  void (*weight_gradient)(const WinogradProblem&, const WinogradPart&, float* scratch,
                          float* recent, float* sums);
  // w [4 hidden, inputs, 3, 3] into rows [at, at + padded inputs) of weights for gates, or into
  // those of the convolution's adjoint, which has 4 padded hidden rows and `inputs` channels.
  void (*forward_weights)(const float* w, int64_t hidden, int64_t inputs, int64_t at, int64_t rows,
                          float* weights);
  void (*adjoint_weights)(const float* w, int64_t hidden, int64_t inputs, float* weights);
  // The adjoint of forward_weights: d_w from such sums.
  void (*forward_weights_adjoint)(const float* sums, int64_t hidden, int64_t inputs, int64_t at,
                                  int64_t rows, float* d_w);
  // Channels of one image, `step` apart, pixels `pixel` apart, to and from padded channels-last.
  void (*pack)(const float* from, int64_t channels, int64_t pixels, int64_t step, int64_t pixel,
               float* to);
  void (*unpack)(const float* from, int64_t channels, int64_t pixels, int64_t step, int64_t pixel,
                 bool adds, float* to);
};

// For the instruction set in use.
WinogradKernels winograd_kernels();

MEDKERN_INLINE int64_t winograd_tiles(const WinogradProblem& p) {
  return p.images * ((p.height + 3) / 4) * ((p.width + 3) / 4);
}

MEDKERN_INLINE int64_t winograd_panels(const WinogradProblem& p, int64_t vector) {
  return p.gates ? p.channels / vector : (p.channels / vector + 3) / 4;
}

// Floats between the 36 points of an array; the odd line keeps them out of each other's cache set.
MEDKERN_INLINE int64_t winograd_step(int64_t tiles, int64_t channels) {
  return tiles * channels + kChannelPadding;
}

// The transformed inputs and products of a block, results of one tile, and a row of zeros.
MEDKERN_INLINE int64_t winograd_scratch(const WinogradProblem& p, int64_t vector) {
  return kWinogradPoints * (winograd_step(p.block, p.rows) + winograd_step(p.block, 4 * vector)) +
         64 * vector + p.rows + kChannelPadding;
}

}  // namespace medkern
