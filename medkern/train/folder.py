"""Your own images: a folder of PNG, NIfTI or NumPy files, for `--data DIR`.

    DIR/images/case1.png       any of .png, .nii, .nii.gz, .npy
    DIR/labels/case1.png       the label map of case1, in any of these formats
    DIR/points/case1.png       for recipes that take points: 0 where there is none

Every fifth image, in the order of their names, is for validation; or put these in
DIR/validation/images and DIR/validation/labels.

Axes are those of the files, NIfTI's reversed: [H, W], [D, H, W]; colour pictures are [H, W, 3]. Of
a volume, two-dimensional recipes take every slice along its first axis. uint8 images are divided by
255; others are brought to [0, 1] by the least and the largest value of their file.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from medkern.rules import message

SUFFIXES = (".png", ".nii", ".nii.gz", ".npy")
VALIDATION_EVERY = 5


class FolderData(Dataset[dict[str, Tensor]]):
    """The images of a folder, in memory: dicts of `image` float32 [C, *space] and, for each name in
    `targets`, an int64 map [*space] under that name without its s (`labels`: "label").

    Args:
        root: the folder.
        split: "train" or "validation".
        ndim: 2 or 3 spatial axes; 2 takes volumes as their slices.
        channels: of each image.
        classes: labels must be below this.
        targets: the folders of maps beside `images`, any of "labels" and "points".

    Raises:
        FileNotFoundError: there is no such folder, no image in it, or an image without its map.
        ValueError: a file of another shape than its image or than the other files, another number
            of channels or axes, a label out of range, an image that is not finite.
    """

    def __init__(
        self,
        root: Path,
        split: str = "train",
        *,
        classes: int,
        ndim: int = 2,
        channels: int = 1,
        targets: tuple[str, ...] = ("labels",),
    ) -> None:
        self.classes, self.ndim, self.channels = classes, ndim, channels
        self.items: list[dict[str, Tensor]] = []
        first: tuple[Path, torch.Size] | None = None
        for path in _paths(Path(root), split):
            image = self._image(path)
            maps = {name: self._map(path, name, image) for name in targets}
            first = first or (path, image.shape[1:])
            _same_size(first, path, image.shape[1:])
            self.items += self._slices(image, maps)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return dict(self.items[index])

    def _image(self, path: Path) -> Tensor:
        """[C, *space] in [0, 1]."""
        stored = _read(path)
        shape, is_byte = stored.shape, stored.dtype == np.uint8
        if self.channels > 1 and stored.shape[-1:] == (self.channels,):
            stored = np.moveaxis(stored, -1, 0)
        elif self.channels == 1 and path.suffix == ".png" and stored.ndim == 3:
            stored = stored[..., :3].mean(-1)[None]
        elif self.channels == 1:
            stored = stored[None]
        axes = stored.ndim - 1
        if stored.shape[:1] != (self.channels,) or axes not in {self.ndim, 3}:
            rule = f"hold {self.channels} channel(s) and {self.ndim} spatial axes"
            raise _bad(path, rule, f"shape {shape}", "convert it, channels last")
        values = stored.astype(np.float32)
        if not np.isfinite(values).all():
            raise _bad(path, "be finite", "NaN or inf", "replace them first")
        if is_byte:
            return torch.from_numpy(values / 255)
        low, high = float(values.min()), float(values.max())
        return torch.from_numpy((values - low) / ((high - low) or 1.0))

    def _map(self, image_path: Path, name: str, image: Tensor) -> Tensor:
        path = _beside(image_path, name)
        labels = torch.from_numpy(_read(path).astype(np.int64))
        if labels.shape != image.shape[1:]:
            rule = f"have the shape of its image, {tuple(image.shape[1:])}"
            raise _bad(path, rule, tuple(labels.shape), "resize it with nearest neighbours")
        if labels.min() < 0 or labels.max() >= self.classes:
            rule = f"hold labels from 0 to {self.classes - 1}"
            got = f"{int(labels.min())} to {int(labels.max())}"
            raise _bad(path, rule, got, "number the classes from 0")
        return labels

    def _slices(self, image: Tensor, maps: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        named = {
            name.removesuffix("s") if name == "labels" else name: t for name, t in maps.items()
        }
        if image.dim() - 1 == self.ndim:
            return [{"image": image, **named}]
        return [
            {"image": image[:, i], **{name: t[i] for name, t in named.items()}}
            for i in range(image.shape[1])
        ]


def _paths(root: Path, split: str) -> list[Path]:
    """The image files of a split, in the order of their names."""
    apart = root / "validation"
    folder = (apart if split == "validation" and apart.is_dir() else root) / "images"
    if not folder.is_dir():
        rule = "be a folder with a folder `images` in it"
        raise FileNotFoundError(message("train", "data", rule, root, "see the docs for the layout"))
    found = sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIXES))
    if not apart.is_dir():
        chosen = [i % VALIDATION_EVERY == VALIDATION_EVERY - 1 for i in range(len(found))]
        found = [p for p, is_out in zip(found, chosen, strict=True) if is_out == (split != "train")]
    if not found:
        rule = f"hold images for {split}"
        remedy = f"put {', '.join(SUFFIXES)} files there, five or more, or fill {apart}"
        raise FileNotFoundError(message("train", "data", rule, f"none in {folder}", remedy))
    return found


def _stem(path: Path) -> str:
    return next(path.name[: -len(s)] for s in reversed(SUFFIXES) if path.name.endswith(s))


def _beside(image: Path, name: str) -> Path:
    """The file of the same stem in the folder `name` beside `images`."""
    folder = image.parent.parent / name
    for suffix in SUFFIXES:
        path = folder / f"{_stem(image)}{suffix}"
        if path.is_file():
            return path
    rule = f"have a file for every image in {name}"
    remedy = f"add it, in any of {', '.join(SUFFIXES)}"
    got = f"none for {image.name} in {folder}"
    raise FileNotFoundError(message("train", "data", rule, got, remedy))


def _read(path: Path) -> NDArray[Any]:
    """A file as it is stored, spatial axes first."""
    try:
        if path.suffix == ".npy":
            stored = np.load(path, allow_pickle=False)
        elif path.suffix == ".png":
            with _package("PIL.Image").open(path) as picture:
                # A palette stands for its indices, which is how label maps are kept.
                stored = np.array(picture)
        else:
            stored = np.asanyarray(_package("nibabel").load(path).dataobj)
            stored = stored.transpose()  # [W, H, D] to [D, H, W]
    except (OSError, ValueError) as error:
        raise _bad(path, "be a file that can be read", str(error), "write it again") from error
    return np.array(stored, dtype=stored.dtype.newbyteorder("="))


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"medkern.train: {error}; pip install 'medkern[train]'") from error


def _same_size(first: tuple[Path, torch.Size], path: Path, size: torch.Size) -> None:
    if size != first[1]:
        rule = f"have one size, {tuple(first[1])} as {first[0].name}"
        remedy = "resize or crop the images to one size"
        raise _bad(path, rule, tuple(size), remedy)


def _bad(path: Path, rule: str, got: object, remedy: str) -> ValueError:
    return ValueError(message("train", str(path), rule, got, remedy))
