// Winograd's convolutions and ConvLSTM steps on padded channels-last tensors: checks and threads.
// medkern/ops/convlstm_winograd.py runs the loops.
#include "core/convlstm_winograd.hpp"

#include <memory>
#include <new>
#include <vector>

#include "binding/tensor.hpp"
#include "binding/threads.hpp"

namespace medkern {
namespace {

using MaybeTensor = std::optional<Tensor>;

struct AlignedDelete {
  void operator()(float* p) const { ::operator delete[](p, std::align_val_t(64)); }
};
using Scratch = std::unique_ptr<float[], AlignedDelete>;

Scratch scratch_of(int64_t count) {
  const size_t bytes = static_cast<size_t>(count) * sizeof(float);
  return Scratch(static_cast<float*>(::operator new[](bytes, std::align_val_t(64))));
}

float* floats_of(const Tensor& t) {
  STD_TORCH_CHECK(t.scalar_type() == ScalarType::Float, "Winograd's form takes float32");
  return static_cast<float*>(t.data_ptr());
}

// Images [N, H, W, channels] with contiguous images.
float* images_of(const Tensor& t, const Tensor& like, int64_t channels) {
  STD_TORCH_CHECK(t.dim() == 4 && t.size(0) == like.size(0) && t.size(1) == like.size(1) &&
                      t.size(2) == like.size(2) && t.size(3) == channels && t.stride(3) == 1 &&
                      t.stride(2) == channels && t.stride(1) == channels * t.size(2),
                  "images must be [N, H, W, ", channels, "], contiguous");
  STD_TORCH_CHECK(channels % kChannelPadding == 0, "channels must be padded");
  return floats_of(t);
}

std::vector<const float*> pointers_of(const Tensor& t, const Tensor& like, int64_t channels) {
  const float* first = images_of(t, like, channels);
  std::vector<const float*> pointers;
  for (int64_t i = 0; i < t.size(0); ++i) pointers.push_back(first + i * t.stride(0));
  return pointers;
}

const float* whole(const MaybeTensor& t, const Tensor& like, int64_t channels) {
  if (!t) return nullptr;
  const float* first = images_of(*t, like, channels);
  STD_TORCH_CHECK(t->size(0) <= 1 || t->stride(0) == channels * t->size(1) * t->size(2),
                  "states must be contiguous");
  return first;
}

const float* vector_of(const MaybeTensor& t, int64_t count) {
  if (!t) return nullptr;
  STD_TORCH_CHECK(t->numel() == count && t->stride(t->dim() - 1) == 1, "a vector must hold ", count,
                  " numbers");
  return floats_of(*t);
}

const uint8_t* running_of(const MaybeTensor& t, int64_t images) {
  if (!t) return nullptr;
  STD_TORCH_CHECK(t->scalar_type() == ScalarType::Bool && t->numel() == images &&
                      (images <= 1 || t->stride(0) == 1),
                  "running must be one bool per image");
  return static_cast<const uint8_t*>(t->data_ptr());
}

// The most tiles of a block. Weights are read once per block and transformed inputs once per panel:
// where inputs and products fit into half of a usual L2 cache, and with them 36 tiles or more, that
// is best; else blocks of 64 balance the two streams.
int64_t largest_block(const WinogradProblem& p, int64_t vector) {
  constexpr int64_t kCacheFloats = 160 * 1024;
  const int64_t fits = kCacheFloats / (kWinogradPoints * (p.rows + 4 * vector));
  return fits < 36 ? 64 : std::min<int64_t>(fits, 96);
}

// As many blocks as threads can share evenly.
int64_t block_of(const WinogradProblem& p, int64_t vector, int threads) {
  const int64_t tiles = winograd_tiles(p), most = largest_block(p, vector) * threads;
  const int64_t rounds = (tiles + most - 1) / most;
  const int64_t even = (tiles + rounds * threads - 1) / (rounds * threads);
  return std::min(tiles, (even + 5) / 6 * 6);
}

template <class Kernel>
void run(WinogradProblem& p, const WinogradKernels& kernels, Kernel kernel) {
  const int64_t tiles = winograd_tiles(p);
  if (tiles == 0) return;
  const TorchThreads parallel;
  p.block = block_of(p, kernels.vector, parallel.threads());
  const int64_t blocks = (tiles + p.block - 1) / p.block;
  const int64_t panels = winograd_panels(p, kernels.vector);
  // Few blocks are shared by panels; every part transforms its inputs again.
  const int64_t cuts = std::clamp<int64_t>((parallel.threads() + blocks - 1) / blocks, 1,
                                           std::max<int64_t>(panels, 1));
  parallel.run(blocks * cuts, 1, [&](int64_t begin, int64_t end) {
    const Scratch scratch = scratch_of(winograd_scratch(p, kernels.vector));
    for (int64_t i = begin; i < end; ++i) {
      const int64_t block = i / cuts, cut = i % cuts;
      const WinogradPart part{block * p.block, std::min(tiles, (block + 1) * p.block),
                              cut * panels / cuts, (cut + 1) * panels / cuts};
      kernel(p, part, scratch.get());
    }
  });
}

int64_t weight_rows(const Tensor& w) {
  STD_TORCH_CHECK(w.dim() == 4 && w.size(0) % 4 == 0 && w.size(2) == 3 && w.size(3) == 3,
                  "weights must be [4 hidden, inputs, 3, 3]");
  return padded_channels(w.size(1));
}

// [36, rows, 4 padded hidden] numbers of w, and of w2 below it; or of the adjoint of w.
Tensor weights(const Tensor& w, const MaybeTensor& w2, bool adjoint) {
  const WinogradKernels kernels = winograd_kernels();
  const int64_t hidden = w.size(0) / 4, columns = 4 * padded_channels(hidden);
  const int64_t first = weight_rows(w), rows = first + (w2 ? weight_rows(*w2) : 0);
  const Tensor out = empty_strided(w, {kWinogradPoints, rows, columns},
                                   {rows * columns, columns, 1}, ScalarType::Float);
  const Tensor given = torch::stable::contiguous(w);
  if (adjoint) {
    kernels.adjoint_weights(floats_of(given), hidden, w.size(1), floats_of(out));
    return out;
  }
  kernels.forward_weights(floats_of(given), hidden, w.size(1), 0, rows, floats_of(out));
  if (w2) {
    STD_TORCH_CHECK(w2->size(0) == w.size(0), "both weights must have the same gates");
    const Tensor second = torch::stable::contiguous(*w2);
    kernels.forward_weights(floats_of(second), hidden, w2->size(1), first, rows, floats_of(out));
  }
  return out;
}

WinogradProblem problem_on(const Tensor& images) {
  WinogradProblem p;
  p.images = images.size(0);
  p.height = images.size(1);
  p.width = images.size(2);
  return p;
}

// Of weights [36, rows, columns].
void set_weights(WinogradProblem& p, const Tensor& w, bool adjoint) {
  STD_TORCH_CHECK(w.dim() == 3 && w.size(0) == kWinogradPoints,
                  "weights must be [36, rows, columns]");
  p.weights = floats_of(w);
  p.rows = adjoint ? w.size(2) : w.size(1);
  p.channels = adjoint ? w.size(1) : w.size(2) / 4;
  p.gates = !adjoint;
}

// out [N, H, W, outputs] = the convolution of x, or its adjoint, with bias.
void convolution(const Tensor& x, const Tensor& w, const MaybeTensor& bias,
                 const MaybeTensor& running, bool adjoint, const Tensor& out) {
  WinogradProblem p = problem_on(x);
  set_weights(p, w, adjoint);
  const int64_t width = p.gates ? 4 * p.channels : p.channels;
  const auto images = pointers_of(x, out, p.rows);
  p.sources = 1;
  p.source[0] = {images.data(), p.rows};
  p.bias = vector_of(bias, width);
  p.running = running_of(running, p.images);
  float* first = images_of(out, x, width);
  std::vector<float*> outs;
  for (int64_t i = 0; i < p.images; ++i) outs.push_back(first + i * out.stride(0));
  p.out = outs.data();
  const WinogradKernels kernels = winograd_kernels();
  run(p, kernels, kernels.convolution);
}

// One step of all sequences; given and given2 hold the input's part of the pre-activations of the
// first and the second half of them.
void step(const MaybeTensor& x, const MaybeTensor& given, const MaybeTensor& given2,
          const MaybeTensor& h, const Tensor& w, const MaybeTensor& bias,
          const MaybeTensor& peephole, const MaybeTensor& running, const MaybeTensor& c,
          const Tensor& h_out, const Tensor& c_out, const MaybeTensor& pre,
          const MaybeTensor& total) {
  WinogradProblem p = problem_on(h_out);
  set_weights(p, w, false);
  const int64_t hidden = p.channels;
  std::vector<const float*> images, states, summands;
  if (x) {
    images = pointers_of(*x, h_out, x->size(3));
    p.source[p.sources++] = {images.data(), x->size(3)};
  }
  if (h) {
    states = pointers_of(*h, h_out, hidden);
    p.source[p.sources++] = {states.data(), hidden};
  }
  const int64_t rows = (x ? x->size(3) : 0) + hidden;
  STD_TORCH_CHECK(rows == p.rows, "the weights must have ", rows, " rows");
  for (const MaybeTensor* part : {&given, &given2}) {
    if (!*part) continue;
    const auto more = pointers_of(**part, **part, 4 * hidden);
    STD_TORCH_CHECK((*part)->size(1) == p.height && (*part)->size(2) == p.width,
                    "the given part must have the space of the states");
    summands.insert(summands.end(), more.begin(), more.end());
  }
  STD_TORCH_CHECK(summands.empty() || static_cast<int64_t>(summands.size()) == p.images,
                  "the given part must have one image per state");
  p.given = summands.empty() ? nullptr : summands.data();
  p.bias = vector_of(bias, 4 * hidden);
  p.peephole = vector_of(peephole, 3 * hidden);
  p.running = running_of(running, p.images);
  p.h = whole(h, h_out, hidden);
  p.c = whole(c, h_out, hidden);
  p.h_out = const_cast<float*>(whole(h_out, h_out, hidden));
  p.c_out = const_cast<float*>(whole(c_out, h_out, hidden));
  p.pre = const_cast<float*>(whole(pre, h_out, 4 * hidden));
  p.total = const_cast<float*>(whole(total, h_out, hidden));
  const WinogradKernels kernels = winograd_kernels();
  run(p, kernels, kernels.step);
}

// d_w [4 hidden, inputs, 3, 3], and d_w2 of second inputs, from the gradient of the gates
// [N, H, W, 4 padded hidden].
void weight_gradient(const Tensor& x, const MaybeTensor& x2, const Tensor& grad, const Tensor& d_w,
                     const MaybeTensor& d_w2) {
  WinogradProblem p = problem_on(grad);
  const auto inputs = pointers_of(x, grad, weight_rows(d_w));
  p.source[p.sources++] = {inputs.data(), weight_rows(d_w)};
  std::vector<const float*> more;
  if (x2) {
    STD_TORCH_CHECK(d_w2.has_value(), "two inputs must have two weights");
    more = pointers_of(*x2, grad, weight_rows(*d_w2));
    p.source[p.sources++] = {more.data(), weight_rows(*d_w2)};
  }
  const int64_t hidden = d_w.size(0) / 4;
  p.channels = padded_channels(hidden);
  p.gates = true;
  p.rows = p.source[0].channels + p.source[1].channels;
  const auto grads = pointers_of(grad, grad, 4 * p.channels);
  p.given = grads.data();
  const WinogradKernels kernels = winograd_kernels();
  // The order of the sums must not depend on the threads, hence neither must the block.
  p.block = std::min<int64_t>(std::max<int64_t>(winograd_tiles(p), 1), 64);
  const int64_t count = kWinogradPoints * p.rows * 4 * p.channels;
  const bool many = winograd_tiles(p) > kWinogradRecent * p.block;
  const Scratch sums = scratch_of(count), more_sums = scratch_of(many ? count : 0);
  float* const recent = many ? more_sums.get() : sums.get();
  TorchThreads().run(winograd_panels(p, kernels.vector), 1, [&](int64_t begin, int64_t end) {
    const Scratch scratch = scratch_of(winograd_scratch(p, kernels.vector));
    kernels.weight_gradient(p, {0, 0, begin, end}, scratch.get(), recent, sums.get());
  });
  kernels.forward_weights_adjoint(sums.get(), hidden, d_w.size(1), 0, p.rows, floats_of(d_w));
  if (x2) {
    kernels.forward_weights_adjoint(sums.get(), hidden, d_w2->size(1), p.source[0].channels, p.rows,
                                    floats_of(*d_w2));
  }
}

// Calls body(image, first pixel, pixels) in pieces.
template <class Body>
void each_piece(int64_t images, int64_t pixels, int64_t channels, const Body& body) {
  constexpr int64_t kPiece = 1024;
  const int64_t pieces = (pixels + kPiece - 1) / kPiece;
  parallel_units(images * pieces, kPiece * channels, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = (i % pieces) * kPiece;
      body(i / pieces, first, std::min(kPiece, pixels - first));
    }
  });
}

