"""Haar transform and Haar pooling: synthetic feature maps, the sizes of the paper, real images.

The references are what a user writes first: strided slices and their sums. The peers include the
fastest formulation in plain PyTorch that we know of, a convolution of stride 2, one group per
channel (average pooling where only LL is wanted).
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.nn import functional

import medkern
from medkern import data
from medkern.benchmarks.registry import Case, Peer

Tensor = torch.Tensor
FLOAT_TOLERANCE = 2e-6
BFLOAT_TOLERANCE = 2e-2


def cases() -> Iterable[Case]:
    yield from transform_cases()
    yield from inverse_cases()
    yield from pool_cases()
    yield from image_cases()


def transform_cases() -> Iterable[Case]:
    yield dwt_case((8, 64, 128, 128), quick=True)
    yield dwt_case((8, 64, 128, 128), dtype=torch.bfloat16)
    yield dwt_case((8, 64, 128, 128), channels_last=True)
    yield dwt_case((4, 32, 127, 129))
    yield dwt_case((2, 16, 64, 64, 64))
    yield cupy_case((8, 64, 128, 128))


def inverse_cases() -> Iterable[Case]:
    yield idwt_case((8, 64, 128, 128))
    yield idwt_case((8, 64, 128, 128), dtype=torch.bfloat16)
    yield idwt_case((8, 64, 128, 128), channels_last=True)
    yield idwt_case((4, 32, 127, 129), quick=True)
    yield idwt_case((2, 16, 64, 64, 64))


def pool_cases() -> Iterable[Case]:
    big, paper = (8, 64, 128, 128), [(16, 16 << i, 128 >> i, 128 >> i) for i in range(4)]
    for mode in ("iewa", "ll", "max_concat"):
        yield pool_case(mode, big)
        for shape in paper:
            yield pool_case(mode, shape, quick=shape[-1] == 64)


def dwt_case(
    shape: tuple[int, ...],
    *,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
    quick: bool = False,
) -> Case:
    name = case_name("haar_dwt", shape, dtype, channels_last)
    return transform_case(name, lambda: noise(shape, dtype, channels_last), shape, dtype, quick)


def image_case(image: str, view: str, shape: tuple[int, ...], *, quick: bool = False) -> Case:
    name = f"haar_dwt/{image}/{'x'.join(map(str, shape))}/float32"
    return transform_case(name, lambda: real_image(image, view, shape), shape, quick=quick)


def transform_case(
    name: str,
    image: Callable[[], Tensor],
    shape: tuple[int, ...],
    dtype: torch.dtype = torch.float32,
    quick: bool = False,
) -> Case:
    """One level of the transform of `image()`, which has that shape and dtype."""
    ndim = len(shape) - 2
    moved = nbytes(shape, dtype) + nbytes(padded(shape), dtype)
    return Case(
        op="haar_dwt",
        name=name,
        inputs=lambda: (image(),),
        native=lambda x: medkern.haar_dwt(x, ndim=ndim),
        reference=slicing_dwt2 if ndim == 2 else slicing_dwt3,
        tolerance=tolerance(dtype),
        peers=dwt_peers(shape, dtype),
        bytes_moved=moved,
        bytes_backward=moved,
        quick=quick,
    )


def cupy_case(shape: tuple[int, ...]) -> Case:
    """A CuPy array in and out. DLPack hands both over on the current stream, without a copy."""

    def inputs() -> tuple[Tensor]:
        importlib.import_module("cupy")  # skips the case where CuPy is not installed
        return (noise(shape),)

    def through_cupy(x: Tensor) -> Tensor:
        cupy = importlib.import_module("cupy")
        return torch.utils.dlpack.from_dlpack(medkern.haar_dwt(cupy.from_dlpack(x)))

    plain = dwt_case(shape)
    return replace(
        plain,
        name=f"{plain.name}/cupy",
        inputs=inputs,
        native=through_cupy,
        peers={"medkern on tensors": Peer(lambda: plain.native, "medkern")},
        backward=False,
        devices=("cuda",),
    )


def idwt_case(
    size: tuple[int, ...],
    *,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
    quick: bool = False,
) -> Case:
    """The inverse onto images of shape `size`; with channels_last, every band is in that format."""
    ndim = len(size) - 2
    spatial = size[2:]
    half = tuple(-(-n // 2) for n in spatial)
    bands = (*size[:2], 2**ndim, *half)
    moved = nbytes(bands, dtype) + nbytes(size, dtype)
    inverse = slicing_idwt2 if ndim == 2 else slicing_idwt3

    def inputs() -> tuple[Tensor]:
        if channels_last:
            return (noise((size[0], 2**ndim, *half, size[1]), dtype).movedim(-1, 1),)
        return (noise(bands, dtype),)

    return Case(
        op="haar_idwt",
        name=case_name("haar_idwt", size, dtype, channels_last),
        inputs=inputs,
        native=lambda bands: medkern.haar_idwt(bands, ndim=ndim, size=spatial),
        reference=lambda bands: inverse(bands, spatial),
        tolerance=tolerance(dtype),
        peers=idwt_peers(size, dtype),
        bytes_moved=moved,
        bytes_backward=moved,
        quick=quick,
    )


def pool_case(mode: str, shape: tuple[int, ...], *, quick: bool = False) -> Case:
    image = nbytes(shape, torch.float32)
    moved = image + image // (2 if mode == "max_concat" else 4)
    return Case(
        op="haar_pool",
        name=f"haar_pool/{mode}/{'x'.join(map(str, shape))}/float32",
        inputs=lambda: (noise(shape),),
        native=lambda x: medkern.haar_pool(x, mode=mode),
        reference=POOLS[mode],
        tolerance=FLOAT_TOLERANCE,
        peers=pool_peers(mode, shape[1]),
        bytes_moved=moved,
        bytes_backward=moved,
        bound="copy" if mode == "max_concat" else "read",
        quick=quick,
    )


def image_cases() -> Iterable[Case]:
    yield image_case("brain4d", "volume", (2, 1, 24, 96, 128), quick=True)
    yield image_case("anatomical", "volume", (1, 1, 25, 41, 33))
    yield image_case("ct", "planes", (1, 1, 128, 128), quick=True)
    yield wavedec_case("retina", (1, 3, 1411, 1411), levels=3, quick=True)


def wavedec_case(image: str, shape: tuple[int, ...], *, levels: int, quick: bool) -> Case:
    moved, level_shape = 0, shape
    for _ in range(levels):
        moved += nbytes(level_shape, torch.float32) + nbytes(padded(level_shape), torch.float32)
        level_shape = (*shape[:2], *(-(-n // 2) for n in level_shape[2:]))
    return Case(
        op="haar_wavedec",
        name=f"haar_wavedec/{image}/{'x'.join(map(str, shape))}/{levels}_levels/float32",
        inputs=lambda: (real_image(image, "planes", shape),),
        native=lambda x: medkern.haar_wavedec(x, levels),
        reference=lambda x: slicing_wavedec2(x, levels),
        tolerance=8 * FLOAT_TOLERANCE,  # the coarsest details are small beside what made them
        peers=wavedec_peers(levels),
        bytes_moved=moved,
        bytes_backward=moved,
        quick=quick,
    )


def case_name(op: str, shape: Sequence[int], dtype: torch.dtype, channels_last: bool) -> str:
    name = f"{op}/{'x'.join(map(str, shape))}/{str(dtype).removeprefix('torch.')}"
    return f"{name}/channels_last" if channels_last else name


def noise(
    shape: tuple[int, ...], dtype: torch.dtype = torch.float32, channels_last: bool = False
) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if channels_last else x


def real_image(image: str, view: str, shape: tuple[int, ...]) -> Tensor:
    values = getattr(data, f"as_{view}")(data.load(image))
    if values.shape != shape:
        raise ValueError(f"image {image} has shape {values.shape}, this case was made for {shape}")
    return torch.from_numpy(values)


def nbytes(shape: Iterable[int], dtype: torch.dtype) -> int:
    size = dtype.itemsize
    for n in shape:
        size *= n
    return size


def padded(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape with every spatial size rounded up to even: as many numbers as all bands have."""
    return (*shape[:2], *(n + n % 2 for n in shape[2:]))


