"""How every command of the project starts, fails and ends.

    if __name__ == "__main__":
        cli.run(main)

Exit codes: 0 done, 1 failure (data, disk, network), 2 misuse (flags, arguments),
130 interrupted. A user's mistake is one line on stderr, never a stack trace.
"""

import errno
import os
import sys
from collections.abc import Callable, Sequence

from absl import app, flags

from quickdraw_tfrecords.base import startup
from quickdraw_tfrecords.base.errors import DataError, UsageError


def run(main: Callable[..., None], *, takes_arguments: bool = False) -> None:
    """Parses the absl flags (flagfiles included), calls `main` and exits.

    Args:
      main: The command. Raises `UsageError` or `DataError` for what it cannot do.
      takes_arguments: Call `main` with what stands beside the flags; else that is misuse.
    """
    app.run(
        lambda argv: _exit_code(main, *([argv[1:]] if takes_arguments else [])),
        flags_parser=lambda argv: _parse_flags(argv, takes_arguments),
    )


def _parse_flags(argv: Sequence[str], takes_arguments: bool) -> list[str]:
    try:
        flags.FLAGS.set_gnu_getopt(takes_arguments)  # flags may then come after arguments
        remaining = flags.FLAGS(argv)
        if len(remaining) > 1 and not takes_arguments:
            # absl takes `name=3` in a flagfile as a positional argument and goes on.
            raise UsageError(f"unexpected argument {remaining[1]!r}: flags begin with '--'")
    except (flags.Error, UsageError, OSError) as error:
        _fail(error, code=2)
    return remaining


def _exit_code(main: Callable[..., None], *arguments: list[str]) -> int:
    startup.restore_interrupts()
    try:
        main(*arguments)
        sys.stdout.flush()
    except UsageError as error:
        _fail(error, code=2)
    except DataError as error:
        _fail(error, code=1)
    except BrokenPipeError:
        # Whoever read the output, `head` for instance, has enough. Nothing is left to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _fail(describe_os_error(error), code=1)
    except KeyboardInterrupt:
        _fail("interrupted", code=130)
    return 0


def describe_os_error(error: OSError) -> str:
    """One line for an `OSError`: the file, the reason, and the remedy where there is one."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    line = f"{error.filename}: {reason}" if error.filename else reason
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        line += "; free some space and run the same command again, it goes on where it stopped"
    return line


def _fail(error: Exception | str, *, code: int) -> None:
    print("error:", " ".join(str(error).splitlines()), file=sys.stderr)
    sys.exit(code)
