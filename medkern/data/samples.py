"""Real medical images that ship inside PyPI packages, behind one function.

`load` reads a file that is already on disk, inside an installed nibabel, pydicom or scikit-image;
nothing is ever downloaded. `as_planes` and `as_volume` turn any sample into the
``[B, C, *spatial]`` layout that medkern ops take.

Axes are named in storage order: T time, D slice, H row, W column, C channel (RGB). Volumes keep
the orientation of their file; both NIfTI samples here are stored as LAS, so D runs from inferior to
superior, H from posterior to anterior and W from the patient's right to left. Spacing is in
millimetres, in the order of the spatial axes.
"""

import importlib
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["Sample", "as_planes", "as_volume", "available", "describe", "load", "names"]

_AXES = ("HW", "HWC", "DHW", "TDHW")


@dataclass(frozen=True, eq=False)
class Sample:
    """One medical image and what is known about it.

    Attributes:
        name: Key of the image in this module.
        image: Array with one axis per letter of `axes`, in the dtype of the file.
        axes: ``"HW"``, ``"HWC"``, ``"DHW"`` or ``"TDHW"``.
        spacing: Distance between neighbouring pixel or voxel centres in mm, one value per spatial
            axis in the order of `axes` (T and C have none); None where the file does not say.
        modality: Imaging modality, for example ``"CT"``, ``"MR"``, ``"US"``.
        description: One sentence saying what the image shows.
        source: The PyPI package and the file inside it.

    Raises:
        ValueError: `axes` is not one of the four layouts, or does not fit `image`, or `spacing`
            does not hold one positive, finite value per spatial axis.

    Example:
        >>> import numpy as np
        >>> from medkern.data import Sample
        >>> ramp = np.arange(6, dtype=np.int16).reshape(2, 3)
        >>> sample = Sample("ramp", ramp, "HW", (1.0, 0.5), "CT", "A ramp.", "made here")
        >>> dict(zip(sample.axes, sample.spacing))
        {'H': 1.0, 'W': 0.5}
    """

    name: str
    image: NDArray[Any] = field(repr=False)
    axes: str
    spacing: tuple[float, ...] | None
    modality: str
    description: str
    source: str

    def __post_init__(self) -> None:
        if self.axes not in _AXES or len(self.axes) != self.image.ndim:
            raise ValueError(
                f"medkern.data.Sample: axes must be one of {_quoted(_AXES)} with one letter per "
                f"axis of image, got {self.axes!r} for shape {self.image.shape}; "
                "transpose or squeeze the image first"
            )
        if self.spacing is not None and not _is_spacing(self.spacing, self.axes):
            raise ValueError(
                "medkern.data.Sample: spacing must hold one positive finite value in mm per "
                f"spatial axis of {self.axes!r}, got {self.spacing}; pass None if it is unknown"
            )


def _is_spacing(spacing: tuple[float, ...], axes: str) -> bool:
    spatial = sum(axis in "DHW" for axis in axes)
    return len(spacing) == spatial and all(math.isfinite(mm) and mm > 0 for mm in spacing)


def _quoted(words: tuple[str, ...]) -> str:
    return ", ".join(repr(word) for word in words)


_Pixels = tuple[NDArray[Any], tuple[float, ...] | None]

# The readers import by name so that neither `import medkern.data` nor mypy needs the packages.


def _read_nifti(file: str) -> _Pixels:
    nibabel = importlib.import_module("nibabel")
    nifti = nibabel.load(Path(nibabel.__path__[0]) / file)
    stored = np.asanyarray(nifti.dataobj)  # [W, H, D] or [W, H, D, T]
    spacing = tuple(float(mm) for mm in nifti.header.get_zooms()[2::-1])
    return stored.transpose(), spacing


def _read_dicom(file: str) -> _Pixels:
    pydicom = importlib.import_module("pydicom")
    helper = importlib.import_module("pydicom.data")
    path = helper.get_testdata_file(Path(file).name, download=False)
    if path is None:
        raise FileNotFoundError(file)
    dataset = pydicom.dcmread(path)
    spacing = dataset.get("PixelSpacing")
    if spacing is not None:
        spacing = tuple(float(mm) for mm in spacing)  # [H, W]
    return dataset.pixel_array, spacing


def _read_picture(file: str) -> _Pixels:
    # Not through skimage.data, which downloads where pooch is installed and a file is missing.
    skimage = importlib.import_module("skimage")
    reader = importlib.import_module("skimage.io")
    return reader.imread(Path(skimage.__path__[0]) / file), None


@dataclass(frozen=True)
class _Package:
    module: str
    read: Callable[[str], _Pixels]

    def installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None


