"""Similarity of two images: local and global correlation, mutual information, each in one pass.

Sources: Avants et al., Medical Image Analysis 2008 (local correlation with its gradient);
Balakrishnan et al., IEEE TMI 2019 (as a loss, squared, zeros outside of the image); Mattes et al.,
SPIE 2001, and Guo, MIT 2019 (mutual information by Parzen windows).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from medkern._registry import OpSpec
from medkern.interop import ArrayT, as_tensor, dtype_name
from medkern.ops.similarity_ops import global_ncc as _global_ncc
from medkern.ops.similarity_ops import local_ncc as _local_ncc
from medkern.ops.similarity_ops import mutual_information as _mutual_information
from medkern.reference import similarity as reference
from medkern.rules import choice, message, number
from medkern.rules import similarity as rules


def local_ncc_loss(
    a: ArrayT,
    b: ArrayT,
    *,
    window: int = 9,
    eps: float = 1e-5,
    variant: str = "monai",
    squared: bool = True,
    reduction: str = "mean",
    backend: str | None = None,
) -> ArrayT:
    """Minus the local normalised cross-correlation of two images.

    Around every voxel, over a window of `window` voxels along each axis, zeros outside the image,
    c, v_a and v_b being sums of products of the deviations from the window's means,

        cc = c^2 / (max(v_a, eps) max(v_b, eps))     variant="monai"
        cc = c^2 / (v_a v_b + eps)                   variant="voxelmorph"

    and the loss is minus its mean: -1 for images that are affine functions of each other.

    Args:
        a, b: [B, C, *space] of one shape and dtype, 1 to 3 spatial axes. float16, bfloat16,
            float32, float64.
        window: odd; may exceed the image.
        eps: positive; see above. It has the unit of the square of an intensity ("monai") or of its
            fourth power.
        variant: "monai" equals LocalNormalizedCrossCorrelationLoss, "voxelmorph" the NCC of
            VoxelMorph and neurite.
        squared: whether to square the correlation; if not, cc is in [-1, 1] and its denominator the
            square root of the above.
        reduction: "mean" or "sum" over samples, channels and voxels; "none": the mean over the
            voxels of each, [B, C]; "map": the value of each voxel, [B, C, *space].
        backend: "native" or "reference"; None lets medkern choose.

    Returns:
        The loss: float64 for float64 images, else float32.

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.

    Images are shifted by one of their own values, and sums run in float64 over at most a tile of
    the image: an offset as in raw CT does no harm, and for images of integers every sum is exact.
    NaN and inf make the loss of their sample and channel NaN.

    Gradients of any order in both images: the kernels compute the loss and its first derivatives,
    torch (with temporaries of several images) the others. The forward allocates nothing of the size
    of an image but the "map"; the backward, which starts from the images alone, 3 or, where both
    need gradients, 5 of them in the loss's dtype, for at most 4 million voxels at once or one
    volume. Strided images are copied first. Time does not depend on the window. The bits do not
    depend on the number of threads.

    >>> import torch, medkern as mk
    >>> a = torch.arange(100.0).reshape(1, 1, 10, 10) ** 2
    >>> mk.local_ncc_loss(a, a, window=5)
    tensor(-1.)
    """
    op = "local_ncc_loss"
    choice(op, "variant", variant, rules.VARIANTS)
    choice(op, "squared", squared, (True, False))
    choice(op, "reduction", reduction, rules.LOCAL_REDUCTIONS)
    rules.check_window(op, window)
    number(op, "eps", eps, 0, above=True)
    x, y, restore = _pair(op, a, b, (1, 2, 3), _local_ncc.spec)
    how = (window, float(eps), variant == "monai", squared, reduction == "map")
    cc = _local_ncc(x, y, *how, backend=backend)
    if reduction == "sum":
        cc = cc * reference.voxels(x)
    return restore(_reduced(-cc, "none" if reduction == "map" else reduction))


def global_ncc(a: ArrayT, b: ArrayT, *, eps: float = 1e-8, backend: str | None = None) -> ArrayT:
    """Pearson correlation of two images, over all voxels of each sample and channel.

    Args:
        a, b: [B, C, *space] of one shape and dtype. float16, bfloat16, float32, float64.
        eps: least variance of an image, in squared intensity: a flat image correlates with nothing.
        backend: "native" or "reference"; None lets medkern choose.

    Returns:
        cov(a, b) / sqrt(max(var a, eps) max(var b, eps)) [B, C], in [-1, 1]: float64 for float64
        images, else float32.

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.

    Moments are taken about the mean of every block of voxels and merged in float64, so that offsets
    do no harm; images are read once, the backward reads them twice. Nothing of their size is
    allocated but the gradients; strided images are copied first. NaN and inf give NaN. Gradients of
    any order in both images. The bits do not depend on the number of threads.

    >>> import torch, medkern as mk
    >>> a = torch.arange(6.0).reshape(1, 2, 3)
    >>> mk.global_ncc(a, 1000 - 2 * a)
    tensor([[-1., -1.]])
    """
    op = "global_ncc"
    number(op, "eps", eps, 0, above=True)
    x, y, restore = _pair(op, a, b, range(1, 64), _global_ncc.spec)
    moments = _global_ncc(x, y, backend=backend)
    var_a, var_b, covariance = moments.double().unbind(2)
    varies = torch.where(var_a > eps, var_a, eps) * torch.where(var_b > eps, var_b, eps)
    return restore((covariance * varies.rsqrt()).to(moments.dtype))


def mutual_information_loss(
    a: ArrayT,
    b: ArrayT,
    *,
    bins: int = 32,
    sigma_ratio: float = 0.5,
    kernel: str = "gaussian",
    eps: float = 1e-7,
    reduction: str = "mean",
    backend: str | None = None,
) -> ArrayT:
    """Minus the mutual information of two images, from a joint histogram by Parzen windows.

    Every voxel spreads its intensity over the bins; p is the mean over channels and voxels of the
    outer products of the weights of a and b, p_a and p_b are its sums, and

        loss = - sum_kl p_kl log((p_kl + eps) / (p_a,k p_b,l + eps) + eps)     in nats.

    Args:
        a, b: [B, C, *space] of one shape and dtype, intensities in 0..1: others are clamped, and
            get no gradient. float16, bfloat16, float32, float64.
        bins: 2 ("b-spline": 6) to 256, with centres from 0 to 1.
        sigma_ratio: width of the Gaussian in distances between bins, 0.05 to 16.
        kernel: "gaussian": weights exp(-(x - centre)^2 / (2 sigma^2)), in sum 1, which equals
            MONAI's GlobalMutualInformationLoss; "b-spline": cubic B-splines for both images, two
            bins kept free on either side.
        eps: positive; keeps the logarithm finite.
        reduction: "mean" or "sum" over the batch, "none": [B].
        backend: "native" or "reference"; None lets medkern choose.

    Returns:
        The loss: float64 for float64 images, else float32.

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.

    Weights below 2^-30 (float64: 2^-56) of a voxel's largest are left out. The histogram is summed
    in float64; weights live in registers, so that memory is a few histograms beside the gradients.
    Strided images are copied first. NaN makes the loss of its sample NaN. Gradients of any order in
    both images; the second ones are torch's, on arrays [B, C * voxels, bins]. The bits do not
    depend on the number of threads.

    >>> import torch, medkern as mk
    >>> a = torch.linspace(0, 1, 1000).reshape(1, 1, 10, 100)
    >>> mk.mutual_information_loss(a, 1 - a) < mk.mutual_information_loss(a, 0 * a) - 1
    tensor(True)
    """
    op = "mutual_information_loss"
    choice(op, "kernel", kernel, rules.PARZEN_KERNELS)
    choice(op, "reduction", reduction, rules.REDUCTIONS)
    rules.check_bins(op, bins, kernel)
    rules.check_sigma(op, sigma_ratio)
    number(op, "eps", eps, 0, above=True)
    x, y, restore = _pair(op, a, b, range(1, 64), _mutual_information.spec)
    how = (bins, float(sigma_ratio), kernel == "b-spline")
    joint = _mutual_information(x, y, *how, backend=backend)
    p = joint.double()
    product = p.sum(2, keepdim=True) * p.sum(1, keepdim=True)
    information = (p * ((p + eps) / (product + eps) + eps).log()).sum((1, 2))
    return restore(_reduced(-information.to(joint.dtype), reduction))


def _pair(
    op: str, a: ArrayT, b: ArrayT, axes: Any, spec: OpSpec
) -> tuple[Tensor, Tensor, Callable[[Tensor], ArrayT]]:
    """The images as tensors, after checking them, and what brings a tensor back."""
    x, restore = as_tensor(op, "a", a)
    y, _ = as_tensor(op, "b", b)
    rules.check_pair(op, x.shape, y.shape, axes)
    if x.dtype not in spec.dtypes:
        names = ", ".join(map(dtype_name, spec.dtypes))
        remedy = "convert it, for example a.float()"
        raise TypeError(message(op, "a", f"be one of {names}", dtype_name(x.dtype), remedy))
    if y.dtype != x.dtype and not _autocasts(x):
        rule = f"have the dtype of a, {dtype_name(x.dtype)}"
        raise TypeError(message(op, "b", rule, dtype_name(y.dtype), "convert one of them"))
    if y.device != x.device:
        rule = f"be on the device of a, {x.device}"
        raise ValueError(message(op, "b", rule, y.device, "move one of them"))
    return x, y, restore


def _autocasts(x: Tensor) -> bool:
    return torch.is_autocast_enabled(x.device.type)


def _reduced(value: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return value
    return value.sum() if reduction == "sum" else value.sum() / max(value.numel(), 1)
