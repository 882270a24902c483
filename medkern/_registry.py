"""One `OpSpec` per op. Everything torch must know about an op is derived from it, here.

Registering a spec defines the schema, puts the readable reference at CompositeExplicitAutograd (the
native library, where there is one, overrides it for its device), and registers the fake, the
derivatives, the vmap rule and the autocast policy. The contract tests, the docs tables and the
benchmark list read the same specs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from medkern import backend as _backend

_library = torch.library.Library("medkern", "DEF")


@dataclass(frozen=True)
class Sample:
    """Arguments that an op accepts, for the contract tests.

    name: what is special about them. args: the op's positional arguments.
    """

    name: str
    args: tuple[Any, ...]


@dataclass(frozen=True)
class OpSpec:
    """The definition of one op.

    name: the op is `torch.ops.medkern.<name>`; a leading underscore marks a helper of another op.
    schema: arguments and results, as in `torch.library.Library.define`.
    reference: the definition in plain PyTorch, correct in float64 and differentiable by torch.
    fake: allocates, uninitialised, exactly what the kernel allocates (shape, dtype and strides).
    samples: arguments for the contract tests, given a floating dtype.
    setup_context, backward, jvp: as in `torch.autograd.Function`, over the op's arguments; None
        for an op of integers. Second derivatives come from the ops that `backward` calls.
    autocast: "keep" leaves dtypes alone; "widest" casts all floating inputs to the widest of them;
        "float32" casts all but float64 to float32, like torch's own policy of that name.
    dtypes: the floating or integer dtypes of the first argument.
    fold: the vmap rule "samples along axis 0 are independent" holds (else torch loops).
    fused: products by fused multiply-add, which the baseline instruction set lacks: there equal to
        rounding, not to the bit.
    triton: "module:function" of a Triton launcher with the op's arguments and the fake's results;
        its module has `why_not(*args)`, which says why it cannot run, if so.
    cuda: there are CUDA kernels; where not, the reference runs on CUDA tensors.
    host: on CUDA tensors run the CPU's kernel on copies: one sequence of visits, with no CUDA
        kernels, whose reference is no work for a GPU either.
    """

    name: str
    schema: str
    reference: Callable[..., Any]
    fake: Callable[..., Any]
    samples: Callable[[torch.dtype], Iterable[Sample]]
    setup_context: Callable[..., None] | None = None
    backward: Callable[..., Any] | None = None
    jvp: Callable[..., Any] | None = None
    autocast: str = "keep"
    dtypes: tuple[torch.dtype, ...] = (
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
    )
    fold: bool = True
    triton: str | None = None
    cuda: bool = True
    host: bool = False
    fused: bool = False

    @property
    def differentiable(self) -> bool:
        return self.backward is not None

    @property
    def public(self) -> bool:
        return not self.name.startswith("_")


@dataclass(frozen=True)
class Entry:
    """A torch op, and the same as an autograd.Function for transforms (None: no derivatives)."""

    packet: Any
    function: Any

    def __call__(self, *args: Any) -> Any:
        if self.function is not None and _needs_function():
            return self.function.apply(*args)
        return self.packet(*args)


class Op:
    """A registered op: call it with the schema's arguments and, optionally, a backend.

    packet: `torch.ops.<namespace>.<name>`. Triton kernels are an op of their own, with the same
    schema, fake and derivatives.
    """

    def __init__(self, spec: OpSpec, namespace: str, native: Entry, triton: Entry | None) -> None:
        self.spec = spec
        self.qualname = f"{namespace}::{spec.name}"
        self.native = native
        self.triton = triton

    @property
    def packet(self) -> Any:
        return self.native.packet

    def __call__(self, *args: Any, backend: str | None = None) -> Any:
        name = _backend.choose(self, args, backend)
        if name == "reference":
            return self.spec.reference(*args)
        if name == "triton":
            return self.triton(*args)  # type: ignore[misc]  # choose() has checked
        if torch.compiler.is_compiling():
            return self.native(*args)
        try:
            return self.native(*args)
        except RuntimeError as error:
            # Long kernels give way to Ctrl-C: see csrc/core/common/parallel.hpp.
            if str(error).startswith("interrupted"):
                raise KeyboardInterrupt from None
            raise


def _needs_function() -> bool:
    """Whether torch.func or forward-mode AD is at work on an eager call.

    An op with torch.library's autograd registration alone raises under torch.func.grad and returns
    zero tangents under torch.func.jvp; a torch.autograd.Function serves both but not fullgraph
    compilation. So eager calls under a transform take the Function, all others the op.
    """
    if torch.compiler.is_compiling():
        return False
    active: bool = torch._C._are_functorch_transforms_active()
    return active or torch.autograd.forward_ad._current_level >= 0


OPS: dict[str, Op] = {}


def register(spec: OpSpec) -> Op:
    """Register an op of medkern."""
    OPS[spec.name] = define(spec, _library, "medkern")
    return OPS[spec.name]


def define(spec: OpSpec, library: torch.library.Library, namespace: str) -> Op:
    """Define `namespace::name` in `library` and derive all registrations from the spec."""
    native = _define_entry(spec, library, namespace, spec.name)
    library.impl(spec.name, _strided_reference(spec), "CompositeExplicitAutograd")
    if spec.host:
        library.impl(spec.name, _on_host(native.packet), "CUDA")
    triton = None
    if spec.triton is not None:
        name = f"_{spec.name.lstrip('_')}_triton"
        triton = _define_entry(spec, library, namespace, name)
        for key in ("CPU", "CUDA"):  # CPU: Triton's interpreter
            library.impl(name, _launcher(spec.triton), key)
    return Op(spec, namespace, native, triton)


def _define_entry(spec: OpSpec, library: torch.library.Library, namespace: str, name: str) -> Entry:
    """Schema, fake, derivatives, vmap and autocast of one torch op."""
    tags = (torch.Tag.pt2_compliant_tag, torch.Tag.needs_exact_strides)
    library.define(name + spec.schema, tags=tags)
    packet = getattr(getattr(torch.ops, namespace), name)
    qualname = f"{namespace}::{name}"
    torch.library.register_fake(qualname, spec.fake, lib=library)
    function = None
    if spec.backward is not None:
        torch.library.register_autograd(
            qualname, spec.backward, setup_context=spec.setup_context, lib=library
        )
        function = _function(spec, packet)
    entry = Entry(packet, function)
    if spec.fold:
        torch.library.register_vmap(qualname, _fold_rule(entry), lib=library)
    if spec.autocast != "keep":
        for device in ("cpu", "cuda"):
            _register_autocast(spec.autocast, packet, name, library, device)
    return entry


def _launcher(target: str) -> Callable[..., Any]:
    """The function `module:function`, imported when it is first called."""
    module, name = target.split(":")
    return lambda *args: getattr(importlib.import_module(module), name)(*args)


def _strided_reference(spec: OpSpec) -> Callable[..., Any]:
    """The reference with the strides that the fake promises, never aliasing an input."""

    def run(*args: Any) -> Any:
        return pytree.tree_map(
            lambda out, value: out.copy_(value), spec.fake(*args), spec.reference(*args)
        )

    return run


def _on_host(packet: Any) -> Callable[..., Any]:
    """The op on copies in the host's memory; results return to the device of the first tensor."""

    def run(*args: Any) -> Any:
        device = next(arg.device for arg in args if isinstance(arg, Tensor))
        out = packet(*(arg.cpu() if isinstance(arg, Tensor) else arg for arg in args))
        return pytree.tree_map(lambda t: t.to(device), out)

    return run