_PACKAGES = {
    "nibabel": _Package("nibabel", _read_nifti),
    "pydicom": _Package("pydicom", _read_dicom),
    "scikit-image": _Package("skimage", _read_picture),
}


@dataclass(frozen=True)
class _Entry:
    package: str
    file: str
    axes: str
    modality: str
    description: str
    spacing: tuple[float, ...] | None = None

    @property
    def source(self) -> str:
        return f"{self.package}: {self.file}"


_REGISTRY = {
    "brain4d": _Entry(
        "nibabel",
        "tests/data/example4d.nii.gz",
        "TDHW",
        "MR",
        "Two time points of a whole-brain MRI series with 24 oblique axial slices.",
    ),
    "anatomical": _Entry(
        "nibabel",
        "tests/data/anatomical.nii",
        "DHW",
        "MR",
        "Central part of a spatially normalised anatomical brain MRI, resampled by SPM to 2 mm.",
    ),
    "ct": _Entry(
        "pydicom",
        "data/test_files/CT_small.dcm",
        "HW",
        "CT",
        "Axial CT crop around a vertebra, as stored values: HU is the value minus 1024.",
    ),
    "mr": _Entry(
        "pydicom",
        "data/test_files/MR_small.dcm",
        "HW",
        "MR",
        "Small crop of an MRI slice.",
    ),
    "mr_abdomen": _Entry(
        "pydicom",
        "data/test_files/examples_overlay.dcm",
        "HW",
        "MR",
        "Axial abdominal MRI reformat with a liver lesion; the lesion overlay is left out.",
    ),
    "ultrasound": _Entry(
        "pydicom",
        "data/test_files/examples_rgb_color.dcm",
        "HWC",
        "US",
        "Power Doppler ultrasound of a lymph node with the scanner's text burned in.",
    ),
    "retina": _Entry(
        "scikit-image",
        "data/retina.jpg",
        "HWC",
        "fundus photography",
        "Colour fundus photograph of a normal left eye.",
    ),
    "microaneurysms": _Entry(
        "scikit-image",
        "data/microaneurysms.png",
        "HW",
        "fundus photography",
        "Green-channel crop of a fundus photograph showing vessels and microaneurysms.",
    ),
    "ihc": _Entry(
        "scikit-image",
        "data/ihc.png",
        "HWC",
        "bright-field microscopy",
        "Colonic glands, immunohistochemistry for FHL2 (DAB) with haematoxylin counterstain.",
    ),
    "cell": _Entry(
        "scikit-image",
        "data/cell.png",
        "HW",
        "quantitative phase microscopy",
        "Quantitative phase image of a single cell floating in saline.",
        # The PNG carries no scale; skimage.data.cell documents 0.107 um.
        spacing=(0.107e-3, 0.107e-3),
    ),
}


def names() -> tuple[str, ...]:
    """Return the names of all images that `load` knows, installed or not.

    Example:
        >>> import medkern.data
        >>> medkern.data.names()[:4]
        ('brain4d', 'anatomical', 'ct', 'mr')
    """
    return tuple(_REGISTRY)


def available() -> tuple[str, ...]:
    """Return the names of the images whose package is installed, without importing it.

    Example:
        >>> import medkern.data
        >>> set(medkern.data.available()) <= set(medkern.data.names())
        True
    """
    installed = {name for name, package in _PACKAGES.items() if package.installed()}
    return tuple(name for name, entry in _REGISTRY.items() if entry.package in installed)


def describe() -> str:
    """Return a table for humans: name, installed or not, axes, modality, source, description.

    Example:
        >>> import medkern.data
        >>> print(medkern.data.describe().splitlines()[0].split())
        ['name', 'installed', 'axes', 'modality', 'source', 'description']
    """
    here = available()
    rows = [("name", "installed", "axes", "modality", "source", "description")]
    for name, entry in _REGISTRY.items():
        installed = "yes" if name in here else "no"
        rows.append((name, installed, entry.axes, entry.modality, entry.source, entry.description))
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def load(name: str) -> Sample:
    """Read one of the shipped images from disk.

    Args:
        name: One of `names()`.

    Returns:
        A `Sample`. Its image is a new, writable, C-contiguous array in the dtype of the file (in
        the byte order of this machine) with stored values: no rescale, no windowing.

    Raises:
        ValueError: `name` is not known.
        ImportError: The package that ships the image is not installed.
        FileNotFoundError: The package is installed without the file, as some Linux distributions
            strip test data.

    Example:
        >>> import medkern.data
        >>> ct = medkern.data.load("ct")
        >>> ct.image.shape, ct.image.dtype, ct.axes, ct.spacing
        ((128, 128), dtype('int16'), 'HW', (0.661468, 0.661468))
    """
    if name not in names():
        raise ValueError(
            f"medkern.data.load: name must be one of {_quoted(names())}, got {name!r}; "
            "medkern.data.describe() says what each one is"
        )
    entry = _REGISTRY[name]
    package = _PACKAGES[entry.package]
    if not package.installed():
        raise ImportError(
            "medkern.data.load: name must be an image whose package is installed, "
            f"{name!r} needs {entry.package}; pip install 'medkern[bench]'"
        )
    try:
        stored, spacing = package.read(entry.file)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"medkern.data.load: name must be an image that is on disk, {name!r} is not at "
            f"{entry.source}; install {entry.package} from PyPI"
        ) from error
    return Sample(
        name=name,
        # torch.from_numpy refuses foreign byte order, which one NIfTI file here has.
        image=np.array(stored, dtype=stored.dtype.newbyteorder("="), order="C"),
        axes=entry.axes,
        spacing=spacing or entry.spacing,
        modality=entry.modality,
        description=entry.description,
        source=entry.source,
    )