def tolerance(dtype: torch.dtype) -> float:
    return BFLOAT_TOLERANCE if dtype == torch.bfloat16 else FLOAT_TOLERANCE


# The references: plain slices. Band index bit i is set for high-pass along spatial axis i.


def pad_even(x: Tensor, ndim: int) -> Tensor:
    """Repeat the last sample of every odd axis: symmetric extension by one."""
    sizes = x.shape[-ndim:]
    if all(n % 2 == 0 for n in sizes):
        return x
    pads = [amount for n in reversed(sizes) for amount in (0, n % 2)]
    return functional.pad(x, pads, mode="replicate")


def slicing_dwt2(x: Tensor) -> Tensor:
    x = pad_even(x, 2)  # [B, C, H, W]
    a, b = x[..., 0::2, 0::2], x[..., 0::2, 1::2]
    c, d = x[..., 1::2, 0::2], x[..., 1::2, 1::2]
    bands = [a + b + c + d, a + b - c - d, a - b + c - d, a - b - c + d]
    return torch.stack(bands, dim=2) / 2  # [B, C, 4, H/2, W/2]


def slicing_dwt3(x: Tensor) -> Tensor:
    x = pad_even(x, 3)  # [B, C, D, H, W]
    bands = [x]
    for axis in (2, 3, 4):
        pairs = [torch.unflatten(band, axis, (-1, 2)).unbind(axis + 1) for band in bands]
        bands = [even + odd for even, odd in pairs] + [even - odd for even, odd in pairs]
    return torch.stack(bands, dim=2) * 8**-0.5  # [B, C, 8, D/2, H/2, W/2]


