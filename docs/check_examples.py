"""Run every ```python and ```pycon block of the given Markdown files; exit 1 if one fails.

The blocks of a file share their names, in order. A ```pycon block is a doctest. A block after the
line <!-- no-run --> is skipped.

    python docs/check_examples.py README.md docs
"""

from __future__ import annotations

import doctest
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = re.compile(
    r"^(?P<skip><!-- no-run -->\n)?```(?P<kind>python|pycon)\n(?P<code>.*?)^```$", re.M | re.S
)


def files(paths: list[str]) -> Iterator[Path]:
    for path in map(Path, paths):
        if path.is_dir():
            yield from (p for p in sorted(path.rglob("*.md")) if "_build" not in p.parts)
        else:
            yield path


def run(path: Path) -> tuple[int, int]:
    """How many blocks of a file ran, and how many of them failed."""
    text, names, ran, failed = path.read_text(), {"__name__": "__main__"}, 0, 0
    for block in BLOCK.finditer(text):
        if block["skip"]:
            continue
        line = text.count("\n", 0, block.start("code"))
        good = run_block(block["kind"], block["code"], names, path, line)
        ran, failed = ran + 1, failed + (not good)
    return ran, failed


def run_block(kind: str, code: str, names: dict[str, Any], path: Path, line: int) -> bool:
    if kind == "pycon":
        test = doctest.DocTestParser().get_doctest(code, names, path.name, str(path), line)
        result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, clear_globs=False)
        names.update(test.globs)
        return result.failed == 0
    try:
        exec(compile("\n" * line + code, str(path), "exec"), names)
    except Exception:
        traceback.print_exc()
        return False
    return True


def main(paths: list[str]) -> int:
    total = failures = 0
    for path in files(paths):
        ran, failed = run(path)
        total, failures = total + ran, failures + failed
        if ran:
            print(f"{path}: {ran} blocks, {failed} failed")
    if not total:
        print("no examples found")
    return 1 if failures or not total else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