def as_planes(sample: Sample, dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """Return a sample as a batch of 2-D images in [0, 1].

    Slices (and time points) become the batch, RGB becomes C. The minimum of the whole sample maps
    to 0 and its maximum to 1, so slices and channels keep their relative brightness; a constant
    image maps to 0.

    Args:
        sample: Any `Sample`.
        dtype: Floating-point dtype of the result.

    Returns:
        A new C-contiguous array ``[B, C, H, W]``: B is 1, D or T*D, C is 1 or 3.

    Raises:
        ValueError: `dtype` is not floating point, or the image is empty or holds NaN or inf.

    Example:
        >>> import numpy as np
        >>> from medkern.data import Sample, as_planes
        >>> volume = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
        >>> planes = as_planes(Sample("ramp", volume, "DHW", None, "MR", "A ramp.", "here"))
        >>> planes.shape, planes.dtype, float(planes.min()), float(planes.max())
        ((2, 1, 3, 4), dtype('float32'), 0.0, 1.0)
    """
    return _batched(sample, "HW", dtype, "as_planes")


def as_volume(sample: Sample, dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """Return a 3-D sample as a batch of volumes in [0, 1], scaled as in `as_planes`.

    Args:
        sample: A `Sample` with a D axis.
        dtype: Floating-point dtype of the result.

    Returns:
        A new C-contiguous array ``[1, 1, D, H, W]``, or ``[T, 1, D, H, W]`` for a time series.

    Raises:
        ValueError: `sample` has no D axis, `dtype` is not floating point, or the image is empty or
            holds NaN or inf.

    Example:
        >>> import numpy as np
        >>> from medkern.data import Sample, as_volume
        >>> volume = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
        >>> as_volume(Sample("ramp", volume, "DHW", None, "MR", "A ramp.", "here")).shape
        (1, 1, 2, 3, 4)
    """
    if "D" not in sample.axes:
        raise ValueError(
            f"medkern.data.as_volume: sample must have a D axis, got {sample.name!r} with axes "
            f"{sample.axes!r}; use medkern.data.as_planes"
        )
    return _batched(sample, "DHW", dtype, "as_volume")


def _batched(sample: Sample, spatial: str, dtype: DTypeLike, caller: str) -> NDArray[Any]:
    batch = [axis for axis in sample.axes if axis not in spatial and axis != "C"]
    channel = [axis for axis in sample.axes if axis == "C"]
    size = dict(zip(sample.axes, sample.image.shape, strict=True))
    order = [sample.axes.index(axis) for axis in [*batch, *channel, *spatial]]
    shape = [
        math.prod(size[axis] for axis in batch),
        size.get("C", 1),
        *(size[axis] for axis in spatial),
    ]
    values = _normalised(sample.image, dtype, caller)
    return np.ascontiguousarray(values.transpose(order)).reshape(shape)


def _normalised(image: NDArray[Any], dtype: DTypeLike, caller: str) -> NDArray[Any]:
    if not np.issubdtype(dtype, np.floating):
        raise ValueError(
            f"medkern.data.{caller}: dtype must be floating point, got {np.dtype(dtype)}; "
            "use numpy.float32"
        )
    # The difference of the extremes of an integer image can overflow its own dtype.
    values = image.astype(np.float64)
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, math.nan)
    if not math.isfinite(high - low):
        raise ValueError(
            f"medkern.data.{caller}: sample.image must be finite and not empty, got shape "
            f"{image.shape} with values from {low} to {high}; replace NaN and inf first"
        )
    values -= low
    values /= (high - low) or 1.0
    return values.astype(dtype, copy=False)
