"""Rules of the boundary loss and of the maps it takes."""

from __future__ import annotations

from collections.abc import Sequence

from medkern.rules import message

REDUCTIONS = ("mean", "sum", "none")


def mapped_classes(
    op: str, logits: Sequence[int], maps: Sequence[int], include_background: bool
) -> int:
    """How many of the last classes take part, after checking the shapes of logits and maps."""
    if len(logits) < 3:
        rule = "be [B, K, *space]"
        raise ValueError(message(op, "logits", rule, tuple(logits), "add the missing axes"))
    if logits[1] < 2:
        rule = "have at least 2 classes"
        remedy = "give the background a channel: for a single logit z, torch.stack([0 * z, z], 1)"
        raise ValueError(message(op, "logits", rule, tuple(logits), remedy))
    if any(n == 0 for n in logits[2:]):
        rule = "have no empty spatial axis"
        raise ValueError(message(op, "logits", rule, tuple(logits), "only the batch may be empty"))
    classes = logits[1]
    allowed = (classes,) if include_background else (classes, classes - 1)
    fits = len(maps) == len(logits) and maps[1] in allowed
    if not fits or (maps[0], *maps[2:]) != (logits[0], *logits[2:]):
        channels = " or ".join(map(str, allowed))
        rule = f"be [B, {channels}, *space] for logits {tuple(logits)}"
        remedy = "pass what medkern.signed_distance_map returns, with the same include_background"
        raise ValueError(message(op, "maps", rule, tuple(maps), remedy))
    return classes if include_background else classes - 1


def check_points(op: str, points: Sequence[int], logits: Sequence[int]) -> None:
    expected = (logits[0], *logits[2:])
    if tuple(points) != expected:
        rule = f"be [B, *space], {expected}"
        remedy = "pass one label per voxel, -1 where there is none"
        raise ValueError(message(op, "points", rule, tuple(points), remedy))
