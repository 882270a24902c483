"""The shipped medical images: what is read, how it is laid out, and what happens without them."""

import doctest
import gzip
import importlib
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import medkern.data
from medkern.data import Sample, as_planes, as_volume, available, describe, load, names

MODULES = {"nibabel": "nibabel", "pydicom": "pydicom", "scikit-image": "skimage"}

# name: package, axes, shape, dtype, spacing in mm, minimum, maximum, mean, index, value there
PINNED = {
    "brain4d": (
        "nibabel", "TDHW", (2, 24, 96, 128), "int16", (2.199999, 2.0, 2.0),
        0, 1162, 172.908115, (1, 12, 40, 70), 465,
    ),
    "anatomical": (
        "nibabel", "DHW", (25, 41, 33), "int16", (2.0, 2.0, 2.0),
        -610, 30393, 8401.066726, (8, 13, 11), 10168,
    ),
    "ct": (
        "pydicom", "HW", (128, 128), "int16", (0.661468, 0.661468),
        128, 2191, 904.926147, (42, 42), 1435,
    ),
    "mr": (
        "pydicom", "HW", (64, 64), "int16", (0.3125, 0.3125),
        127, 2145, 518.881348, (21, 21), 446,
    ),
    "mr_abdomen": (
        "pydicom", "HW", (300, 484), "uint16", (0.72314049586777, 0.72314049586777),
        0, 1123, 191.687686, (100, 161), 293,
    ),
    "ultrasound": (
        "pydicom", "HWC", (240, 320, 3), "uint8", None,
        0, 255, 34.266606, (80, 106, 1), 71,
    ),
    "retina": (
        "scikit-image", "HWC", (1411, 1411, 3), "uint8", None,
        0, 255, 89.697990, (470, 470, 1), 103,
    ),
    "microaneurysms": (
        "scikit-image", "HW", (102, 102), "uint8", None,
        38, 129, 99.339869, (34, 34), 107,
    ),
    "ihc": (
        "scikit-image", "HWC", (512, 512, 3), "uint8", None,
        0, 255, 160.325219, (170, 170, 1), 125,
    ),
    "cell": (
        "scikit-image", "HW", (660, 550), "uint8", (0.000107, 0.000107),
        0, 255, 67.960733, (220, 183), 63,
    ),
}  # fmt: skip

every_image = pytest.mark.parametrize("name", PINNED)


def load_or_skip(name: str) -> Sample:
    pytest.importorskip(MODULES[PINNED[name][0]])
    return load(name)


def made_up(image: np.ndarray, axes: str) -> Sample:
    return Sample("made_up", image, axes, None, "MR", "Made up for a test.", "here")


def test_every_image_is_pinned():
    assert tuple(PINNED) == names()


@every_image
def test_load_gives_the_pinned_image(name):
    package, axes, shape, dtype, spacing, low, high, mean, index, value = PINNED[name]
    sample = load_or_skip(name)
    image = sample.image
    # JPEG decoders may round differently, and only retina is a JPEG.
    slack = 2 if name == "retina" else 0
    assert (sample.name, sample.axes, image.shape, image.dtype) == (name, axes, shape, dtype)
    assert sample.spacing == (spacing and pytest.approx(spacing, rel=1e-6))
    assert (image.min(), image.max()) == (low, high)
    assert image.mean() == pytest.approx(mean, abs=1e-6 + 0.1 * slack)
    assert abs(int(image[index]) - value) <= slack
    assert sample.source.startswith(f"{package}: ")
    assert sample.modality
    assert sample.description.endswith(".")


@every_image
def test_load_gives_a_new_writable_contiguous_native_array(name):
    first, second = load_or_skip(name).image, load_or_skip(name).image
    assert type(first) is np.ndarray
    assert first.flags.c_contiguous
    assert first.flags.writeable
    assert first.dtype.isnative
    assert not np.shares_memory(first, second)


