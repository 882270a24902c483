"""Installing where no compiler works: the references run, and `medkern info` says why."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PARTS = ("CMakeLists.txt", "LICENSE", "README.md", "pyproject.toml")
FOLDERS = ("benchmarks", "build_support", "cmake", "csrc", "kernels", "medkern")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with medkern installed from a wheel that was built with a broken compiler."""
    pytest.importorskip("scikit_build_core")
    base = tmp_path_factory.mktemp("install")
    source = base / "source"
    source.mkdir()
    for name in PARTS:
        shutil.copy(ROOT / name, source)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("*.so"))
    target = base / "target"
    command = ["install", "--no-deps", "--no-build-isolation", "--target", target, source]
    subprocess.run(
        [sys.executable, "-m", "pip", *map(str, command)],
        env=os.environ | {"CXX": "/bin/false"},
        check=True,
        timeout=300,
        capture_output=True,
    )
    return target


def python(installed: Path, code: str) -> str:
    # The editable install would win over PYTHONPATH; -S with explicit paths keeps it out.
    paths = [str(installed), *(p for p in sys.path if p.endswith("site-packages"))]
    code = f"import sys; sys.path[:0] = {paths!r}\n{code}"
    result = subprocess.run(
        [sys.executable, "-S", "-c", code],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=installed,
    )
    return result.stdout


@pytest.mark.slow
def test_nothing_is_compiled(installed):
    assert not list(installed.rglob("*.so"))


@pytest.mark.slow
def test_references_run_and_differentiate(installed):
    code = """
import torch, medkern as mk
assert mk.__path__[0].startswith(sys.path[0])
x = torch.ones(1, 1, 4, 4, requires_grad=True)
mk.haar_pool(x, "ll").sum().backward()
print(mk.explain("haar_pool", x).runs, round(x.grad.sum().item(), 3))
"""
    assert python(installed, code).split() == ["reference", "8.0"]


@pytest.mark.slow
def test_info_says_why(installed):
    code = "from medkern.cli import main; main(['info'])"
    assert "without a working C++20 compiler" in python(installed, code)


@pytest.mark.slow
def test_numpy_module_says_why(installed):
    code = """
try:
    import medkern.numpy
except ImportError as error:
    print(error)
"""
    assert "install g++ and reinstall" in python(installed, code)
