"""How every command of the project starts, fails and ends.

    if __name__ == "__main__":
        define_flags()
        cli.run(main)

Exit codes: 0 done, 1 failure (data, disk, network), 2 misuse (flags, arguments),
130 interrupted, 143 terminated. A user's mistake is one line on stderr, never a stack trace.
"""

import contextlib
import errno
import inspect
import logging as stdlib_logging
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from absl import app, flags, logging

from quickdraw_tfrecords.base import arguments, native_log, startup
from quickdraw_tfrecords.base.arguments import Argument
from quickdraw_tfrecords.base.errors import DataError, Interrupted, UsageError

_HELP = ("--help", "-help", "-h", "--helpfull", "--helpshort")
_CHOICES = re.compile(r"<([^>]*)>: ")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")  # of a URL, such as absl shows with its flag
_FLAG = re.compile(r"--(\w+)=[^:]*")
_NUMBERS = {
    "invalid literal for int": "a whole number",
    "could not convert string to float": "a number",
}
_ENUM = re.compile(r"value should be one of <(.*)>")
_ALSO = ("flagfile", "verbosity")  # of absl's flags
_ABSL_FLAGS = {"undefok": False}  # it has them, and does not list them
_QUOTE = "'"
_HELP_INDENT = 32
_HELP_WIDTH = 96


def run(
    main: Callable[..., None],
    *,
    flagfiles: Path | None = None,
    commands_with: Callable[[str], Sequence[str]] = lambda flag: (),
) -> NoReturn:
    """Parses the absl flags (flagfiles included), calls `main` and exits.

    Args:
      main: The command. One with a parameter is given the list of what stands beside the
        flags; for any other that is misuse. Raises `UsageError` or `DataError` for what it
        cannot do.
      flagfiles: Folder of the flagfiles that come with the command: `--flagfile=NAME` finds
        `NAME.flags` there, unless there is a file NAME.
      commands_with: Gives the other commands that have a flag. It is called last, and may leave
        the flags in any state.
    """
    flags_and_arguments = sys.argv[: sys.argv.index("--")] if "--" in sys.argv else sys.argv
    if not set(_HELP).isdisjoint(flags_and_arguments[1:]):
        sys.exit(exit_code(lambda: print(_help_text(main))))
    takes_arguments = bool(inspect.signature(main).parameters)
    app.run(
        lambda argv: _run(main, *([argv[1:]] if takes_arguments else [])),
        flags_parser=lambda argv: _parse_flags(
            argv,
            takes_arguments=takes_arguments,
            folder=flagfiles,
            commands_with=commands_with,
        ),
    )
    raise AssertionError("app.run exits")


def fail(error: Exception | str, *, code: int) -> NoReturn:
    """Prints one line on stderr and exits."""
    line = _CREDENTIALS.sub("", " ".join(str(error).splitlines()))
    # A file's name or a server's answer may hold what moves a terminal's cursor, or worse.
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    print(f"error: {''.join(shown)}", file=sys.stderr)
    sys.exit(code)


def describe_os_error(error: OSError) -> str:
    """One line for an `OSError`: the file, the reason, and the remedy where there is one."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    line = f"{error.filename}: {reason}" if error.filename else reason
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        line += "; free some space and run the same command again, it resumes where it stopped"
    return line


def _parse_flags(
    argv: Sequence[str],
    *,
    takes_arguments: bool,
    folder: Path | None,
    commands_with: Callable[[str], Sequence[str]],
) -> list[str]:
    try:
        given = arguments.expand(argv[1:], folder)
        arguments.require_known(
            given,
            {name: flags.FLAGS[name].boolean for name in flags.FLAGS} | _ABSL_FLAGS,
            takes_arguments=takes_arguments,
            suggested=[*_ALSO, *(flag.name for _, group in _own_flags() for flag in group)],
            commands_with=commands_with,
        )
        flags.FLAGS.set_gnu_getopt(takes_arguments)  # flags may then come after arguments
        remaining: list[str] = flags.FLAGS([argv[0], *(argument.text for argument in given)])
    except UsageError as error:
        fail(error, code=2)
    except flags.Error as error:
        fail(_in_our_words(error, given), code=2)
    return remaining


def _in_our_words(error: flags.Error, given: Sequence[Argument]) -> str:
    """An error of absl's about a value, as ours are."""
    text = str(error).removeprefix("flag ")
    match = _FLAG.match(text)
    if not match:
        return text
    if text.endswith("must have a value other than None."):
        return f"--{match[1]} is required"
    for kind, wanted in _NUMBERS.items():
        if kind in text:
            text = f"{match[0]}: must be {wanted}"
    text = _ENUM.sub(lambda found: f"must be one of {found[1].replace('|', ', ')}", text)
    return arguments.prefix(arguments.place_of(given, match[1])) + text


