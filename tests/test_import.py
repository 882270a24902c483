"""What importing costs, and what it must not do to the process."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import medkern


def run(code: str, **environment: str) -> str:
    import os

    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | environment,
        timeout=120,
    )
    return result.stdout.strip()


def test_import_alone_does_not_import_torch():
    assert run("import sys, medkern; print('torch' in sys.modules)") == "False"


def test_first_use_registers_the_ops():
    code = "import medkern; medkern.haar_dwt; import torch; print(torch.ops.medkern.haar_dwt)"
    assert run(code) == "medkern.haar_dwt"


def test_torch_imported_first_registers_at_import():
    assert run("import torch, medkern; print(torch.ops.medkern.haar_pool)") == "medkern.haar_pool"


@pytest.mark.parametrize(
    "module",
    ["ops", "backend", "_registry", "nn", "info", "data", "recipes", "rules", "testing", "_api"],
)
def test_any_module_may_come_first(module):
    code = f"import medkern.{module} as m, medkern; print(medkern.haar_pool.__name__)"
    assert run(code) == "haar_pool"


def test_ops_alone_load_the_kernels():
    code = "import medkern.ops; from medkern import backend; print(backend.native().loaded)"
    assert run(code) == "True"


def test_costs_little_over_torch():
    code = (
        "import torch, time; t = time.process_time(); import medkern; medkern.haar_dwt; "
        "print(time.process_time() - t)"
    )
    # With bytecode, as for users: to compile the sources takes most of the time.
    seconds = min(float(run(code, PYTHONDONTWRITEBYTECODE="")) for _ in range(3))
    assert seconds < 0.3


def test_leaves_the_process_alone():
    """Subnormal numbers survive, no thread starts, no CUDA context is made, nothing is printed."""
    code = """
import torch, numpy as np, os, json
before = len(os.listdir("/proc/self/task"))
import medkern, medkern.numpy
medkern.haar_dwt
print(json.dumps([
    float(np.float32(1e-38) / np.float32(1000)),
    (torch.tensor(1e-38) / 1000).item(),
    len(os.listdir("/proc/self/task")) - before,
    torch.cuda.is_initialized(),
]))
"""
    numpy_value, torch_value, threads, cuda = json.loads(run(code))
    assert numpy_value == pytest.approx(1e-41, rel=1e-3)
    assert torch_value == pytest.approx(1e-41, rel=1e-3)
    assert (threads, cuda) == (0, False)


def test_names():
    assert {"haar_dwt", "haar_pool", "nn", "explain", "use_backend"} <= set(dir(medkern))
    with pytest.raises(AttributeError, match="no attribute 'fast_magic'"):
        medkern.fast_magic  # noqa: B018


def test_backend_from_the_environment():
    code = "import torch, medkern; print(medkern.explain('haar_pool', torch.ones(1, 1, 2, 2)).runs)"
    assert run(code) == "native"
    assert run(code, MEDKERN_BACKEND="reference") == "reference"
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run(code, MEDKERN_BACKEND="quantum")
    assert "MEDKERN_BACKEND must be one of native, triton, reference, got 'quantum'" in str(
        caught.value.stderr
    )


def test_explain_unknown_op():
    with pytest.raises(ValueError, match=r"op must be one of .*haar_dwt, .*got 'haar_dtw'"):
        medkern.explain("haar_dtw")