def _fold_rule(op: Callable[..., Any]) -> Callable[..., Any]:
    """vmap by folding the mapped axis into axis 0."""

    def rule(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        size = info.batch_size

        def lead(arg: Any, dim: int | None) -> Any:
            if not isinstance(arg, Tensor):
                return arg
            return arg.expand(size, *arg.shape) if dim is None else arg.movedim(dim, 0)

        mapped = [lead(arg, dim) for arg, dim in zip(args, in_dims, strict=True)]
        batch = next(arg.shape[1] for arg in mapped if isinstance(arg, Tensor))
        out = op(*(arg.flatten(0, 1) if isinstance(arg, Tensor) else arg for arg in mapped))
        return (
            pytree.tree_map(lambda t: t.unflatten(0, (size, batch)), out),
            pytree.tree_map(lambda t: 0, out),
        )

    return rule


def _function(spec: OpSpec, packet: Any) -> Any:
    """The op as an autograd.Function, with the very derivatives of the op's registration."""
    members: dict[str, Any] = {
        "forward": staticmethod(lambda *args: packet(*args)),
        "setup_context": staticmethod(cast(Callable[..., Any], spec.setup_context)),
        "backward": staticmethod(cast(Callable[..., Any], spec.backward)),
    }
    if spec.jvp is not None:
        members["jvp"] = staticmethod(spec.jvp)
    function: Any = type(f"{spec.name}_function", (torch.autograd.Function,), members)
    function.vmap = staticmethod(_fold_rule(Entry(packet, function)))
    return function


def _register_autocast(
    policy: str, packet: Any, name: str, library: torch.library.Library, device: str
) -> None:
    key = f"Autocast{device.upper()}"
    keyset = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))

    def run(*args: Any) -> Any:
        tensors = [t for t in args if isinstance(t, Tensor) and t.is_floating_point()]
        dtype = _autocast_dtype(policy, tensors)
        kept = (torch.float64,) if policy == "float32" else ()
        lowered = [
            a.to(dtype)
            if isinstance(a, Tensor) and a.is_floating_point() and a.dtype not in kept
            else a
            for a in args
        ]
        with torch._C._ExcludeDispatchKeyGuard(keyset):
            return packet(*lowered)

    library.impl(name, run, key)


def _autocast_dtype(policy: str, tensors: Sequence[Tensor]) -> torch.dtype:
    if policy == "float32":
        return torch.float32
    dtype = tensors[0].dtype
    for t in tensors[1:]:
        dtype = torch.promote_types(dtype, t.dtype)
    return dtype
