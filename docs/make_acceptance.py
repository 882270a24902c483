"""Write docs/systems/acceptance.md: what the runs of `make acceptance` in docs/acceptance measured.

A number's path in a file names its row, by all but the last word, and its column, by the last one.
Rows that follow each other with the same columns are one table.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
INTRODUCTION = """# What was measured

Written by `docs/make_acceptance.py` from `docs/acceptance`, which `make acceptance` fills: training
runs on generated data, with the seeds in the tables or in `tests/acceptance`. Times are of the
processor. What the numbers mean stands on the pages of the systems.
"""

Row = tuple[str, dict[str, str]]


def rows(tree: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[Row]:
    """The leaves of each branch as a row, then those of the branches below it."""
    leaves = {name: text(value) for name, value in tree.items() if not is_branch(value)}
    if leaves:
        yield ", ".join(path), leaves
    for name, value in tree.items():
        if is_branch(value):
            yield from rows(value, (*path, name))


def is_branch(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() != {"mean", "sd"}


def text(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['mean']:.3f} ± {value['sd']:.3f}"
    if isinstance(value, list):
        return " ".join(map(text, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def tables(found: Iterator[Row]) -> Iterator[str]:
    for columns, group in itertools.groupby(found, key=lambda row: tuple(row[1])):
        yield f"| | {' | '.join(columns)} |\n|{' --- |' * (len(columns) + 1)}"
        yield from (f"| {name} | {' | '.join(cells.values())} |" for name, cells in group)
        yield ""


def section(path: Path) -> str:
    kept = json.loads(path.read_text())
    run = kept.pop("run")
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    how = f"{run['machine']}, {versions}; {run['cpu_seconds'] / 60:.0f} minutes."
    return "\n".join([f"## [{path.stem}]({path.stem}.md)\n", f"{how}\n", *tables(rows(kept))])


if __name__ == "__main__":
    files = sorted((DOCS / "acceptance").glob("*.json"))
    page = "\n".join([INTRODUCTION, *map(section, files)])
    (DOCS / "systems" / "acceptance.md").write_text(page.rstrip("\n") + "\n")
