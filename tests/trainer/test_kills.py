"""Commands that write results, killed at every moment at which a file would get its name."""

import itertools
import os
import shutil
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from tests.processes import ChildProcess
from tests.trained import make_run


def run_killed(command: str, flags: list[str], moment: int) -> None:
    """`quickdraw COMMAND FLAGS...`, killed before its `moment`-th rename, if it has so many."""
    renames = itertools.count(1)

    def struck(original: Callable) -> Callable:
        def rename(*args: object) -> object:
            if next(renames) == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args)

        return rename

    os.replace, os.rename = struck(os.replace), struck(os.rename)
    from quickdraw_tfrecords.base import cli

    module = import_module(f"trainer.commands.{command}")
    sys.argv = [command, *flags]
    module.define_flags()
    cli.run(module.main)


def visible_files(folder: Path) -> dict[str, bytes]:
    """What there is to be read, without what is being written, and TensorBoard's many files."""
    return {
        str(name): (folder / name).read_bytes()
        for name in (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        if name.parts[0] != "tensorboard" and not any(part[0] == "." for part in name.parts)
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "is_repeatable"), [("evaluate", True), ("report", False), ("export", False)]
)
def test_nothing_half_is_taken_for_whole_and_the_same_command_goes_on(
    tmp_path, data_dir, command, is_repeatable
):
    make_run(tmp_path / "calm", data_dir)
    shutil.copytree(tmp_path / "calm", tmp_path / "stormy")
    before = visible_files(tmp_path / "calm")

    def run(name: str, moment: int) -> int:
        flags = [f"--run_dir={tmp_path / name}"]
        process = ChildProcess(run_killed, command, flags, moment, output=tmp_path / name)
        code = process.wait()
        assert "Traceback" not in process.stderr
        return code

    assert run("calm", 0) == 0
    expected = visible_files(tmp_path / "calm")
    kills = 0
    while run("stormy", kills + 1) == -signal.SIGKILL:
        kills += 1
        found = visible_files(tmp_path / "stormy")
        assert before.keys() <= found.keys() <= expected.keys()
        for name in found if is_repeatable else before:
            assert found[name] == expected[name], name
    assert kills
    assert run("stormy", 0) == 0
    assert visible_files(tmp_path / "stormy").keys() == expected.keys()
    assert not list((tmp_path / "stormy").rglob("*.tmp"))
