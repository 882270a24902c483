"""Sphinx directives that are filled from the package itself, so that they cannot fall behind it.

`medkern-ops`: one row per registered op. `medkern-verification`: what ran where. `medkern-budget`:
what the CUDA kernels cost. `medkern-benchmarks`: the committed measurements, if any.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import rich.console
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from medkern import ops
from medkern._registry import OPS, OpSpec

HEADER = ("op", "schema", "dtypes", "differentiable", "autocast", "batched")
RULE = re.compile(r"(`[^`]*`)")
MARKUP = re.compile(r"[*|]|(?<=\w)_(?!\w)")


class OpsTable(SphinxDirective):
    """A table of the public ops, or with `:private:` of their helpers."""

    option_spec: ClassVar[dict[str, Any]] = {"private": directives.flag}

    def run(self) -> list[nodes.Node]:
        private = "private" in self.options
        specs = [op.spec for op in OPS.values() if op.spec.public != private]
        lines = [row(HEADER), row("---" for _ in HEADER), *map(spec_row, specs)]
        return self.parse_text_to_nodes("\n".join(lines))


def row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def spec_row(spec: OpSpec) -> str:
    name = f"`{spec.name}`"
    if spec.name in ops.__all__:
        name = f"{{py:func}}`{spec.name} <medkern.{spec.name}>`"
    dtypes = ", ".join(str(dtype).removeprefix("torch.") for dtype in spec.dtypes)
    differentiable = "yes" if spec.differentiable else "no"
    batched = "folded" if spec.fold else "looped"
    return row((name, f"`{spec.schema}`", dtypes, differentiable, spec.autocast, batched))


VERIFIED = (
    "CPU baseline",
    "CPU avx2",
    "CPU avx512",
    "CUDA emulated",
    "CUDA compiled sm_80",
    "CUDA compiled sm_90",
    "Triton interpreted",
    "Triton compiled sm_80",
    "Triton compiled sm_90",
    "run on hardware",
)


class Verification(SphinxDirective):
    """Op by way of running it: how many tests passed, from docs/verification.json."""

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.srcdir) / "verification.json"
        self.env.note_dependency(str(path))
        evidence = json.loads(path.read_text())
        lines = [row(("op", *VERIFIED)), row("---" for _ in range(len(VERIFIED) + 1))]
        lines += [
            row((f"`{name}`", *(verdict(evidence.get(name, {}).get(c, {})) for c in VERIFIED)))
            for name in OPS
        ]
        return self.parse_text_to_nodes("\n".join(lines))


def verdict(outcomes: dict[str, int]) -> str:
    if outcomes.get("failed"):
        return f"**{outcomes['failed']} failed**"
    return f"{outcomes['passed']} passed" if outcomes.get("passed") else "never"


class Budget(SphinxDirective):
    """The compiled CUDA kernels' registers, memory and occupancy, from docs/gpu-budget.json."""

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.srcdir) / "gpu-budget.json"
        self.env.note_dependency(str(path))
        header = (
            "kernel",
            "architecture",
            "instances",
            "registers",
            "stack",
            "shared",
            "occupancy",
        )
        lines = [row(header), row("---" for _ in header)]
        for kernel, archs in json.loads(path.read_text())["kernels"].items():
            for arch, use in archs.items():
                cells = [use["instances"], *(use[f"most_{k}"] for k in header[3:6])]
                occupancy = f"{use['least_occupancy']:.0%}"
                lines.append(row((f"`{kernel}`", arch, *map(str, cells), occupancy)))
        return self.parse_text_to_nodes("\n".join(lines))


class Benchmarks(SphinxDirective):
    """The picture, the table and the file of every `benchmarks/<family>.json` and `.png`."""

    def run(self) -> list[nodes.Node]:
        folder = Path(self.env.srcdir) / "benchmarks"
        families = sorted({p.stem for p in folder.glob("*.*") if p.suffix in (".json", ".png")})
        if not families:
            return self.parse_text_to_nodes("This version has no committed measurements.")
        return [node for family in families for node in self.family(folder / family)]

    def family(self, stem: Path) -> list[nodes.Node]:
        lines = []
        data, picture = stem.with_suffix(".json"), stem.with_suffix(".png")
        for path in (data, picture):
            self.env.note_dependency(str(path))
        if picture.exists():
            alt = f"speed-ups of the {stem.name} ops"
            lines += [f"```{{image}} /benchmarks/{picture.name}", f":alt: {alt}", "```", ""]
        if data.exists():
            lines += ["````text", table(data), "````", ""]
            lines += [f"All numbers: {{download}}`{data.name} </benchmarks/{data.name}>`."]
        return self.parse_text_to_nodes("\n".join([f"**{stem.name}**", "", *lines]))


def table(path: Path) -> str:
    """What `medkern bench` printed at the end of the run."""
    from medkern.benchmarks import report

    text = io.StringIO()
    report.show(report.load(path), rich.console.Console(file=text, width=120, highlight=False))
    return text.getvalue().strip()


def prepare_docstring(
    app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]
) -> None:
    """Keep `2**ndim, *half`, `|a|`, `h_` from being read as markup, `[...]:` as a return type."""
    example = False
    for i, line in enumerate(lines):
        if i and lines[i - 1].strip() == "Returns:":
            line = re.sub(r"^(\s*)", r"\1: ", line)  # an empty type
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        if not example:
            parts = RULE.split(line)
            parts[::2] = [MARKUP.sub(r"\\\g<0>", part) for part in parts[::2]]
            lines[i] = "".join(parts)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("medkern-ops", OpsTable)
    app.add_directive("medkern-verification", Verification)
    app.add_directive("medkern-budget", Budget)
    app.add_directive("medkern-benchmarks", Benchmarks)
    app.connect("autodoc-process-docstring", prepare_docstring, priority=100)  # before napoleon
    return {"parallel_read_safe": True}
