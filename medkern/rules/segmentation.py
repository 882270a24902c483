"""Rules of the segmentation losses and of the spectral correlation."""

from __future__ import annotations

from collections.abc import Sequence

from medkern.rules import message

TERMS = ("ce", "bce", "dice", "scc")
DEFAULT_WEIGHTS = {"ce": 1.0, "bce": 1.0, "dice": 1.0, "scc": 0.2}
PER = ("sample", "class", "batch")
REDUCTIONS = ("mean", "none")


def check_logits(op: str, argument: str, shape: Sequence[int]) -> None:
    if len(shape) < 3:
        rule = "be [B, K, *space]"
        raise ValueError(message(op, argument, rule, tuple(shape), "add the missing axes"))
    if shape[1] == 0 or any(n == 0 for n in shape[2:]):
        rule = "have a channel and no empty spatial axis"
        raise ValueError(message(op, argument, rule, tuple(shape), "only the batch may be empty"))


def term_weights(
    op: str, terms: Sequence[str], weights: Sequence[float] | None
) -> dict[str, float]:
    """The weight of every term that is asked for."""
    names = list(terms) if isinstance(terms, tuple | list) else []
    known = names and all(isinstance(name, str) and name in TERMS for name in names)
    if not known or len(set(names)) < len(names):
        rule = f"be different ones of {', '.join(map(repr, TERMS))}"
        raise ValueError(message(op, "terms", rule, repr(terms), 'pass a tuple, as ("ce", "dice")'))
    if "ce" in terms and "bce" in terms:
        rule = "not hold both 'ce' (softmax) and 'bce' (sigmoid)"
        raise ValueError(message(op, "terms", rule, repr(terms), "leave one of them out"))
    if weights is None:
        return {term: DEFAULT_WEIGHTS[term] for term in terms}
    if not isinstance(weights, tuple | list) or len(weights) != len(terms):
        rule = f"be one per term, {len(terms)}"
        raise ValueError(message(op, "weights", rule, repr(weights), "pass None for the defaults"))
    return dict(zip(terms, map(float, weights), strict=True))


def uses_softmax(op: str, terms: Sequence[str], classes: int) -> bool:
    """Softmax over the classes, else a sigmoid of each."""
    if "ce" in terms and classes == 1:
        rule = "be 'bce' rather than 'ce' for logits of one channel"
        raise ValueError(message(op, "terms", rule, repr(terms), "replace it"))
    return classes > 1 and "bce" not in terms


def target_is_labels(
    op: str, target: Sequence[int], logits: Sequence[int], *, integer: bool
) -> bool:
    """Whether the target holds one label per voxel, else a value per class."""
    space = tuple(logits[2:])
    labels = [(logits[0], *space)]
    if logits[1] > 1:
        labels.append((logits[0], 1, *space))  # as MONAI and nnU-Net have it
    if tuple(target) == tuple(logits):
        return False
    if tuple(target) not in labels:
        rule = f"be labels {labels[0]} or values {tuple(logits)}"
        raise ValueError(message(op, "target", rule, tuple(target), "give it the logits' space"))
    if not integer:
        rule = f"be {tuple(logits)} where it is floating"
        remedy = "convert labels, for example target.long()"
        raise TypeError(message(op, "target", rule, tuple(target), remedy))
    return True


def check_labels(op: str, target: Sequence[int], beside: Sequence[int]) -> None:
    batch, space = beside[0], tuple(beside[2:])
    if tuple(target) not in ((batch, *space), (batch, 1, *space)):
        rule = f"be labels {(batch, *space)}"
        raise ValueError(message(op, "target", rule, tuple(target), "give it the same space"))


def check_band(op: str, band: Sequence[float] | None, edge: float) -> None:
    """Radii (low, high) in units of the Nyquist frequency, and the width of their edges."""
    if band is None:
        raise ValueError(
            message(op, "band", "be (low, high) for mode 'band'", None, "pass two radii")
        )
    low, high = band
    if not 0 <= low < high:
        rule = "be radii 0 <= low < high"
        raise ValueError(message(op, "band", rule, tuple(band), "1 is the Nyquist frequency"))
    if not 0 <= edge <= 1:
        raise ValueError(message(op, "edge", "be in [0, 1]", edge, "0 cuts sharply"))
