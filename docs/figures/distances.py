"""A click in the liver, and the distances from it: what `medkern demo` draws of any image."""

from __future__ import annotations

from common import IMAGES
from PIL import Image

from medkern import demo

if __name__ == "__main__":
    image, _, description = demo.slice_of("mr_abdomen")
    path = IMAGES / "distances.png"
    demo.draw_distances(image, [(105, 150)], description, path)
    Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)
