"""Plants bugs in the package, one at a time, and asks the tests to notice: `make mutants`.

A mutant lives in a copy of the package, with the library of its kind built anew:
  emulated  the CUDA kernels and the arithmetic that they share with the CPU; compared with the
            installed, unharmed CPU kernels by tests/test_emulated.py
  native    the CPU kernels, compiled for the baseline; run through the tests of their family
  python    nothing is compiled
A mutant that the tests accept is a survivor: exit code 1. Words of the names to try may be given.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from planted import MUTANTS, Mutant

ROOT = Path(__file__).parent.parent
# The tests of the copy: no editable install may answer `import medkern` before it.
RUN = """
import sys
sys.meta_path = [f for f in sys.meta_path if "ScikitBuild" not in type(f).__name__]
sys.path.insert(0, {copy!r})
import pytest, torch, medkern  # torch first: only then does medkern register its ops at once
assert medkern.__file__.startswith({copy!r}), medkern.__file__
sys.exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *{tests!r}]))
"""


def sources(library: str) -> tuple[list[Path], list[str]]:
    """The translation units of a library and the macros that they are compiled with."""
    csrc = ROOT / "csrc"
    if library == "emulated":
        units = [*(csrc / "cuda").glob("*.cu"), *(csrc / "cuda").glob("*.cpp")]
        return sorted(units), ["MEDKERN_EMULATED", "MEDKERN_ISA=emulated"]
    units = [*(csrc / "cpu").glob("*.cpp"), *(csrc / "isa").glob("*.cpp")]
    return sorted(units), ["MEDKERN_ISA=baseline", "MEDKERN_DEFINE_SELECTORS"]


def command(library: str, csrc: Path) -> list[str]:
    """The compiler with the flags of the project, as fast as it goes."""
    flags = ["-std=c++20", "-O1", "-fPIC", "-fwrapv", "-ffp-contract=off", "-fvisibility=hidden"]
    flags.append("-Wno-psabi")
    defines = [*sources(library)[1], "TORCH_STABLE_ONLY", "TORCH_TARGET_VERSION=0x020b000000000000"]
    return [
        *("g++", *flags, *(f"-D{d}" for d in defines)),
        *(f"-I{csrc}", f"-isystem{torch_root()}/include", "-x", "c++"),
    ]


@functools.cache
def torch_root() -> Path:
    import torch

    return Path(torch.__file__).parent


def run_all(commands: list[list[str]]) -> None:
    """Run commands, as many at once as there are processors."""
    running: list[subprocess.Popen[bytes]] = []
    for one in commands:
        if len(running) == (os.cpu_count() or 1) and running.pop(0).wait():
            raise RuntimeError("a mutant does not compile")
        running.append(subprocess.Popen(one))
    if sum(process.wait() != 0 for process in running):
        raise RuntimeError("a mutant does not compile")


@functools.cache
def unharmed(library: str, folder: Path) -> dict[Path, tuple[Path, str]]:
    """Per unit of a library its object and the names of the files that it was made of."""
    objects = folder / library
    objects.mkdir()
    made = {u: objects / f"{u.parent.name}-{u.name}.o" for u in sources(library)[0]}
    compiler = command(library, ROOT / "csrc")
    run_all([[*compiler, "-MMD", "-c", str(u), "-o", str(o)] for u, o in made.items()])
    return {u: (o, o.with_suffix(".d").read_text()) for u, o in made.items()}


def build(mutant: Mutant, library: str, copy: Path, folder: Path) -> None:
    """The library of the copy's sources, of which only the harmed units are compiled."""
    compiler, commands, objects = command(library, copy / "csrc"), [], []
    for unit, (made, parts) in unharmed(library, folder).items():
        if mutant.file in parts:
            made = copy / made.name
            commands.append([*compiler, "-c", str(copy / unit.relative_to(ROOT)), "-o", str(made)])
        objects.append(made)
    run_all(commands)
    out = copy / "medkern" / f"_{library}.so"
    out.unlink()
    link = [f"-L{torch_root()}/lib", "-ltorch_cpu", "-o", str(out)]
    subprocess.run(["g++", "-shared", *map(str, objects), *link], check=True)


def is_noticed(mutant: Mutant, folder: Path) -> bool:
    from medkern import _library

    installed = _library.find("_native")
    if installed is None:
        raise RuntimeError("the mutants need an installed medkern with compiled kernels")
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch)
        for name in ("csrc", "medkern", "tests", "docs"):
            shutil.copytree(ROOT / name, copy / name)
        for name in ("kernels", "benchmarks"):
            shutil.copytree(ROOT / name, copy / "medkern" / name)
        for library in installed.parent.glob("*.so"):
            shutil.copy(library, copy / "medkern")
        file = copy / mutant.file
        text = file.read_text()
        if mutant.before not in text:
            raise RuntimeError(f"{mutant.name}: {mutant.file} has no {mutant.before!r}")
        file.write_text(text.replace(mutant.before, mutant.after))
        if mutant.library is not None:
            build(mutant, mutant.library, copy, folder)
        script = RUN.format(copy=str(copy), tests=mutant.tests)
        # From a folder of its own: the checkout would shadow the copy.
        command = [sys.executable, "-c", script]
        environment = os.environ | {"PYTHONPATH": str(copy)}
        return (
            subprocess.run(command, cwd=copy, env=environment, capture_output=True).returncode != 0
        )


def main(words: list[str]) -> int:
    chosen = [m for m in MUTANTS if not words or any(w in m.name for w in words)]
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        for one in {m.tests: m for m in chosen}.values():
            if is_noticed(replace(one, after=one.before), Path(folder)):
                raise RuntimeError(f"{' '.join(one.tests)}: red without a bug")
        for mutant in chosen:
            noticed = is_noticed(mutant, Path(folder))
            print(f"{'noticed ' if noticed else 'SURVIVED'}  {mutant.name}", flush=True)
            survivors += [] if noticed else [mutant.name]
    print(f"{len(chosen)} mutants, {len(survivors)} survived")
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
