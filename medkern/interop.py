"""Arrays of any kind in, the same kind out, without copies where strides allow."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

ArrayT = TypeVar("ArrayT")


def as_tensor(op: str, argument: str, array: ArrayT) -> tuple[Tensor, Callable[[Tensor], ArrayT]]:
    """A tensor on the memory of `array`, and the function that turns results into its kind.

    Takes torch tensors, NumPy arrays and anything with `__dlpack__` (CuPy, JAX, ...); an array
    library is recognised by the `from_dlpack` of its own namespace.

    Raises:
        TypeError: `array` is none of these.
    """
    if isinstance(array, Tensor):
        if array.layout != torch.strided:
            raise TypeError(
                f"medkern.{op}: {argument} must be dense, got a tensor of layout {array.layout}; "
                "call its to_dense()"
            )
        return array, lambda t: t  # type: ignore[return-value,unused-ignore]
    if isinstance(array, np.ndarray):
        return _from_numpy(op, argument, array), lambda t: t.numpy()
    if hasattr(array, "__dlpack__"):
        namespace = _namespace(array)
        if namespace is not None:
            tensor = torch.utils.dlpack.from_dlpack(array)
            return tensor, lambda t: namespace.from_dlpack(t.contiguous())
    raise TypeError(
        f"medkern.{op}: {argument} must be a torch tensor, a NumPy array or another array with "
        f"__dlpack__, got {type(array).__name__}; convert it first"
    )


def dtype_name(dtype: torch.dtype) -> str:
    """The name that NumPy and torch share, for example "float32"."""
    return str(dtype).removeprefix("torch.")


def _from_numpy(op: str, argument: str, array: np.ndarray[Any, Any]) -> Tensor:
    # torch refuses negative and odd strides and foreign byte order, and warns of read-only memory.
    strided = any(s < 0 or s % array.itemsize for s in array.strides)
    if strided or not array.dtype.isnative or not array.flags.writeable:
        array = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
    try:
        return torch.from_numpy(array)
    except TypeError as error:
        raise TypeError(
            f"medkern.{op}: {argument} must have a dtype that torch knows, got {array.dtype}; "
            "convert it, for example with astype"
        ) from error


def _namespace(array: Any) -> Any:
    if hasattr(array, "__array_namespace__"):
        return array.__array_namespace__()
    module = importlib.import_module(type(array).__module__.split(".")[0])
    return module if hasattr(module, "from_dlpack") else None
