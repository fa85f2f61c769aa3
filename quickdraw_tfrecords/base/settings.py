r"""Settings as frozen dataclasses; `setting_flags` makes absl flags of them.

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config:
        data_dir: Path = setting(REQUIRED, "Data set to read.", group="data")
        epochs: int = setting(30, "Passes over the data, at most.", group="training", minimum=1)
        cache: Literal["memory", "none"] = setting("none", "Where drawings are held.")
        dropout: float | None = setting(None, "Dropout rate.", minimum=0, below=1)

    check(Config(data_dir=Path("data"), epochs=0))   # UsageError: --epochs=0: must be at least 1
    to_flagfile(config)           # "--data_dir=data\n--epochs=30\n..."

A field is a bool, int, float, str, Path, Location (a path, or a URL of an object store), a
Literal of strings, or a tuple of any length of these; all but bool may be `| None`, which an empty
flag means (`--dropout=`). Numbers must be finite. Text must fit into a line of a flagfile. What one
field demands is declared here and holds for flags and for Python alike; what two demand of each
other is for the class to check.
"""

import csv
import dataclasses
import io
import math
import types
import typing
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.stores import Location, Store, is_url, locate

REQUIRED = dataclasses.MISSING

_METADATA_KEY = "setting"
_TYPE_NAMES: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    Location: "a path or a URL",
}


@dataclasses.dataclass(frozen=True)
class _Declaration:
    """What `setting` was told."""

    help: str
    group: str
    choices: tuple[str, ...]
    minimum: float | None
    maximum: float | None
    above: float | None
    below: float | None
    none: str


def setting(
    default: Any,
    help: str,  # noqa: A002 - named as absl and argparse name it
    *,
    group: str = "settings",
    choices: Sequence[str] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    none: str = "",
) -> Any:
    """A field of a settings dataclass.

    Args:
      default: Its value where none is given, or `REQUIRED`.
      help: One line for `--help`.
      group: Heading that it stands under in `--help`.
      choices: The values there are, where a Literal cannot list them.
      minimum: Least value; of a tuple, of each element. So are the other bounds.
      maximum: Greatest value.
      above: Exclusive lower bound.
      below: Exclusive upper bound.
      none: The flag's text that means None, where None is a value; `--flag=` means it too.
    """
    declared = _Declaration(help, group, tuple(choices), minimum, maximum, above, below, none)
    return dataclasses.field(default=default, metadata={_METADATA_KEY: declared})


def normalize(settings: Any) -> None:
    """Makes paths of strings and tuples of lists where those are declared: for `__post_init__`.

    Raises:
      UsageError: A URL is none that can be opened.
    """
    for one in settings_of(type(settings)):
        value = getattr(settings, one.name)
        if one.is_tuple and isinstance(value, list):
            value = tuple(value)
        elif one.type is Path and isinstance(value, str):
            value = Path(value)
        elif one.type == Location and isinstance(value, str):
            value = locate(value)
        object.__setattr__(settings, one.name, value)


def check(settings: Any) -> None:
    """Checks each setting by itself.

    Raises:
      UsageError: A value has the wrong type, is no choice, or out of bounds.
    """
    for one in settings_of(type(settings)):
        value = getattr(settings, one.name)
        if one.is_tuple and not isinstance(value, tuple) and value is not None:
            raise UsageError(f"--{one.name}={one.to_text(value)}: must be a tuple")
        for element in one.elements(value):
            if requirement := one.unmet_requirement(element):
                raise UsageError(f"--{one.name}={one.to_text(element)}: must be {requirement}")


def to_flagfile(settings: Any, *, exclude: Collection[str] = ()) -> str:
    """All settings, one per line, such that `--flagfile` gives back the same.

    None and empty tuples are left out, unless the default is something else.

    Args:
      settings: What `check` accepts.
      exclude: Names of settings to leave out.
    """
    lines = []
    for one in settings_of(type(settings)):
        value = getattr(settings, one.name)
        if one.name in exclude:
            continue
        if one.type is bool:
            lines.append(f"--{one.name}" if value else f"--no{one.name}")
        elif value not in (None, ()) or value != one.default:
            lines.append(f"--{one.name}={one.to_text(value)}")
    return "".join(f"{line}\n" for line in lines)


