"""Models by name: each file of this package is a model of that name, but those with an underscore.

A model's module has one function, `build(side, num_classes, dropout) -> keras.Model`, from
float images [batch, side, side, 1] in [0, 1] to float32 logits [batch, num_classes]. To add a
model, add a file; or write a module of your own anywhere, and give its name with its package,
as in `--model=my_models.wide_net`.
"""

import contextlib
import importlib
import inspect
import os
import pkgutil
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING

from quickdraw_tfrecords.base.errors import UsageError

if TYPE_CHECKING:
    import keras


def names() -> list[str]:
    """The models of this package."""
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in modules if not name.startswith("_"))


def check_name(name: str) -> None:
    """Refuses what cannot be a model; imports nothing, so a module may still be missing.

    Raises:
      UsageError: It is neither a model of this package nor the name of a module.
    """
    is_module = "." in name and all(part.isidentifier() for part in name.split("."))
    if not is_module and name not in names():
        raise UsageError(
            f"--model={name}: must be one of {', '.join(names())}, or a module of your own, as "
            "package.module"
        )


def get(name: str) -> Callable[..., "keras.Model"]:
    """What builds a model; it imports the model's module when it is first called.

    Returns:
      A function of the keyword arguments `side`, `num_classes` and `dropout`. It raises
      UsageError if a module of one's own cannot be imported, or builds something else.

    Raises:
      UsageError: There is no such model.
    """
    check_name(name)

    def build(*, side: int, num_classes: int, dropout: float | None) -> "keras.Model":
        function = _build_function(name)
        model = function(side=side, num_classes=num_classes, dropout=dropout)
        _check_model(name, model, side, num_classes)
        return model

    return build


@contextlib.contextmanager
def dtype_policy(policy: str) -> Iterator[None]:
    """Within it, layers are made with this dtype policy; a model keeps that of its layers."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _build_function(name: str) -> Callable[..., "keras.Model"]:
    function: Callable[..., keras.Model] | None = getattr(_import(name), "build", None)
    if not callable(function):
        raise UsageError(
            f"--model={name}: the module has no function build(side, num_classes, dropout)"
        )
    try:
        inspect.signature(function).bind(side=28, num_classes=2, dropout=None)
    except TypeError as error:
        raise UsageError(
            f"--model={name}: its build{inspect.signature(function)} must take the keyword "
            f"arguments side, num_classes and dropout: {error}"
        ) from None
    return function


def _import(name: str) -> ModuleType:
    if "." not in name:
        return importlib.import_module(f"{__name__}.{name}")
    # `python -m` looks for modules in the working directory, an installed command does not.
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"--model={name}: cannot be imported: {error}. It must be a module that Python finds "
            "from this folder, or one that is installed"
        ) from None


def _check_model(name: str, model: object, side: int, num_classes: int) -> None:
    import keras

    if not isinstance(model, keras.Model):
        raise UsageError(
            f"--model={name}: build returned {type(model).__name__}, not a keras.Model"
        )
    expected = {"input": (None, side, side, 1), "output": (None, num_classes)}
    for end, shape in expected.items():
        found = getattr(model, f"{end}_shape", None)  # a model that is not built has none
        if found != shape:
            raise UsageError(f"--model={name}: its {end} is of shape {found}, must be {shape}")
    dtype = model.outputs[0].dtype
    if dtype != "float32":
        raise UsageError(
            f"--model={name}: its logits are {dtype}, must be float32 under every "
            "precision: give its last layer dtype='float32'"
        )
