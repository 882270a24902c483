"""Predict the next frame of moving blobs: a copied ConvLSTM cell, and medkern's layer in its place.

Both start from the same weights, see the same batches and follow the same loss curve; the second is
faster. Run it: python docs/examples/moving_blobs.py [picture.png]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

import medkern as mk


def moving_blobs(batch: int, frames: int, size: int, seed: int) -> Tensor:
    """[batch, frames, 1, size, size]: two blobs that fly straight and bounce off the walls."""
    random = torch.Generator().manual_seed(seed)
    start, speed = torch.rand(2, batch, 1, 2, 2, generator=random)
    path = start + 0.16 * (speed - 0.5) * torch.arange(frames).reshape(1, -1, 1, 1)
    centre = 0.15 + 0.7 * (1 - (path % 2 - 1).abs())  # a triangle wave between the walls
    grid = torch.linspace(0, 1, size)
    y, x = (centre[..., i, None] - grid for i in (0, 1))  # [batch, frames, blobs, size]
    blobs = torch.exp(-(y[..., :, None] ** 2 + x[..., None, :] ** 2) / 0.006)
    return blobs.amax(2, keepdim=True)


class CopiedCell(nn.Module):
    """The cell that everybody copies."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.conv = nn.Conv2d(inputs + hidden, 4 * hidden, 3, padding=1)

    def forward(self, frames: Tensor) -> Tensor:
        batch, steps, _, height, width = frames.shape
        h = c = frames.new_zeros(batch, self.hidden, height, width)
        states = []
        for t in range(steps):
            i, f, o, g = self.conv(torch.cat([frames[:, t], h], 1)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            states.append(h)
        return torch.stack(states, 1)


class Predictor(nn.Module):
    """Frames [B, T, 1, H, W] to the frame after each of them."""

    def __init__(self, recurrent: nn.Module, hidden: int) -> None:
        super().__init__()
        self.recurrent, self.head = recurrent, nn.Conv2d(hidden, 1, 1)

    def forward(self, frames: Tensor) -> Tensor:
        states = self.recurrent(frames)
        return self.head(states.flatten(0, 1)).unflatten(0, frames.shape[:2])


def predictors(hidden: int) -> tuple[Predictor, Predictor]:
    """With a copied cell, and with medkern's layer and the same weights."""
    torch.manual_seed(0)
    copied = Predictor(CopiedCell(1, hidden), hidden)
    ours = Predictor(mk.nn.ConvLSTM(1, hidden), hidden)
    state = copied.recurrent.state_dict()
    ours.recurrent.cells[0].load_state_dict(mk.nn.convlstm_state_dict(state, layer="conv"))
    ours.head.load_state_dict(copied.head.state_dict())
    return copied, ours


def train(model: Predictor, steps: int, *, batch: int, frames: int, size: int) -> list[float]:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for step in range(steps):
        film = moving_blobs(batch, frames + 1, size, seed=step)
        loss = functional.mse_loss(model(film[:, :-1]), film[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def main(
    picture: Path | None = None,
    *,
    steps: int = 100,
    hidden: int = 16,
    batch: int = 2,
    frames: int = 8,
    size: int = 40,
) -> list[list[float]]:
    """Train both, say how they did, draw what the second one predicts; the two loss curves."""
    curves, models = [], predictors(hidden)
    for name, model in zip(("copied cell", "mk.nn.ConvLSTM"), models, strict=True):
        start = time.perf_counter()
        curves.append(train(model, steps, batch=batch, frames=frames, size=size))
        seconds = time.perf_counter() - start
        print(f"{name}: {seconds:.1f} s, loss {curves[-1][0]:.4f} -> {curves[-1][-1]:.4f}")
    if picture is not None:
        draw(picture, models[1], frames, size)
    return curves


def draw(picture: Path, model: Predictor, frames: int, size: int) -> None:
    """True frames above, predictions from the frames before them below."""
    from PIL import Image

    film = moving_blobs(1, frames + 1, size, seed=-1)
    with torch.no_grad():
        guess = model(film[:, :-1])[0, :, 0]
    rows = [functional.pad(row, (1, 1, 1, 1), value=0.5) for row in (film[0, 1:, 0], guess)]
    strip = torch.cat([torch.cat(list(row), 1) for row in rows])
    pixels = (255 * strip.clamp(0, 1)).to(torch.uint8).numpy()
    image = Image.fromarray(pixels)
    image.resize((2 * image.width, 2 * image.height), Image.Resampling.NEAREST).save(
        picture, optimize=True
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