@dataclasses.dataclass(frozen=True)
class Setting:
    """A field, its declaration, and its annotation taken apart."""

    name: str
    declared: _Declaration
    default: Any
    is_required: bool
    type: Any
    is_optional: bool
    is_tuple: bool
    choices: tuple[str, ...]

    @property
    def help(self) -> str:
        """The help of its flag, with the choices where absl's own enum flags have them."""
        if not self.choices:
            return self.declared.help
        if self.is_tuple:
            return f"{self.declared.help} Any of {', '.join(self.choices)}."
        return f"<{'|'.join(self.choices)}>: {self.declared.help}"

    def from_text(self, text: str) -> Any:
        """The value that a flag's text means.

        Raises:
          ValueError: None; says what it must be.
        """
        if text in ("", self.declared.none) and (self.is_optional or self.is_required):
            return None
        if self.is_tuple:
            elements = next(csv.reader([text], strict=True), [])
            return tuple(self._element_from_text(element.strip()) for element in elements)
        return self._element_from_text(text)

    def to_text(self, value: Any) -> str:
        """The text that means a value, or that shows one that is impossible."""
        if value is None:
            return self.declared.none
        if isinstance(value, (tuple, list)):
            file = io.StringIO()
            csv.writer(file, lineterminator="").writerow(value)
            return file.getvalue()
        return str(value)

    def elements(self, value: Any) -> Sequence[Any]:
        """What a value consists of, each to be checked: nothing, itself, or a tuple's elements."""
        if value is None and self.is_optional:
            return ()
        return value if self.is_tuple and value is not None else [value]

    def unmet_requirement(self, element: Any) -> str | None:
        """What an element must be and is not: what follows "must be" in the error."""
        accepted = (int, float) if self.type is float else self.type
        is_bool = isinstance(element, bool)  # which is an int, too
        if not isinstance(element, accepted) or is_bool != (self.type is bool):
            return _TYPE_NAMES[self.type]
        if self.choices and element not in self.choices:
            return f"one of {', '.join(self.choices)}"
        if isinstance(element, float) and not math.isfinite(element):
            return "a finite number"
        if isinstance(element, (str, Path, Store)) and not _fits_flagfile(str(element)):
            return "one line without spaces at its ends"
        return self._unmet_bound(element)

    def _element_from_text(self, text: str) -> Any:
        try:
            if self.type is int:
                return int(text)
            if self.type is float:
                return float(text)
        except ValueError:
            wanted = _TYPE_NAMES[self.type]
            if self.declared.none:
                wanted += f", or {self.declared.none!r}"
            raise ValueError(f"must be {wanted}") from None
        if self.type in (Path, Location) and not text:
            raise ValueError("must be a path")  # Path("") would be the working directory
        if self.type == Location:
            return text  # `normalize` opens it: absl would show what it holds, if that failed
        if self.type is Path and is_url(text):
            raise ValueError("must be a path on this machine")
        return self.type(text)

    def _unmet_bound(self, element: Any) -> str | None:
        declared = self.declared
        if declared.minimum is not None and not element >= declared.minimum:
            return f"at least {declared.minimum}"
        if declared.above is not None and not element > declared.above:
            return f"above {declared.above}"
        if declared.maximum is not None and not element <= declared.maximum:
            return f"at most {declared.maximum}"
        if declared.below is not None and not element < declared.below:
            return f"below {declared.below}"
        return None


def settings_of(settings_class: type[Any]) -> Iterator[Setting]:
    """The fields of a settings dataclass."""
    hints = typing.get_type_hints(settings_class)
    for field in dataclasses.fields(settings_class):
        declared: _Declaration = field.metadata[_METADATA_KEY]
        is_required = field.default is REQUIRED
        yield Setting(
            field.name,
            declared,
            None if is_required else field.default,
            is_required,
            **_take_apart(hints[field.name], declared.choices),
        )


def _take_apart(annotation: Any, choices: tuple[str, ...]) -> dict[str, Any]:
    parts = {"is_optional": False, "is_tuple": False}
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        arguments = typing.get_args(annotation)
        parts["is_optional"] = types.NoneType in arguments
        annotation = typing.Union[*(one for one in arguments if one is not types.NoneType)]
    if typing.get_origin(annotation) is tuple:
        annotation, _ = typing.get_args(annotation)
        parts["is_tuple"] = True
    if typing.get_origin(annotation) is Literal:
        annotation, choices = str, typing.get_args(annotation)
    if annotation not in _TYPE_NAMES:
        raise TypeError(f"a setting cannot be {annotation}")
    return {"type": annotation, "choices": choices, **parts}


def _fits_flagfile(text: str) -> bool:
    """A flagfile is read line by line, and each line is stripped."""
    return text == text.strip() and not set("\r\n") & set(text)
