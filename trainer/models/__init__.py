"""Models by name: each file of this package is a model of that name.

A model file has one function, `build(side, num_classes, dropout) -> keras.Model`, from
float images [batch, side, side, 1] in [0, 1] to float32 logits [batch, num_classes]. To add
a model, add a file.
"""

import importlib
import pkgutil
from collections.abc import Callable

from quickdraw_tfrecords.base.errors import UsageError


def names() -> list[str]:
    """The models there are."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def get(name: str) -> Callable:
    """The `build` function of a model; imports it when it is first called.

    Raises:
      UsageError: There is no such model.
    """
    if name not in names():
        raise UsageError(f"--model={name}: must be one of {', '.join(names())}")

    def build(*, side: int, num_classes: int, dropout: float | None):
        module = importlib.import_module(f"{__name__}.{name}")
        return module.build(side=side, num_classes=num_classes, dropout=dropout)

    return build
