"""Write the benchmark tables of the README and of docs/speed.md from the runs in docs/benchmarks.

A table stands between <!-- bench:FAMILY --> and <!-- /bench:FAMILY -->, where FAMILY.json is a run
of `medkern bench`. The words of its marker choose cases: <!-- bench:haar dwt/8x64 haar_pool -->
shows those whose name contains one of them; no words, all.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "speed.md")
BLOCK = re.compile(r"<!-- bench:([\w-]+)(.*?) -->\n.*?<!-- /bench:\1 -->", re.S)
HEADER = "| op, case | ms | reference | compiled | others | limit | forward + backward | error |"


def table(match: re.Match[str]) -> str:
    family, words = match[1], match[2].split()
    run = json.loads((ROOT / "docs" / "benchmarks" / f"{family}.json").read_text())
    lines = [caption(run), "", HEADER, "| " + "--- | " * HEADER.count(" | ") + "--- |"]
    lines += [row(r) for r in run["results"] if not words or any(w in r["name"] for w in words)]
    return "\n".join([match[0].split("\n")[0], *lines, f"<!-- /bench:{family} -->"])


def caption(run: dict[str, Any]) -> str:
    machine = run["machine"]
    versions, threads = machine["versions"], machine["threads"]
    return (
        f"{machine['cpu']} with {machine['isa']}, {threads} thread{'s' * (threads > 1)}, torch "
        f"{versions['torch']}, {run['created'][:10]}; copy {machine['copy_bytes'] / 1e9:.1f} GB/s, "
        f"read {machine['read_bytes'] / 1e9:.1f} GB/s."
    )


def row(result: dict[str, Any]) -> str:
    op, case = result["name"].split("/", 1)
    forward = result["passes"].get("forward", {"timings": []})["timings"]
    both = result["passes"].get("forward+backward", {"timings": []})["timings"]
    ours = next((t for t in forward if t["role"] == "ours" and t["median_s"]), None)
    name = f"`{op}` {case.replace('/float32', '')}"
    if ours is None:
        return f"| {name} | {result['detail'] or result['status']} | | | | | | |"
    limit = f"{ours['limit_fraction']:.0%} {ours['limit']}" if ours["limit_fraction"] else ""
    backward = (
        ratios(both, "reference", label="reference"),
        ratios(both, "compiled", label="compiled"),
        ratios(both, "peer", most=1),
    )
    cells = [
        name,
        f"{1e3 * ours['median_s']:.3g}",
        ratios(forward, "reference"),
        ratios(forward, "compiled"),
        ratios(forward, "peer", result["tolerance"]),
        limit,
        ", ".join(filter(None, backward)),
        f"{ours['error']:.0e}",
    ]
    return f"| {' | '.join(cells)} |"


def speedup(timing: dict[str, Any]) -> float:
    ratio: float = next(iter(timing["speedups"].values()))
    return ratio


def ratios(
    timings: list[dict[str, Any]],
    role: str,
    tolerance: float | None = None,
    label: str = "",
    most: int = 4,
) -> str:
    """How many times faster than the fastest of these we are, and the error of wrong ones."""
    found = []
    timed = [t for t in timings if t["role"] == role and t["median_s"]]
    for t in sorted(timed, key=speedup)[:most]:
        words = [f"{speedup(t):.3g}x"]
        words += [t["name"]] if role == "peer" else [label] if label else []
        if role == "peer" and tolerance is not None and t["error"] > tolerance:
            words.append(f"(error {t['error']:.0e})")
        found.append(" ".join(words))
    return ", ".join(found)


def main() -> int:
    for page in PAGES:
        text = page.read_text()
        if not BLOCK.search(text):
            print(f"{page} has no <!-- bench:FAMILY --> block", file=sys.stderr)
            return 1
        page.write_text(BLOCK.sub(table, text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
