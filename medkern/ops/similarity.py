"""Similarity of two images: local and global correlation, mutual information, each in one pass.

Sources: Avants et al., Medical Image Analysis 2008 (local correlation with its gradient);
Balakrishnan et al., IEEE TMI 2019 (as a loss, squared, zeros outside of the image); Mattes et al.,
SPIE 2001, and Guo, MIT 2019 (mutual information by Parzen windows).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from medkern._registry import Op, OpSpec, Sample, register
from medkern.interop import ArrayT, as_tensor, dtype_name
from medkern.reference import similarity as reference
from medkern.rules import choice, message
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
    rules.check_positive(op, "eps", eps)
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
    rules.check_positive(op, "eps", eps)
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
    rules.check_positive(op, "eps", eps)
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


def _symmetric_op(
    name: str,
    parameters: str,
    forward: Callable[..., Tensor],
    backward: Callable[..., Tensor],
    fake: Callable[..., Tensor],
    samples: Callable[[torch.dtype], Iterator[Sample]],
    swap: Callable[[Tensor], Tensor] = lambda grad: grad,
) -> Op:
    """An op f(a, b, *how), and the op of its gradients.

    The latter is `backward`(a, b, grad, *how, both) -> [B, 1 or 2, C, *space]: the gradient in a
    and, if `both`, in b. f is symmetric, but that `swap` turns grad where a and b change places.
    All other derivatives are those of the reference.
    """
    types = [parameter.split()[0] for parameter in parameters.split(", ") if parameter]
    nothing = (None,) * len(types)
    listed = f", {parameters}" if parameters else ""

    def remember(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        tensors = [t for t in inputs if isinstance(t, Tensor)]
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)
        ctx.how = inputs[len(tensors) :]

    def pull(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        a, b = ctx.saved_tensors
        for_a, for_b = ctx.needs_input_grad[:2]
        if for_a:
            gradients = gradient(a, b, grad, *ctx.how, for_b)
            return gradients[:, 0], gradients[:, 1] if for_b else None, *nothing
        return None, gradient(b, a, swap(grad), *ctx.how, False)[:, 0], *nothing

    def push(ctx: Any, *tangents: Any) -> Tensor:
        return _push(lambda *t: forward(*t, *ctx.how), ctx.saved_tensors, tangents)

    def pull_gradient(ctx: Any, u: Tensor) -> tuple[Any, ...]:
        _, back, *_ = torch.func.vjp(lambda *t: backward(*t, *ctx.how), *ctx.saved_tensors)
        return *back(u), *nothing, None

    def push_gradient(ctx: Any, *tangents: Any) -> Tensor:
        return _push(lambda *t: backward(*t, *ctx.how), ctx.saved_tensors, tangents)

    def fake_gradient(a: Tensor, b: Tensor, grad: Tensor, *how: Any) -> Tensor:
        return a.new_empty(a.shape[0], 1 + how[-1], *a.shape[1:])

    def gradient_samples(dtype: torch.dtype) -> Iterator[Sample]:
        generator = torch.Generator().manual_seed(2)
        for i, sample in enumerate(samples(dtype)):
            out = fake(*sample.args)
            grad = torch.randn(out.shape, generator=generator).to(out.dtype)
            a, b, *how = sample.args
            yield Sample(sample.name, (a, b, grad, *how, i % 2 == 0))

    gradient = register(
        OpSpec(
            name=f"_{name}_backward",
            schema=f"(Tensor a, Tensor b, Tensor grad{listed}, bool both) -> Tensor",
            reference=backward,
            fake=fake_gradient,
            samples=gradient_samples,
            setup_context=remember,
            backward=pull_gradient,
            jvp=push_gradient,
            autocast="widest",
        )
    )
    return register(
        OpSpec(
            name=name,
            schema=f"(Tensor a, Tensor b{listed}) -> Tensor",
            reference=forward,
            fake=fake,
            samples=samples,
            setup_context=remember,
            backward=pull,
            jvp=push,
            autocast="widest",
        )
    )


def _push(f: Callable[..., Tensor], at: tuple[Tensor, ...], tangents: tuple[Any, ...]) -> Tensor:
    """The derivative of f along the tangents, as the transpose of its transpose: forward mode does
    not nest, and this runs inside it."""
    value, back, *_ = torch.func.vjp(f, *at)
    _, forth, *_ = torch.func.vjp(back, torch.zeros_like(value))
    along = tuple(
        torch.zeros_like(t) if d is None else d for t, d in zip(at, tangents, strict=False)
    )
    tangent: Tensor = forth(along)[0]
    return tangent


def _fake_local(
    a: Tensor, b: Tensor, window: int, eps: float, clamp: bool, squared: bool, per_voxel: bool
) -> Tensor:
    return a.new_empty(a.shape if per_voxel else a.shape[:2], dtype=reference.result_type(a))


def _fake_moments(a: Tensor, b: Tensor) -> Tensor:
    return a.new_empty(*a.shape[:2], 3, dtype=reference.result_type(a))


def _fake_histogram(a: Tensor, b: Tensor, bins: int, sigma_ratio: float, spline: bool) -> Tensor:
    return a.new_empty(a.shape[0], bins, bins, dtype=reference.result_type(a))


def _pairs(dtype: torch.dtype) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Related images in 0..1 of every kind of layout."""
    generator = torch.Generator().manual_seed(1)

    def image(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator).mul(0.9).add(0.05)

    # Finite differences take the small ones; the others are too large for them.
    layouts: list[tuple[str, tuple[int, ...], Callable[[Tensor], Tensor]]] = [
        ("contiguous", (2, 2, 2, 3), lambda t: t),
        ("transposed", (2, 1, 19, 13), lambda t: t.transpose(2, 3)),
        ("sliced", (2, 3, 25, 22), lambda t: t[:, 1:, 1::2, :-1]),
        ("expanded", (1, 2, 1, 13), lambda t: t.expand(2, 2, 9, 13)),
        ("channels_last", (2, 3, 9, 5), lambda t: t.contiguous(memory_format=torch.channels_last)),
        ("empty-batch", (0, 3, 4, 4), lambda t: t),
        ("empty-channels", (2, 0, 4, 4), lambda t: t),
        ("size-2", (1, 1, 1, 2), lambda t: t),
        ("line", (1, 2, 7), lambda t: t),
        ("volume", (1, 1, 2, 2, 3), lambda t: t),
    ]
    for name, shape, lay_out in layouts:
        a = image(*shape)
        b = 0.5 * (a + image(*shape))
        yield name, lay_out(a.to(dtype)), lay_out(b.to(dtype))


