"""Plants bugs in the kernels, one at a time, and asks the tests to notice: `make mutants`.

Each mutant is built as an emulated library (the block arithmetic that CPU and CUDA kernels share,
and the CUDA kernels) and run through tests/test_emulated.py, which compares it with the installed,
unharmed CPU kernels. A mutant that the tests accept is a survivor: exit code 1.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    before: str
    after: str


MUTANTS = (
    Mutant("butterfly sign", "core/haar_modes.hpp", "v[q] - v[q | step]", "v[q | step] - v[q]"),
    Mutant("one IEWA weight", "core/haar_modes.hpp", "corner == 0 ? k", "corner == 1 ? k"),
    Mutant("the last maximum wins", "core/haar_modes.hpp", "!(key <= best)", "!(key < best)"),
    Mutant("lifting rounds up", "core/haar_modes.hpp", "x[q | step] + (d", "x[q | step] - (-d"),
    Mutant("reflect copies the edge", "core/haar.hpp", "n > 1 ? n - 2 : 0", "n - 1"),
    Mutant("a row past the end", "core/haar_blocks.hpp", "return 2 * k + bit < p", "return k < p"),
    Mutant(
        "padding forgets axis 1",
        "core/haar_blocks.hpp",
        "axis < 2; ++axis) {\n      const int64_t i = 2",
        "axis < 1; ++axis) {\n      const int64_t i = 2",
    ),
    Mutant("unguarded tail", "cuda/haar.cuh", "index < (count)", "index <= (count)"),
    Mutant("the tail left out", "cuda/haar.cuh", "index < (count)", "index < (count) - 1"),
    Mutant("wrong mask", "cuda/haar.cuh", "if (!Base::writes_row(p, b, r)) return;", ""),
    Mutant(
        "copied rows not gathered", "cuda/haar.cuh", "if (!Base::row_is_copied(p, b, r)) {", "{"
    ),
    Mutant("vectors in odd rows", "cuda/haar_launch.cuh", "p.size[2] % 2 != 0", "false"),
    Mutant(
        "alignment unchecked",
        "cuda/haar_launch.cuh",
        "return elements % lanes == 0",
        "return elements == elements + 0 * lanes",
    ),
)


def build(source: Path, library: Path) -> None:
    """The emulated library of a tree, with the flags of cmake/cuda.cmake, as fast as g++ goes."""
    import torch

    torch_root = Path(torch.__file__).parent
    flags = ["-std=c++20", "-O1", "-fPIC", "-fwrapv", "-ffp-contract=off", "-fvisibility=hidden"]
    defines = ["MEDKERN_EMULATED", "MEDKERN_ISA=emulated", "TORCH_STABLE_ONLY"]
    defines.append("TORCH_TARGET_VERSION=0x020b000000000000")
    common = [*flags, *(f"-D{d}" for d in defines), f"-I{source}", f"-isystem{torch_root}/include"]
    units = sorted((source / "cuda").glob("*.cu")) + sorted((source / "cuda").glob("*.cpp"))
    objects, running = [], []
    for unit in units:
        objects.append(library.parent / f"{unit.name}.o")
        command = ["g++", *common, "-x", "c++", "-c", str(unit), "-o", str(objects[-1])]
        running.append(subprocess.Popen(command))
    if any(process.wait() for process in running):
        raise RuntimeError("a mutant does not compile")
    link = [f"-L{torch_root}/lib", "-ltorch_cpu", "-o", str(library)]
    subprocess.run(["g++", "-shared", *map(str, objects), *link], check=True)


def is_noticed(mutant: Mutant) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "csrc"
        shutil.copytree(ROOT / "csrc", source)
        file = source / mutant.file
        text = file.read_text()
        if mutant.before not in text:
            raise RuntimeError(f"{mutant.name}: {mutant.file} has no {mutant.before!r}")
        file.write_text(text.replace(mutant.before, mutant.after))
        library = Path(folder) / "_emulated.so"
        build(source, library)
        tests = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "tests/test_emulated.py"],
            cwd=ROOT,
            env=os.environ | {"MEDKERN_EMULATED_LIBRARY": str(library)},
            capture_output=True,
        )
        return tests.returncode != 0


def main() -> int:
    survivors = []
    for mutant in MUTANTS:
        noticed = is_noticed(mutant)
        print(f"{'noticed ' if noticed else 'SURVIVED'}  {mutant.name}", flush=True)
        survivors += [] if noticed else [mutant.name]
    print(f"{len(MUTANTS)} mutants, {len(survivors)} survived")
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main())