// The step between pixels of t [N, C, H, W].
int64_t pixel_step(const Tensor& t) {
  STD_TORCH_CHECK(t.dim() == 4 && (t.size(2) <= 1 || t.stride(2) == t.size(3) * t.stride(3)),
                  "planes must be [N, C, H, W] with one step between pixels");
  return t.stride(3);
}

void pack(const Tensor& from, const Tensor& to) {
  const WinogradKernels kernels = winograd_kernels();
  const int64_t channels = from.size(1), pixels = from.size(2) * from.size(3);
  const int64_t pixel = pixel_step(from), padded = padded_channels(channels);
  const float* source = floats_of(from);
  float* target = images_of(to, to, padded);
  STD_TORCH_CHECK(to.size(0) == from.size(0) && to.size(1) * to.size(2) == pixels,
                  "both must hold the same images");
  each_piece(from.size(0), pixels, padded, [&](int64_t image, int64_t first, int64_t count) {
    kernels.pack(source + image * from.stride(0) + first * pixel, channels, count, from.stride(1),
                 pixel, target + image * to.stride(0) + first * padded);
  });
}

void unpack(const Tensor& from, bool adds, const Tensor& to) {
  const WinogradKernels kernels = winograd_kernels();
  const int64_t channels = to.size(1), pixels = to.size(2) * to.size(3);
  const int64_t pixel = pixel_step(to), padded = padded_channels(channels);
  const float* source = images_of(from, from, padded);
  float* target = floats_of(to);
  STD_TORCH_CHECK(to.size(0) == from.size(0) && from.size(1) * from.size(2) == pixels,
                  "both must hold the same images");
  each_piece(to.size(0), pixels, padded, [&](int64_t image, int64_t first, int64_t count) {
    kernels.unpack(source + image * from.stride(0) + first * padded, channels, count, to.stride(1),
                   pixel, adds, target + image * to.stride(0) + first * pixel);
  });
}

}  // namespace
}  // namespace medkern

STABLE_TORCH_LIBRARY_IMPL(medkern, CPU, m) {
  m.impl("_winograd_weights", TORCH_BOX(&medkern::weights));
  m.impl("_winograd_convolution_", TORCH_BOX(&medkern::convolution));
  m.impl("_winograd_step_", TORCH_BOX(&medkern::step));
  m.impl("_winograd_weight_gradient_", TORCH_BOX(&medkern::weight_gradient));
  m.impl("_winograd_pack_", TORCH_BOX(&medkern::pack));
  m.impl("_winograd_unpack_", TORCH_BOX(&medkern::unpack));
}
