// The barrier ops on tensors, for any device: checks, layouts and allocation.
#pragma once

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "binding/tensor.hpp"
#include "core/barrier.hpp"

namespace medkern {

// The arguments that all barrier ops share, contiguous and checked.
class BarrierInputs {
 public:
  BarrierInputs(const Tensor& image, const Tensor& seeds, const std::optional<Tensor>& mask,
                int64_t connectivity, bool vectorial)
      : image_(torch::stable::contiguous(image)), seeds_(torch::stable::contiguous(seeds)) {
    STD_TORCH_CHECK(image.dim() >= 3 && image.dim() <= 5, "image must be [B, C, *space], got ",
                    image.dim(), " axes");
    STD_TORCH_CHECK(image.size(1) == 1 || (vectorial && image.size(1) > 0),
                    "image must have one channel, got ", image.size(1));
    const int ndim = static_cast<int>(image.dim()) - 2;
    STD_TORCH_CHECK(connectivity >= 1 && connectivity <= ndim, "connectivity must be 1 to ", ndim,
                    ", got ", connectivity);
    connectivity_ = static_cast<int>(connectivity);
    check_flags(seeds, "seeds");
    for (int i = 0; i < ndim; ++i) {
      STD_TORCH_CHECK(image.size(2 + i) > 0, "spatial axes must not be empty");
      grid_.size[3 - ndim + i] = image.size(2 + i);
    }
    if (!mask) return;
    check_flags(*mask, "mask");
    STD_TORCH_CHECK(mask->size(1) == 1, "mask must have one channel, got ", mask->size(1));
    mask_ = torch::stable::contiguous(*mask);
  }

  template <class T>
  BarrierProblem<T> problem() const {
    return {static_cast<const T*>(image_.data_ptr()),
            static_cast<const bool*>(seeds_.data_ptr()),
            mask_ ? static_cast<const bool*>(mask_->data_ptr()) : nullptr,
            image_.size(0),
            seeds_.size(1),
            image_.size(1),
            grid_,
            connectivity_};
  }

  // body(problem) for the dtype of the image.
  template <class Body>
  void dispatch(const Body& body) const {
    switch (image_.scalar_type()) {
      case ScalarType::Byte:
        return body(problem<uint8_t>());
      case ScalarType::Short:
        return body(problem<int16_t>());
      case ScalarType::UInt16:
        return body(problem<uint16_t>());
      case ScalarType::Float:
        return body(problem<float>());
      default:
        STD_TORCH_CHECK(image_.scalar_type() == ScalarType::Double,
                        "image must be uint8, int16, uint16, float32 or float64");
        return body(problem<double>());
    }
  }

  const Tensor& image() const { return image_; }

  ScalarType value_type() const {
    return image_.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  }

  // [B, K, *space]
  Tensor allocate(ScalarType dtype) const {
    std::vector<int64_t> size{image_.size(0), seeds_.size(1)};
    for (int64_t i = 2; i < image_.dim(); ++i) size.push_back(image_.size(i));
    return allocate(size, dtype);
  }

  // [B, 2, K, *space]
  Tensor allocate_pairs(ScalarType dtype) const {
    std::vector<int64_t> size{image_.size(0), 2, seeds_.size(1)};
    for (int64_t i = 2; i < image_.dim(); ++i) size.push_back(image_.size(i));
    return allocate(size, dtype);
  }

  // [B, K]
  Tensor allocate_per_set(ScalarType dtype) const {
    return allocate(std::vector<int64_t>{image_.size(0), seeds_.size(1)}, dtype);
  }

 private:
  void check_flags(const Tensor& t, const char* name) const {
    STD_TORCH_CHECK(t.scalar_type() == ScalarType::Bool, name, " must be bool");
    STD_TORCH_CHECK(t.dim() == image_.dim(), name, " must have as many axes as image");
    for (int64_t i = 0; i < t.dim(); ++i) {
      STD_TORCH_CHECK(i == 1 || t.size(i) == image_.size(i), name,
                      " must have the batch and the spatial size of image");
    }
  }

  Tensor allocate(const std::vector<int64_t>& size, ScalarType dtype) const {
    std::vector<int64_t> stride(size.size(), 1);
    for (size_t i = size.size() - 1; i > 0; --i) {
      stride[i - 1] = stride[i] * std::max<int64_t>(size[i], 1);
    }
    return empty_strided(image_, size, stride, dtype);
  }

  Tensor image_, seeds_;
  std::optional<Tensor> mask_;
  Grid grid_;
  int connectivity_;
};

}  // namespace medkern