def _local_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for i, (name, a, b) in enumerate(_pairs(dtype)):
        how = (1 + 2 * (1 + i % 3), 0.1, i % 2 == 0, i % 3 != 1, i % 4 == 1)
        yield Sample(name, (a, b, *how))


def _moments_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for name, a, b in _pairs(dtype):
        yield Sample(name, (a, b))


def _histogram_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for i, (name, a, b) in enumerate(_pairs(dtype)):
        yield Sample(name, (a, b, 6 + i, 0.5 + 0.3 * (i % 3), i % 3 == 1))


_local_ncc = _symmetric_op(
    "local_ncc_loss",
    "int window, float eps, bool clamp, bool squared, bool per_voxel",
    reference.local_ncc,
    reference.local_ncc_backward,
    _fake_local,
    _local_samples,
)
_global_ncc = _symmetric_op(
    "global_ncc",
    "",
    reference.joint_moments,
    reference.joint_moments_backward,
    _fake_moments,
    _moments_samples,
    swap=lambda grad: grad[..., [1, 0, 2]],
)
_mutual_information = _symmetric_op(
    "mutual_information_loss",
    "int bins, float sigma_ratio, bool spline",
    reference.joint_histogram,
    reference.joint_histogram_backward,
    _fake_histogram,
    _histogram_samples,
    swap=lambda grad: grad.transpose(1, 2),
)
