"""The panel that a recipe leaves, as the picture of its page: system.py NAME [PANEL]."""

from __future__ import annotations

import sys
from pathlib import Path

from common import IMAGES
from PIL import Image


def keep(name: str, panel: Path) -> None:
    picture = Image.open(panel).convert("RGB").quantize(128, Image.Quantize.FASTOCTREE)
    path = IMAGES / f"system_{name}.png"
    picture.save(path, optimize=True)
    print(f"wrote {path.name}, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    name = sys.argv[1]
    keep(name, Path(sys.argv[2] if len(sys.argv) > 2 else f"runs/{name}/panel.png"))
