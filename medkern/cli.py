"""The `medkern` command."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    if arguments[:1] == ["bench"]:  # has its own options, help included
        return _bench(arguments[1:])
    if arguments[:1] == ["train"]:
        return _train(arguments[1:])
    options = parser.parse_args(arguments)
    if options.command == "info":
        return _info(options.json)
    if options.command == "demo":
        return _demo(options.out, options.image, options.points)
    parser.print_help()
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="medkern", description="Kernels for medical images: what is installed, and how fast."
    )
    commands = parser.add_subparsers(dest="command", title="commands")
    info = commands.add_parser("info", help="what is compiled, which backends can run, versions")
    info.add_argument("--json", action="store_true", help="print JSON, for bug reports")
    commands.add_parser("bench", help="time every op against its reference and its peers")
    commands.add_parser("train", help="train one of the systems that are built on the ops")
    demo = commands.add_parser("demo", help="draw what the ops make of a real image")
    demo.add_argument("--out", type=Path, default=Path("demo.png"), help="the PNG to write")
    demo.add_argument(
        "--image",
        default="brain4d",
        help="a name from medkern.data.names(), or a PNG, NIfTI or DICOM file",
    )
    demo.add_argument(
        "--points",
        nargs="+",
        type=_xy,
        default=(),
        metavar="X,Y",
        help="clicks in the image: draw the distances from them, and nothing else",
    )
    return parser


def _xy(text: str) -> tuple[int, int]:
    x, y = text.split(",")  # argparse words the error
    return int(x), int(y)


def _info(as_json: bool) -> int:
    from medkern import info

    state = info.report()
    print(json.dumps(state, indent=2) if as_json else info.as_text(state))
    return 0


def _bench(arguments: Sequence[str]) -> int:
    run = _with_extra("medkern.benchmarks.run", "bench")
    return 1 if run is None else int(run.main(arguments))


def _train(arguments: Sequence[str]) -> int:
    train = _with_extra("medkern.train.cli", "train")
    return 1 if train is None else int(train.main(arguments))


def _demo(out: Path, image: str, points: Sequence[tuple[int, int]]) -> int:
    demo = _with_extra("medkern.demo", "bench")
    if demo is None:
        return 1
    try:
        written = demo.draw(image, out, points)
    except (ValueError, ImportError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"wrote {', '.join(map(str, written))}")
    return 0


def _with_extra(module: str, extra: str) -> Any:
    """Import a module that needs an extra, or say how to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("medkern"):
            raise
        print(f"{module} needs {error.name}: pip install 'medkern[{extra}]'", file=sys.stderr)
        return None


if __name__ == "__main__":
    sys.exit(main())