@pytest.mark.parametrize(
    ("name", "file", "shape", "dtype"),
    [
        ("brain4d", "example4d.nii.gz", (128, 96, 24, 2), "<i2"),
        ("anatomical", "anatomical.nii", (33, 41, 25), ">i2"),
    ],
)
def test_volumes_are_the_file_bytes_with_x_fastest(name, file, shape, dtype):
    nibabel = pytest.importorskip("nibabel")
    path = Path(nibabel.__file__).parent / "tests" / "data" / file
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    order = dtype[0]
    offset = int(np.frombuffer(raw, order + "f4", 1, offset=108)[0])
    stored = np.frombuffer(raw, dtype, np.prod(shape), offset).reshape(shape, order="F")
    width_height_depth_mm = np.frombuffer(raw, order + "f4", 3, offset=80)
    sample = load(name)
    np.testing.assert_array_equal(sample.image.T, stored)
    assert sample.spacing == tuple(map(float, width_height_depth_mm[::-1]))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("ct", "CT_small.dcm"),
        ("mr", "MR_small.dcm"),
        ("mr_abdomen", "examples_overlay.dcm"),
        ("ultrasound", "examples_rgb_color.dcm"),
    ],
)
def test_dicom_images_are_the_pixel_data_bytes(name, file):
    pydicom = pytest.importorskip("pydicom")
    dataset = pydicom.dcmread(Path(pydicom.__file__).parent / "data" / "test_files" / file)
    sample = load(name)
    pixels = np.frombuffer(dataset.PixelData, sample.image.dtype.newbyteorder("<"))
    np.testing.assert_array_equal(sample.image.ravel(), pixels[: sample.image.size])
    assert (dataset.Rows, dataset.Columns) == sample.image.shape[:2]
    assert dataset.get("PixelSpacing") == (sample.spacing and list(sample.spacing))


def test_dicom_spacing_is_rows_first(monkeypatch, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    shipped = Path(pydicom.__file__).parent / "data" / "test_files" / "CT_small.dcm"
    dataset = pydicom.dcmread(shipped)
    dataset.PixelSpacing = [2, 1]
    (tmp_path / "test_files").mkdir()
    dataset.save_as(tmp_path / "test_files" / shipped.name)
    manager = importlib.import_module("pydicom.data.data_manager")
    monkeypatch.setattr(manager, "DATA_ROOT", str(tmp_path))
    assert load("ct").spacing == (2.0, 1.0)


def test_ct_rescale_is_the_one_in_the_description():
    pydicom = pytest.importorskip("pydicom")
    file = Path(pydicom.__file__).parent / "data" / "test_files" / "CT_small.dcm"
    dataset = pydicom.dcmread(file)
    assert (dataset.RescaleSlope, dataset.RescaleIntercept) == (1, -1024)
    assert "HU is the value minus 1024" in load("ct").description


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("retina", "retina.jpg"),
        ("microaneurysms", "microaneurysms.png"),
        ("ihc", "ihc.png"),
        ("cell", "cell.png"),
    ],
)
def test_pictures_are_what_pillow_reads(name, file):
    skimage = pytest.importorskip("skimage")
    pillow = pytest.importorskip("PIL.Image")
    with pillow.open(Path(skimage.__file__).parent / "data" / file) as picture:
        np.testing.assert_array_equal(load(name).image, np.asarray(picture))


@every_image
def test_load_opens_no_socket(name, monkeypatch):
    def refuse(*args, **kwargs):
        pytest.fail("load must not use the network")

    monkeypatch.setattr(socket, "socket", refuse)
    load_or_skip(name)


@pytest.mark.parametrize("package", MODULES)
def test_missing_package_is_named(package, monkeypatch):
    theirs = [name for name, pinned in PINNED.items() if pinned[0] == package]
    monkeypatch.setitem(sys.modules, MODULES[package], None)
    assert not set(theirs) & set(available())
    with pytest.raises(ImportError) as caught:
        load(theirs[0])
    assert str(caught.value) == (
        "medkern.data.load: name must be an image whose package is installed, "
        f"'{theirs[0]}' needs {package}; pip install 'medkern[bench]'"
    )


