"""The panel of a run of `medkern train` as the picture of its system's page:

python docs/figures/system.py points runs/points
"""

from __future__ import annotations

import sys
from pathlib import Path

from common import IMAGES
from PIL import Image


def take(name: str, run: Path) -> None:
    picture = Image.open(run / "panel.png").convert("RGB")
    picture = picture.quantize(128, Image.Quantize.FASTOCTREE)
    path = IMAGES / f"system_{name}.png"
    picture.save(path, optimize=True)
    print(f"wrote {path.name}, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    take(sys.argv[1], Path(sys.argv[2]))
