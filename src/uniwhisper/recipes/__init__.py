"""Recipes: complete training configurations as Python functions; this folder is the registry.

A recipe file `<name>.py` holds a function `<name>() -> TrainConfig`; its docstring states the command, the hardware,
the time and the expected score. A variant calls another recipe and replaces fields. Your own recipe lives in any
importable module and is named `module.path:function`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from uniwhisper.errors import ConfigError

if TYPE_CHECKING:
    from uniwhisper.train.config import TrainConfig

__all__ = ["get_recipe", "list_recipes", "make_config"]


def list_recipes() -> tuple[str, ...]:
    """Return the names of all recipes of the package, sorted, without importing them."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")))


def get_recipe(name: str) -> Callable[[], TrainConfig]:
    """Return the recipe `name`, or the function that `module.path:function` names.

    Raises:
        ConfigError: There is no such recipe, module or function; the message lists the recipes of the package.
    """
    module_name, colon, function = name.partition(":")
    if not colon:
        if name not in list_recipes():
            raise ConfigError(
                f"expected a recipe out of {', '.join(list_recipes()) or '(none)'}, or module.path:function; "
                f"found {name!r}"
            )
        module_name, function = f"{__name__}.{name}", name
    try:
        module = importlib.import_module(module_name)
    except (ModuleNotFoundError, ValueError) as e:
        raise ConfigError(
            f"recipe {name!r}: expected an importable module {module_name!r}, found: {e}. "
            "Run from the folder that holds it, or install it"
        ) from e
    recipe = getattr(module, function, None)
    if not callable(recipe):
        raise ConfigError(f"recipe {name!r}: expected a function {function!r} in {module_name}, found {recipe!r}")
    return cast("Callable[[], TrainConfig]", recipe)


def make_config(name: str) -> TrainConfig:
    """Return the configuration that the recipe `name` makes.

    Raises:
        ConfigError: There is no such recipe, or it returns something else than a `TrainConfig`.
    """
    from uniwhisper.train.config import TrainConfig

    config = get_recipe(name)()
    if not isinstance(config, TrainConfig):
        raise ConfigError(f"recipe {name!r}: expected it to return a TrainConfig, found {type(config).__name__}")
    return config
