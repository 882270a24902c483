"""Arrays of any library in, the same kind out, without copies where strides allow."""

import re
import sys
import types

import numpy as np
import pytest
import torch

import medkern as mk
from medkern.interop import as_tensor


class FakeArray:
    """An array of a library that medkern has never heard of: DLPack and a namespace, no more."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __dlpack__(self, **options):
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.tensor.__dlpack_device__()

    def __array_namespace__(self, api_version=None):
        return FakeNamespace


class FakeNamespace:
    @staticmethod
    def from_dlpack(source):
        return FakeArray(torch.from_dlpack(source))


class WithoutNamespace:
    """As CuPy before the array API standard: `from_dlpack` sits in the class's top module."""

    def __init__(self, tensor):
        self.tensor = tensor

    __dlpack__ = FakeArray.__dlpack__
    __dlpack_device__ = FakeArray.__dlpack_device__


@pytest.fixture
def foreign_library(monkeypatch):
    module = types.ModuleType("foreign_library")
    module.from_dlpack = lambda source: WithoutNamespace(torch.from_dlpack(source))
    monkeypatch.setitem(sys.modules, "foreign_library", module)
    monkeypatch.setattr(WithoutNamespace, "__module__", "foreign_library.core")
    return module


def numpy_of(array):
    return array.tensor.numpy() if hasattr(array, "tensor") else np.asarray(array)


IMAGE = torch.linspace(-1, 1, 2 * 3 * 5 * 7).reshape(2, 3, 5, 7)
CALLS = {
    "dwt": lambda x: mk.haar_dwt(x),
    "pool": lambda x: mk.haar_pool(x, "max_concat"),
    "wavedec": lambda x: mk.haar_wavedec(x)[1],
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", ["torch", "numpy", "namespace", "module"])
def test_same_kind_out(kind, call, foreign_library):
    make, expected = {
        "torch": (lambda t: t, torch.Tensor),
        "numpy": (lambda t: t.numpy(), np.ndarray),
        "namespace": (FakeArray, FakeArray),
        "module": (WithoutNamespace, WithoutNamespace),
    }[kind]
    result = CALLS[call](make(IMAGE))
    assert type(result) is expected
    np.testing.assert_array_equal(numpy_of(result), CALLS[call](IMAGE).numpy())


@pytest.mark.parametrize("make", [lambda t: t, lambda t: t.numpy(), FakeArray])
def test_round_trip_through_every_function(make):
    x = make(IMAGE)
    for back in (
        mk.haar_idwt(mk.haar_dwt(x), size=(5, 7)),
        mk.haar_waverec(mk.haar_wavedec(x), size=(5, 7)),
    ):
        assert type(back) is type(x)
        np.testing.assert_allclose(numpy_of(back), IMAGE.numpy(), atol=1e-6)


def test_every_level_is_of_the_same_kind():
    assert {type(c) for c in mk.haar_wavedec(IMAGE.numpy())} == {np.ndarray}
    assert {type(c) for c in mk.haar_wavedec(FakeArray(IMAGE))} == {FakeArray}


def test_gradients_flow_through_tensors():
    x = IMAGE.clone().requires_grad_()
    assert mk.haar_pool(x).requires_grad


# -- memory --


NUMPY_VIEWS = {
    "contiguous": lambda x: x,
    "sliced": lambda x: x[:, 1:, 1::2, :-1],
    "transposed": lambda x: x.swapaxes(0, 1),
    "fortran": np.asfortranarray,
    "offset": lambda x: x[1:, :, 2:, 3:],
}


@pytest.mark.parametrize("view", NUMPY_VIEWS)
def test_numpy_memory_is_shared(view):
    x = NUMPY_VIEWS[view](IMAGE.numpy().copy())
    tensor, _ = as_tensor("op", "x", x)
    assert tensor.data_ptr() == x.ctypes.data
    assert [s * x.itemsize for s in tensor.stride()] == list(x.strides)
    np.testing.assert_array_equal(tensor.numpy(), x)


def test_dlpack_memory_is_shared():
    for view in (IMAGE, IMAGE[:, 1:, ::2], IMAGE.to(memory_format=torch.channels_last)):
        tensor, _ = as_tensor("op", "x", FakeArray(view))
        assert tensor.data_ptr() == view.data_ptr()
        assert tensor.stride() == view.stride()


def test_results_are_handed_over_without_a_copy():
    result = torch.zeros(2, 3)
    _, to_numpy = as_tensor("op", "x", np.zeros(1))
    assert to_numpy(result).ctypes.data == result.data_ptr()
    _, to_fake = as_tensor("op", "x", FakeArray(result))
    assert to_fake(result).tensor.data_ptr() == result.data_ptr()
    _, to_torch = as_tensor("op", "x", torch.zeros(1))
    assert to_torch(result) is result


def test_dlpack_results_are_contiguous():
    """Many libraries take no strides: a channels-last result is copied for them."""
    result = mk.haar_pool(FakeArray(IMAGE.to(memory_format=torch.channels_last)))
    assert result.tensor.is_contiguous()
    np.testing.assert_array_equal(result.tensor.numpy(), mk.haar_pool(IMAGE).numpy())


def test_numpy_channels_last_stays_channels_last():
    x = np.moveaxis(np.ascontiguousarray(np.moveaxis(IMAGE.numpy(), 1, -1)), -1, 1)
    y = mk.haar_pool(x)
    assert np.moveaxis(y, 1, -1).flags.c_contiguous
    np.testing.assert_array_equal(y, mk.haar_pool(IMAGE).numpy())


ODD_MEMORY = {
    "negative-strides": lambda x: x[..., ::-1, ::-1],
    "big-endian": lambda x: x.astype(">f4"),
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape),
    "empty": lambda x: x[:0, ..., ::-1],
}


