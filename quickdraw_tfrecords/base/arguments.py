"""The arguments of a command line, with those of flagfiles in their place.

Flagfiles are read as absl does: a flag on each line, comments after `#` or `//` at its start, files
within files. Beyond that, a flag that the command does not know is named with its file and line,
a flagfile that comes with the command is found by its name, and `~` in `--data_dir=~/data` is the
user's home, which Bash leaves as it is, so that there would be a folder of that name.
"""

import difflib
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.files import open_regular, os_reason

_DIRECTIVE = "flagfile"
_COMMENTS = ("#", "//")
_HOME = re.compile(r"(?<=[=,])~(?=[/,]|$)")


class Argument(NamedTuple):
    """An argument, and where it stands: a file and a line, or "" for the command line."""

    text: str
    place: str

    @property
    def flag(self) -> str:
        """The name of the flag that it is; "" if it is none."""
        name = self.text.partition("=")[0]
        return name.lstrip("-") if name.startswith("-") and name.strip("-") else ""


def expand(arguments: Sequence[str], folder: Path | None) -> list[Argument]:
    """Puts what flagfiles hold in their place.

    Args:
      arguments: Of a command line, without the program. Nothing after `--` is a flag.
      folder: Of the flagfiles that come with the command: NAME finds NAME.flags there, unless
        there is a file NAME.

    Raises:
      UsageError: A flagfile is not there, or includes itself.
    """
    return list(_expand([Argument(text, "") for text in arguments], folder, ()))


def _expand(
    arguments: Sequence[Argument], folder: Path | None, within: tuple[Path, ...]
) -> Iterator[Argument]:
    waiting = list(arguments)
    while waiting:
        argument = _with_home(waiting.pop(0))
        if argument.text == "--":
            yield from (argument, *waiting)
            return
        if argument.flag != _DIRECTIVE:
            yield argument
            continue
        _, is_given, name = argument.text.partition("=")
        if not is_given:
            name = waiting.pop(0).text if waiting else ""
        path = _find(name, folder, argument.place)
        if path.resolve() in within:
            raise UsageError(f"{prefix(argument.place)}--flagfile={name}: includes itself")
        yield from _expand(_read(path, argument), folder, (*within, path.resolve()))


def _with_home(argument: Argument) -> Argument:
    if not argument.flag:
        return argument
    return argument._replace(text=_HOME.sub(os.path.expanduser("~"), argument.text))


def _find(name: str, folder: Path | None, place: str) -> Path:
    if not name:
        raise UsageError(f"{prefix(place)}--flagfile: must name a file")
    if folder is None or Path(name).exists():
        return Path(name)
    path = folder / f"{name}.flags"
    if path.exists() or os.sep in name:
        return path if path.exists() else Path(name)
    names = ", ".join(sorted(path.stem for path in folder.glob("*.flags")))
    raise UsageError(
        f"{prefix(place)}--flagfile={name}: no such file, nor one of those that come along: {names}"
    )


def _read(path: Path, argument: Argument) -> list[Argument]:
    try:
        with open_regular(path) as file:
            lines = file.read().decode().splitlines()
    except (OSError, DataError, UnicodeDecodeError) as error:
        reason = os_reason(error) if isinstance(error, OSError) else str(error)
        raise UsageError(f"{prefix(argument.place)}--flagfile={path}: {reason}") from None
    return [
        Argument(line.strip(), f"{path}:{number}")
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.startswith(_COMMENTS)
    ]


def require_known(
    arguments: Sequence[Argument],
    known: Mapping[str, bool],
    *,
    takes_arguments: bool,
    suggested: Collection[str],
    commands_with: Callable[[str], Sequence[str]],
) -> None:
    """Refuses a flag that the command does not have, or an argument where it takes only flags.

    Args:
      arguments: As `expand` gives them.
      known: Whether each of the command's flags is boolean, by name.
      takes_arguments: Whether there may be others beside flags.
      suggested: Names that may be meant by a wrong one.
      commands_with: Gives the other commands that have a flag.

    Raises:
      UsageError: Says where it stands, and what may be meant.
    """
    waiting = iter(arguments)
    only_others_follow = False
    for argument in waiting:
        name = "" if only_others_follow else argument.flag
        if name in known:
            if not known[name] and "=" not in argument.text:
                next(waiting, None)  # its value
        elif name and not (name.startswith("no") and known.get(name[2:])):
            hint = _hint(name, suggested, commands_with(name))
            raise UsageError(f"{prefix(argument.place)}--{name}: {hint}")
        elif argument.text == "--":
            only_others_follow = True
        elif not (name or takes_arguments):
            raise UsageError(
                f"{prefix(argument.place)}unexpected argument {argument.text!r}: flags begin "
                "with '--'"
            )


def _hint(name: str, suggested: Collection[str], commands: Sequence[str]) -> str:
    if commands:
        return f"is no flag of this command, but of {', '.join(commands)}"
    close = difflib.get_close_matches(name, suggested, n=1)
    remedy = f"did you mean --{close[0]}?" if close else "--help lists them"
    return f"there is no such flag; {remedy}"


def place_of(arguments: Sequence[Argument], flag: str) -> str:
    """Where a flag is given, for the last time."""
    return next((a.place for a in reversed(arguments) if a.flag == flag), "")


def prefix(place: str) -> str:
    """What an error begins with that is about something in a flagfile."""
    return f"{place}: " if place else ""
