"""Ctrl-C in the first moments of a command, while Python imports what it needs."""

import signal
import sys


def quiet_interrupts(package: str) -> None:
    """Lets Ctrl-C end a command at once and without a traceback, until `cli.run` takes over.

    To be called by the `__init__.py` of a package with commands, before all other imports. It
    does nothing unless the command is one of the package's: to whoever imports it, Ctrl-C
    stays what it was.
    """
    # Python puts this here for as long as it looks for the module of `python -m module`.
    if sys.argv[:1] != ["-m"] or "-m" not in sys.orig_argv[:-1]:
        return
    module = sys.orig_argv[sys.orig_argv.index("-m") + 1]
    is_ours = module.partition(".")[0] == package
    if is_ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def restore_interrupts() -> None:
    """Makes Ctrl-C a `KeyboardInterrupt` again."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