@pytest.mark.parametrize("view", ODD_MEMORY)
def test_numpy_memory_that_torch_refuses(view):
    x = ODD_MEMORY[view](IMAGE.numpy())
    got = mk.haar_dwt(x)
    want = mk.haar_dwt(torch.from_numpy(np.array(x, dtype=np.float32, order="C"))).numpy()
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, want)


def test_numpy_records():
    """A field of packed records has strides that are no multiple of its itemsize."""
    records = np.zeros((1, 2, 4, 6), dtype=[("tag", "u1"), ("value", "f4")])
    records["value"] = 1
    assert (mk.haar_pool(records["value"], "ll") == 2).all()


def test_read_only_input_is_left_alone():
    x = IMAGE.numpy().copy()
    x.flags.writeable = False
    tensor, _ = as_tensor("op", "x", x)
    tensor.zero_()
    np.testing.assert_array_equal(x, IMAGE.numpy())


def test_float16_and_integers_pass():
    for dtype, out in {"float16": "float16", "float64": "float64", "uint8": "int16"}.items():
        assert mk.haar_dwt(np.ones((4, 4), dtype)).dtype == out


# -- errors --


@pytest.mark.parametrize("value", [[[1.0, 2.0]], 1.0, None, "image", {"x": 1}, np.float32(1)])
def test_not_an_array(value):
    text = rf"^medkern\.haar_dwt: x must be a torch tensor, .*, got {type(value).__name__}; \S"
    with pytest.raises(TypeError, match=text):
        mk.haar_dwt(value)


def test_a_library_without_from_dlpack(foreign_library):
    del foreign_library.from_dlpack
    with pytest.raises(TypeError, match=r"got WithoutNamespace; convert it first"):
        mk.haar_dwt(WithoutNamespace(IMAGE))


@pytest.mark.parametrize(
    "x",
    [np.array([["a", "b"], ["c", "d"]]), np.array([[None, 1], [2, 3]]), np.zeros((2, 2), "M8[s]")],
    ids=lambda x: str(x.dtype),
)
def test_numpy_dtype_that_torch_lacks(x):
    text = rf"^medkern\.haar_dwt: x must .*, got {re.escape(str(x.dtype))}; \S"
    with pytest.raises(TypeError, match=text):
        mk.haar_dwt(x)
