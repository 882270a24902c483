"""What the figures share."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from PIL import Image

IMAGES = Path(__file__).parent.parent / "images"


def draw(axis: Any, title: str, image: Any, low: float, high: float) -> None:
    axis.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    axis.set_title(title, fontsize=9)
    axis.set_axis_off()


def save(figure: Any, name: str, dpi: int = 110, grey: bool = True) -> None:
    """As an 8-bit PNG, in grey or with a palette."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi, format="png")
    picture = Image.open(buffer).convert("RGB")
    picture = picture.convert("L") if grey else picture.quantize(128, Image.Quantize.FASTOCTREE)
    picture.save(IMAGES / name, optimize=True)
    print(f"wrote {name}, {(IMAGES / name).stat().st_size / 1e3:.0f} kB")