@pytest.mark.parametrize("package", MODULES)
def test_available_lists_what_is_installed(package):
    pytest.importorskip(MODULES[package])
    theirs = [name for name, pinned in PINNED.items() if pinned[0] == package]
    assert [name for name in available() if name in theirs] == theirs


@pytest.mark.parametrize("name", ["anatomical", "ct", "cell"])
def test_stripped_package_says_which_file_is_gone(name, monkeypatch, tmp_path):
    module = pytest.importorskip(MODULES[PINNED[name][0]])
    if module.__name__ == "pydicom":
        manager = importlib.import_module("pydicom.data.data_manager")
        monkeypatch.setattr(manager, "DATA_ROOT", str(tmp_path))
        monkeypatch.setattr(manager, "external_data_sources", dict)
        monkeypatch.setattr(manager, "get_url_map", lambda: {"CT_small.dcm": "a URL"})
        monkeypatch.setattr(manager, "data_path_with_download", lambda file: pytest.fail(file))
    else:
        # Import what the reader needs before the package's folder moves away.
        importlib.import_module({"skimage": "skimage.io"}.get(module.__name__, module.__name__))
        monkeypatch.setattr(module, "__path__", [str(tmp_path)])
    with pytest.raises(FileNotFoundError, match=rf"'{name}' is not at .*; install .* from PyPI"):
        load(name)


@pytest.mark.parametrize("name", ["x", "", "CT", None, 3, ["ct"]])
def test_unknown_name_lists_the_known_ones(name):
    with pytest.raises(ValueError, match=r"medkern\.data\.load: name must be one of ") as caught:
        load(name)
    message = str(caught.value)
    assert f"got {name!r}; " in message
    assert all(repr(known) in message for known in names())


def test_describe_has_one_row_per_image(monkeypatch):
    monkeypatch.setitem(sys.modules, "nibabel", None)
    header, *rows = describe().splitlines()
    assert header.split() == ["name", "installed", "axes", "modality", "source", "description"]
    assert [row.split()[0] for row in rows] == list(names())
    assert rows[names().index("brain4d")].split()[1:3] == ["no", "TDHW"]


PLANES = {
    "TDHW": lambda time, depth, *plane: (time * depth, 1, *plane),
    "DHW": lambda depth, *plane: (depth, 1, *plane),
    "HW": lambda *plane: (1, 1, *plane),
    "HWC": lambda height, width, channels: (1, channels, height, width),
}


@every_image
def test_as_planes_layout_and_range(name):
    sample = load_or_skip(name)
    before = sample.image.copy()
    planes = as_planes(sample)
    assert planes.shape == PLANES[sample.axes](*sample.image.shape)
    assert planes.dtype == np.float32
    assert planes.flags.c_contiguous
    assert (planes.min(), planes.max()) == (0.0, 1.0)
    np.testing.assert_array_equal(sample.image, before)


@every_image
def test_as_planes_keeps_every_value_in_its_place(name):
    sample = load_or_skip(name)
    low, high = int(sample.image.min()), int(sample.image.max())
    planes = as_planes(sample, np.float64)
    for index in np.random.default_rng(0).integers(0, sample.image.shape, (50, sample.image.ndim)):
        at = dict(zip(sample.axes, map(int, index), strict=True))
        slices = sample.image.shape[1] if "T" in at else 1
        plane = at.get("T", 0) * slices + at.get("D", 0)
        expected = (int(sample.image[tuple(index)]) - low) / (high - low)
        got = planes[plane, at.get("C", 0), at["H"], at["W"]]
        assert got == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("name", ["brain4d", "anatomical"])
def test_as_volume_layout_range_and_content(name):
    sample = load_or_skip(name)
    volume = as_volume(sample)
    series = sample.image.reshape(-1, 1, *sample.image.shape[-3:])
    low, high = int(series.min()), int(series.max())
    assert volume.dtype == np.float32
    assert volume.flags.c_contiguous
    assert (volume.min(), volume.max()) == (0.0, 1.0)
    assert volume.shape == series.shape
    np.testing.assert_allclose(volume * (high - low) + low, series, rtol=0, atol=0.01)