def _run(main: Callable[..., None], *arguments: list[str]) -> int:
    startup.restore_interrupts()
    with _log():
        return exit_code(main, *arguments)


def exit_code(main: Callable[..., None], *arguments: list[str]) -> int:
    """Calls a function, and exits where it fails, with one line; else returns the exit code."""
    try:
        main(*arguments)
        sys.stdout.flush()
    except UsageError as error:
        fail(error, code=2)
    except DataError as error:
        fail(error, code=1)
    except BrokenPipeError:
        # Whoever read the output, `head` for instance, has enough. Nothing is left to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        fail(describe_os_error(error), code=1)
    except Interrupted as end:
        return 128 + end.signal
    except KeyboardInterrupt:
        fail("interrupted", code=130)
    return 0


def _log() -> contextlib.AbstractContextManager[None]:
    """Sets up logging: a quiet console, or with --verbosity all that libraries have to say."""
    if flags.FLAGS["verbosity"].present:
        startup.show_all_of_tensorflow()
        return contextlib.nullcontext()
    logging.set_verbosity(logging.WARNING)  # absl's own default is INFO
    logging.get_absl_handler().setFormatter(_OneLine())
    return native_log.without_information()


class _OneLine(stdlib_logging.Formatter):
    """A line such as `warning: 3 drawings are blank`, as the project's own are."""

    def format(self, record: stdlib_logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {record.getMessage()}"


def _help_text(main: Callable[..., None]) -> str:
    """What the command's module says of it, then its flags by group; none of absl's own."""
    parts = [inspect.getdoc(inspect.getmodule(main)) or ""]
    for module, group in _own_flags():
        is_module = "." in module or module == "__main__"
        title = "Flags" if is_module else module.capitalize()
        parts.append("\n".join([f"{title}:", *map(_flag_help, group)]))
    also = [*_entry("--flagfile=...", "File of flags, one per line.")]
    also += _entry("--verbosity=0", "Show what TensorFlow and other libraries log, too.")
    parts.append("\n".join(["Also:", *also]))
    return "\n\n".join(parts)


def _own_flags() -> list[tuple[str, list[flags.Flag]]]:
    """The command's flags by the module or the group that they are of; none of absl's."""
    groups = flags.FLAGS.flags_by_module_dict().items()
    return [(module, group) for module, group in groups if module.partition(".")[0] != "absl"]


def _flag_help(flag: flags.Flag) -> str:
    # absl puts the choices before the meaning: <auto|memory|none>: Where the split is held.
    choices = _CHOICES.match(flag.help)
    meaning = (flag.help[choices.end() :] if choices else flag.help).rstrip(".") + "."
    if choices:
        meaning += f" One of {choices[1].replace('|', ', ')}."
    if flag.boolean:
        name = f"--[no]{flag.name}"
        meaning += f" Default: {'yes' if flag.default else 'no'}."
    else:
        default = flag.default_as_str  # in quotes; None if there is none
        name = f"--{flag.name}={default.strip(_QUOTE) if default else '...'}"
    return "\n".join(_entry(name, meaning))


def _entry(name: str, meaning: str) -> Iterator[str]:
    """The lines of one flag: its name and default to the left, its meaning to the right."""
    first, *others = textwrap.wrap(meaning, _HELP_WIDTH - _HELP_INDENT) or [""]
    if len(name) > _HELP_INDENT - 4:
        yield f"  {name}"
        name = ""
    yield f"  {name:<{_HELP_INDENT - 2}}{first}"
    for line in others:
        yield " " * _HELP_INDENT + line
