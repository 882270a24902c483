"""Training: a recipe says what, one plain loop does it. On the command line, `medkern train`."""

from medkern.train.loop import Training, Watcher
from medkern.train.recipe import Batch, Options, Recipe, Step

__all__ = ["Batch", "Options", "Recipe", "Step", "Training", "Watcher"]