@pytest.mark.parametrize("axes", ["HW", "HWC"])
def test_as_volume_refuses_a_picture(axes):
    sample = made_up(np.ones((2, 3, 3)[: len(axes)]), axes)
    with pytest.raises(ValueError, match=r"as_volume: sample must have a D axis, .*as_planes"):
        as_volume(sample)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int64, np.bool_])
def test_extremes_of_integer_dtypes_do_not_overflow(dtype):
    info = np.iinfo(np.uint8 if dtype is np.bool_ else dtype)
    planes = as_planes(made_up(np.array([[info.min, info.max]]).astype(dtype), "HW"))
    np.testing.assert_array_equal(planes, [[[[0.0, 1.0]]]])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, "float32"])
def test_result_has_the_asked_dtype(dtype):
    volume = made_up(np.arange(24).reshape(2, 3, 4), "DHW")
    for convert in (as_planes, as_volume):
        result = convert(volume, dtype)
        assert result.dtype == np.dtype(dtype)
        assert (result.min(), result.max()) == (0.0, 1.0)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.complex64, bool])
def test_dtypes_that_cannot_hold_fractions_are_refused(dtype):
    with pytest.raises(ValueError, match=r"as_planes: dtype must be floating point, got "):
        as_planes(made_up(np.ones((2, 2)), "HW"), dtype)


def test_constant_image_becomes_zero():
    np.testing.assert_array_equal(
        as_planes(made_up(np.full((2, 3), 7), "HW")), np.zeros((1, 1, 2, 3))
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_input_of_the_result_dtype_is_not_written(dtype):
    image = np.arange(24, dtype=dtype).reshape(2, 3, 4) + 5
    sample = made_up(image.copy(), "DHW")
    for convert in (as_planes, as_volume):
        result = convert(sample, dtype)
        assert not np.shares_memory(result, sample.image)
        np.testing.assert_array_equal(sample.image, image)


def test_strided_image_is_read_in_its_own_order():
    image = np.arange(24.0).reshape(4, 6)[::-2, ::3].T
    planes = as_planes(made_up(image, "HW"), np.float64)
    assert planes.flags.c_contiguous
    np.testing.assert_allclose(planes[0, 0], (image - image.min()) / np.ptp(image))


@pytest.mark.parametrize(
    "image",
    [[[0.0, np.nan]], [[0.0, np.inf]], [[-np.inf, np.inf]], [[np.inf, np.inf]], [[]]],
)
def test_empty_and_non_finite_images_are_refused(image):
    with pytest.raises(ValueError, match=r"as_planes: sample\.image must be finite and not empty"):
        as_planes(made_up(np.array(image), "HW"))


@pytest.mark.parametrize(("shape", "axes"), [((2, 3), "DHW"), ((2, 3), "WH"), ((4,), "W")])
def test_sample_refuses_axes_that_do_not_fit(shape, axes):
    with pytest.raises(ValueError, match=r"medkern\.data\.Sample: axes must be one of 'HW', "):
        made_up(np.zeros(shape), axes)


@pytest.mark.parametrize("spacing", [(1.0,), (1.0, 1.0, 1.0), (0.0, 1.0), (1.0, np.nan), ()])
def test_sample_refuses_spacing_that_does_not_fit(spacing):
    with pytest.raises(ValueError, match=r"medkern\.data\.Sample: spacing must hold one positive"):
        Sample("made_up", np.zeros((2, 3)), "HW", spacing, "CT", "Made up.", "here")


def test_import_and_listing_load_no_heavy_package():
    code = (
        "import sys, medkern.data as data; data.names(); data.available(); data.describe();"
        "print(sorted({'torch', 'nibabel', 'pydicom', 'skimage'} & set(sys.modules)))"
    )
    root = Path(medkern.data.__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_docstring_examples_run():
    pytest.importorskip("pydicom")
    result = doctest.testmod(medkern.data.samples)
    assert result.attempted > 0
    assert result.failed == 0
