"""The first moments of a command, while Python imports what it needs."""

import os
import signal
import sys
from pathlib import Path

from quickdraw_tfrecords.base import native_log

CONSOLE_COMMAND = "quickdraw"

_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def prepare(package: str) -> None:
    """Prepares the process for a command, until `cli.run` takes over.

    Ctrl-C then ends it at once and without a traceback, and TensorFlow's C++ code, which reads
    its log level when it is loaded, reports errors only, and warnings where there is a GPU.

    The `__init__.py` of a package with commands calls it before all other imports. It does
    nothing unless the command is one of the package's: a program that merely imports the
    package keeps its own handling of Ctrl-C, and its own log level.
    """
    if not _runs_command_of(package):
        return
    _open_missing_streams()
    # Warnings are for who can mend it: of libraries that a GPU needs, for instance.
    os.environ.setdefault(_LOG_LEVEL, "1" if native_log.has_nvidia_gpu() else "2")
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _open_missing_streams() -> None:
    """Opens what of stdin, stdout and stderr was closed, as daemons have it.

    Otherwise the next files that are opened get their numbers, and what is printed goes there.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, so this one
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def show_all_of_tensorflow() -> None:
    """Lets TensorFlow's C++ code report all that it has to say, if it has not been loaded yet."""
    os.environ[_LOG_LEVEL] = "0"


def _runs_command_of(package: str) -> bool:
    if Path(sys.argv[0]).name == CONSOLE_COMMAND:
        return True
    # Python leaves "-m" here for as long as it looks for the module of `python -m module`.
    if sys.argv[:1] != ["-m"] or "-m" not in sys.orig_argv[:-1]:
        return False
    module = sys.orig_argv[sys.orig_argv.index("-m") + 1]
    return module.partition(".")[0] == package


def restore_interrupts() -> None:
    """Makes Ctrl-C a `KeyboardInterrupt` again."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