def slicing_idwt2(bands: Tensor, size: Sequence[int]) -> Tensor:
    ll, lh, hl, hh = bands.unbind(2)  # each [B, C, H/2, W/2]
    x = bands.new_empty(*ll.shape[:2], 2 * ll.shape[2], 2 * ll.shape[3])
    x[..., 0::2, 0::2] = (ll + lh + hl + hh) / 2
    x[..., 0::2, 1::2] = (ll + lh - hl - hh) / 2
    x[..., 1::2, 0::2] = (ll - lh + hl - hh) / 2
    x[..., 1::2, 1::2] = (ll - lh - hl + hh) / 2
    return x[..., : size[0], : size[1]]


def slicing_idwt3(bands: Tensor, size: Sequence[int]) -> Tensor:
    parts = list(bands.unbind(2))  # eight of [B, C, D/2, H/2, W/2]
    for axis in (4, 3, 2):
        half = len(parts) // 2
        pairs = zip(parts[:half], parts[half:], strict=True)
        parts = [
            torch.stack([low + high, low - high], dim=axis + 1).flatten(axis, axis + 1)
            for low, high in pairs
        ]
    return (parts[0] * 8**-0.5)[..., : size[0], : size[1], : size[2]]


def slicing_wavedec2(x: Tensor, levels: int) -> list[Tensor]:
    details: list[Tensor] = []
    for _ in range(levels):
        bands = slicing_dwt2(x)
        x, detail = bands[:, :, 0], bands[:, :, 1:]
        details.insert(0, detail)
    return [x, *details]


def slicing_iewa(x: Tensor) -> Tensor:
    ll, lh, hl, _ = slicing_dwt2(x).unbind(2)
    return ll + lh + hl


def slicing_ll(x: Tensor) -> Tensor:
    return slicing_dwt2(x)[:, :, 0]


def slicing_max_concat(x: Tensor) -> Tensor:
    return torch.cat([slicing_ll(x), functional.max_pool2d(x, 2)], dim=1)


POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "iewa": slicing_iewa,
    "ll": slicing_ll,
    "max_concat": slicing_max_concat,
}


