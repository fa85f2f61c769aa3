"""The command `quickdraw`: Quick, Draw! drawings -> TFRecords -> a trained classifier.

quickdraw COMMAND [--flag=value ...]
quickdraw COMMAND --help
"""

import ast
import difflib
import importlib
import sys
from importlib import util
from pathlib import Path

from absl import flags

from quickdraw_tfrecords.base import cli
from quickdraw_tfrecords.base.startup import CONSOLE_COMMAND
from quickdraw_tfrecords.base.version import __version__

# In the order in which one meets them.
COMMANDS = {
    "download": "quickdraw_tfrecords.commands.download",
    "convert": "quickdraw_tfrecords.commands.convert",
    "verify": "quickdraw_tfrecords.commands.verify",
    "inspect": "quickdraw_tfrecords.commands.inspect",
    "audit": "quickdraw_tfrecords.commands.audit",
    "train": "trainer.commands.train",
    "sweep": "trainer.commands.sweep",
    "runs": "trainer.commands.runs",
    "evaluate": "trainer.commands.evaluate",
    "report": "trainer.commands.report",
    "compare": "trainer.commands.compare",
    "predict": "trainer.commands.predict",
    "export": "trainer.commands.export",
    "sketchpad": "trainer.commands.sketchpad",
}


def main() -> None:
    """Runs the command that the first argument names, with the others as its flags."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("--help", "-h", "help"):
        sys.exit(cli.exit_code(lambda: print(_overview())))
    elif name == "--version":
        print(f"{CONSOLE_COMMAND} {__version__}")
    elif name in COMMANDS:
        sys.argv = [f"{CONSOLE_COMMAND} {name}", *arguments]
        command = importlib.import_module(COMMANDS[name])
        command.define_flags()
        cli.run(
            command.main,
            flagfiles=getattr(command, "FLAGFILES", None),
            commands_with=_commands_with,
        )
    else:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"`{CONSOLE_COMMAND} --help` lists them"
        cli.fail(f"there is no command {name!r}; {hint}", code=2)


def _commands_with(flag: str) -> list[str]:
    """The commands that have a flag; replaces the flags of the one that runs."""
    found = []
    for name, module in COMMANDS.items():
        flags.FLAGS.remove_flag_values(list(flags.FLAGS))
        importlib.import_module(module).define_flags()
        if flag in flags.FLAGS:
            found.append(f"{CONSOLE_COMMAND} {name}")
    return found


def _overview() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{_summary(module)}" for name, module in COMMANDS.items()]
    return "\n".join([str(__doc__), "Commands:", *lines])


def _summary(module: str) -> str:
    """The first line of a module's docstring; read, since to import them all takes seconds."""
    spec = util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"the command's module {module} is missing")
    docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text()))
    return str(docstring).partition("\n")[0]


if __name__ == "__main__":
    main()
