"""Training recipes, one module and one class each: what `medkern train NAME` runs.

A recipe is found by the name of its module; there is no list to add it to.
"""

from __future__ import annotations

import importlib
import pkgutil

from medkern.rules import choice
from medkern.train.recipe import Recipe

__all__ = ["load", "names"]


def names() -> tuple[str, ...]:
    """The names of all recipes, without importing them.

    >>> import medkern.recipes
    >>> "points" in medkern.recipes.names()
    True
    """
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load(name: str) -> type[Recipe]:
    """The class of a recipe.

    Raises:
        ValueError: there is no recipe of that name.

    >>> import medkern.recipes
    >>> medkern.recipes.load("points").metric
    'dice'
    """
    choice("recipes.load", "name", name, names())
    module = importlib.import_module(f"medkern.recipes.{name}")
    for value in vars(module).values():
        if (
            isinstance(value, type)
            and issubclass(value, Recipe)
            and vars(value).get("name") == name
        ):
            return value
    raise ImportError(f"medkern.recipes.{name} holds no Recipe whose name is {name!r}")