def haar_filters(ndim: int) -> Tensor:
    """All 2**ndim Haar filters, in our band order: [2**ndim, 2, ..., 2]."""
    one = torch.tensor([[1.0, 1.0], [1.0, -1.0]]) * 0.5**0.5
    filters = []
    for bits in itertools.product((0, 1), repeat=ndim):
        kernel = torch.ones(())
        for bit in reversed(bits):  # the last axis owns the highest bit, which varies slowest
            kernel = kernel.unsqueeze(-1) * one[bit]
        filters.append(kernel)
    return torch.stack(filters)


def depthwise_dwt(channels: int, ndim: int, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    convolve = functional.conv2d if ndim == 2 else functional.conv3d
    weight = haar_filters(ndim).to(dtype).repeat(channels, *[1] * ndim).unsqueeze(1)

    def dwt(x: Tensor) -> Tensor:
        bands = convolve(pad_even(x, ndim), weight, stride=2, groups=channels)
        return torch.unflatten(bands, 1, (channels, 2**ndim))

    return dwt


def depthwise_idwt(size: tuple[int, ...], dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    channels, spatial = size[1], size[2:]
    ndim = len(spatial)
    convolve = functional.conv_transpose2d if ndim == 2 else functional.conv_transpose3d
    crop = crop_to(spatial)
    weight = haar_filters(ndim).to(dtype).repeat(channels, *[1] * ndim).unsqueeze(1)

    def idwt(bands: Tensor) -> Tensor:
        return convolve(bands.flatten(1, 2), weight, stride=2, groups=channels)[crop]

    return idwt


def crop_to(spatial: tuple[int, ...]) -> tuple[Any, ...]:
    return (..., *(slice(n) for n in spatial))


def dwt_peers(shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, Peer]:
    ndim = len(shape) - 2
    peers = {"depthwise conv": Peer(lambda: depthwise_dwt(shape[1], ndim, dtype))}
    if dtype == torch.float32:
        peers["ptwt"] = Peer(lambda: ptwt_wavedec(ndim, 1), "ptwt", adapt_ptwt)
        peers["PyWavelets"] = pywavelets(lambda: pywt_dwt(ndim), stack_dict)
    if ndim == 2:
        peers |= torch_wavelet_peers(1)
    return peers


def idwt_peers(size: tuple[int, ...], dtype: torch.dtype) -> dict[str, Peer]:
    ndim = len(size) - 2
    peers = {"depthwise conv": Peer(lambda: depthwise_idwt(size, dtype))}
    if dtype == torch.float32:
        crop = crop_to(size[2:])
        peers["ptwt"] = Peer(lambda: ptwt_waverec(ndim), "ptwt", lambda x: x[crop])
        peers["PyWavelets"] = pywavelets(lambda: pywt_idwt(ndim), lambda x: x[crop])
    return peers


def wavedec_peers(levels: int) -> dict[str, Peer]:
    return {
        "ptwt": Peer(
            lambda: ptwt_wavedec(2, levels),
            "ptwt",
            lambda bands: [bands[0], *(torch.stack(one, dim=2) for one in bands[1:])],
        ),
        "PyWavelets": pywavelets(
            lambda: pywt_wavedec2(levels),
            lambda bands: [torch.from_numpy(bands[0]), *map(stack_arrays, bands[1:])],
        ),
        **torch_wavelet_peers(levels),
    }


def torch_wavelet_peers(levels: int) -> dict[str, Peer]:
    """Both packages answer (LL, details from fine to coarse)."""

    def adapt(answer: tuple[Tensor, list[Tensor]]) -> Any:
        approx, details = answer
        if levels == 1:
            return torch.cat([approx.unsqueeze(2), details[0]], dim=2)
        return [approx, *reversed(details)]

    return {
        "pytorch_wavelets": Peer(lambda: pytorch_wavelets_dwt(levels), "pytorch_wavelets", adapt),
        "torchwavelets": Peer(lambda: torchwavelets_dwt(levels), "torchwavelets", adapt),
    }


def pool_peers(mode: str, channels: int) -> dict[str, Peer]:
    if mode == "iewa":
        return {
            "depthwise conv": Peer(lambda: depthwise_iewa(channels)),
            "ptwt": Peer(
                lambda: ptwt_wavedec(2, 1), "ptwt", lambda bands: bands[0] + sum(bands[1][:2])
            ),
        }
    if mode == "ll":
        return {"avg_pool2d": Peer(lambda: lambda x: 2 * functional.avg_pool2d(x, 2))}
    return {"avg + max pool": Peer(lambda: average_and_max)}


def depthwise_iewa(channels: int) -> Callable[[Tensor], Tensor]:
    """LL + LH + HL is itself one filter."""
    weight = haar_filters(2)[:3].sum(0).repeat(channels, 1, 1, 1)
    return lambda x: functional.conv2d(x, weight, stride=2, groups=channels)


def average_and_max(x: Tensor) -> Tensor:
    return torch.cat([2 * functional.avg_pool2d(x, 2), functional.max_pool2d(x, 2)], dim=1)


def band_keys(ndim: int) -> list[str]:
    """PyWavelets' names of the bands in our order: letter i belongs to axis i, d is high-pass."""
    return ["".join("ad"[index >> axis & 1] for axis in range(ndim)) for index in range(2**ndim)]


def ptwt_wavedec(ndim: int, levels: int) -> Callable[[Tensor], Any]:
    ptwt = importlib.import_module("ptwt")

    transform = ptwt.wavedec2 if ndim == 2 else ptwt.wavedec3
    return lambda x: transform(x, "haar", mode="symmetric", level=levels)


def adapt_ptwt(bands: Any) -> Tensor:
    approx, details = bands
    if isinstance(details, dict):
        return torch.stack([approx, *(details[key] for key in band_keys(3)[1:])], dim=2)
    return torch.stack([approx, *details], dim=2)


def ptwt_waverec(ndim: int) -> Callable[[Tensor], Any]:
    ptwt = importlib.import_module("ptwt")

    keys = band_keys(ndim)

    def waverec(bands: Tensor) -> Any:
        approx, *details = bands.unbind(2)
        if ndim == 2:
            return ptwt.waverec2((approx, ptwt.WaveletDetailTuple2d(*details)), "haar")
        return ptwt.waverec3((approx, dict(zip(keys[1:], details, strict=True))), "haar")

    return waverec


def pywavelets(make: Callable[[], Callable[..., Any]], adapt: Callable[[Any], Any]) -> Peer:
    return Peer(make, "PyWavelets", adapt, backward=False, devices=("cpu",))


def pywt_dwt(ndim: int) -> Callable[[Tensor], Any]:
    pywt = importlib.import_module("pywt")

    axes = tuple(range(-ndim, 0))
    return lambda x: pywt.dwtn(x.numpy(), "haar", axes=axes)


def stack_dict(bands: dict[str, Any]) -> Tensor:
    ndim = len(next(iter(bands)))
    return stack_arrays([bands[key] for key in band_keys(ndim)])


def stack_arrays(arrays: Sequence[Any]) -> Tensor:
    return torch.stack([torch.from_numpy(one) for one in arrays], dim=2)


def pywt_idwt(ndim: int) -> Callable[[Tensor], Any]:
    pywt = importlib.import_module("pywt")

    axes, keys = tuple(range(-ndim, 0)), band_keys(ndim)

    def idwt(bands: Tensor) -> Any:
        arrays = [band.numpy() for band in bands.unbind(2)]
        return pywt.idwtn(dict(zip(keys, arrays, strict=True)), "haar", axes=axes)

    return idwt


def pywt_wavedec2(levels: int) -> Callable[[Tensor], Any]:
    pywt = importlib.import_module("pywt")

    return lambda x: pywt.wavedec2(x.numpy(), "haar", level=levels)


def pytorch_wavelets_dwt(levels: int) -> Callable[[Tensor], Any]:
    pytorch_wavelets = importlib.import_module("pytorch_wavelets")

    transform = pytorch_wavelets.DWTForward(J=levels, wave="haar", mode="symmetric")
    return lambda x: transform(x)


def torchwavelets_dwt(levels: int) -> Callable[[Tensor], Any]:
    torchwavelets = importlib.import_module("torchwavelets")

    return lambda x: torchwavelets.dwt2d(x, wave="haar", mode="symmetric", level=levels)
