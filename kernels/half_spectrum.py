"""Half spectra, by torch's transforms: there is nothing of ours to run.

`LAUNCHERS` take what the ops in medkern/ops/half_spectrum.py take.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from medkern.kernels import _runtime
from medkern.kernels._runtime import why_not  # noqa: F401
from medkern.reference import half_spectrum as reference


def half_spectrum(x: Tensor) -> Tensor:
    _runtime.check("half_spectrum", x)
    return reference.half_spectrum(x).contiguous()


def half_spectrum_adjoint(spectrum: Tensor, width: int) -> Tensor:
    _runtime.check("half_spectrum", spectrum)
    return reference.half_spectrum_adjoint(spectrum, width).contiguous()


# The function of each registered op, with the very arguments of the op.
LAUNCHERS: dict[str, Callable[..., Tensor]] = {
    "_half_spectrum": half_spectrum,
    "_half_spectrum_adjoint": half_spectrum_adjoint,
}
