"""Tests of quickdraw_tfrecords.base.cli, on a command of its own."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
COMMAND = """
import errno, os, signal, sys
from absl import flags
from quickdraw_tfrecords.base import cli
from quickdraw_tfrecords.base.errors import DataError, UsageError

flags.DEFINE_integer("count", 1, "How many.", lower_bound=1)
flags.DEFINE_string("name", None, "What.", required=True)
flags.DEFINE_enum("sort", "name", ["name", "size"], "By what.")

def main():
    print(f"{flags.FLAGS.count} {flags.FLAGS.name}")
    exec(os.environ.get("CODE", ""))

if __name__ == "__main__":
    cli.run(main)
"""


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("command") / "command.py"
    path.write_text(COMMAND)
    return path


def run(command: Path, *flags: str, code: str = "") -> subprocess.CompletedProcess:
    environment = os.environ | {"CODE": code, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, command, *flags],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_command_that_ends_well_exits_with_0(command):
    result = run(command, "--name=cat", "--count=3")
    assert (result.returncode, result.stdout, result.stderr) == (0, "3 cat\n", "")


@pytest.mark.parametrize(
    ("code", "exit_code", "line"),
    [
        ("raise UsageError('--count=1: too few')", 2, "--count=1: too few"),
        ("raise DataError('shard 7: damaged')", 1, "shard 7: damaged"),
        ("raise DataError('one line\\nand another')", 1, "one line and another"),
        ("open('/nowhere/file')", 1, "/nowhere/file: No such file or directory"),
        (
            "raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), '/data/shard')",
            1,
            "/data/shard: No space left on device; free some space and run the same command "
            "again, it resumes where it stopped",
        ),
        ("raise OSError('of no known number')", 1, "of no known number"),
        (
            "raise DataError('caf\u00e9\\x1b[2J\\udcff.npy')",
            1,
            "caf\u00e9\\x1b[2J\\udcff.npy",
        ),
        ("os.kill(os.getpid(), signal.SIGINT)", 130, "interrupted"),
    ],
)
def test_a_failure_is_one_line_and_an_exit_code(command, code, exit_code, line):
    result = run(command, "--name=cat", code=code)
    assert (result.returncode, result.stderr) == (exit_code, f"error: {line}\n")


@pytest.mark.parametrize(("name", "exit_code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_what_a_signal_has_ended_exits_as_in_a_shell_without_a_word_more(command, name, exit_code):
    code = (
        f"from quickdraw_tfrecords.base.errors import Interrupted\nraise Interrupted(signal.{name})"
    )
    result = run(command, "--name=cat", code=code)
    assert (result.returncode, result.stdout, result.stderr) == (exit_code, "1 cat\n", "")


def test_a_mistake_of_ours_shows_where_it_is(command):
    result = run(command, "--name=cat", code="1 / 0")
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "ZeroDivisionError" in result.stderr


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "error: --name is required\n"),
        (["--name=cat", "--count=0"], "--count"),
        (["--name=cat", "--count=many"], "error: --count=many: must be a whole number\n"),
        (["--name=cat", "--sort=age"], "error: --sort=age: must be one of name, size\n"),
        (["--flagfil=x"], "--flagfil: there is no such flag; did you mean --flagfile?"),
        (["--name=cat", "--log_dri=x"], "--log_dri: there is no such flag; --help lists them"),
        (["--flagfile="], "--flagfile: must name a file"),
        (["--flagfile"], "--flagfile: must name a file"),
        (["--count=0"], "--count"),
        (["--nmae=cat"], "--nmae: there is no such flag; did you mean --name?"),
        (["--name=cat", "count=3"], "unexpected argument 'count=3': flags begin with '--'"),
        (["cat"], "unexpected argument 'cat': flags begin with '--'"),  # --name is missing, too
        (["--name=cat", "--", "--count=3"], "unexpected argument '--count=3': flags begin"),
        (["--flagfile=nowhere.txt"], "--flagfile=nowhere.txt: No such file or directory"),
    ],
)
def test_misused_flags_are_one_line_and_exit_with_2(command, flags, said):
    result = run(command, *flags)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_flagfile_is_read_and_its_slips_are_noticed(command, tmp_path):
    flagfile = tmp_path / "flags.txt"
    flagfile.write_text("# a comment\n--name=cat\n--count=3\n")
    assert run(command, f"--flagfile={flagfile}").stdout == "3 cat\n"
    flagfile.write_text("--name=cat\ncount=3\n")
    result = run(command, f"--flagfile={flagfile}")
    assert result.returncode == 2
    assert "unexpected argument 'count=3'" in result.stderr


@pytest.mark.parametrize(
    ("value", "meaning"),
    [("~", "/home/ann"), ("~/a,~/b", "/home/ann/a,/home/ann/b"), ("a~/b,~c", "a~/b,~c")],
)
def test_a_tilde_is_the_home_directory(command, tmp_path, monkeypatch, value, meaning):
    monkeypatch.setenv("HOME", "/home/ann")
    assert run(command, f"--name={value}").stdout == f"1 {meaning}\n"
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "flags.txt").write_text("--name=cat\n")
    assert run(command, "--flagfile=~/flags.txt").stdout == "1 cat\n"


def test_a_command_may_take_arguments_beside_flags(command, tmp_path):
    taking = tmp_path / "taking.py"
    source = command.read_text().replace("def main():", "def main(arguments):")
    source = source.replace("exec(", "print(arguments)\n    exec(")
    taking.write_text(source)
    result = run(taking, "a.png", "--name=cat", "b=1", "--count=2", "--", "--name=dog")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "2 cat\n['a.png', 'b=1', '--name=dog']\n"


def test_a_reader_that_has_enough_is_no_mistake(command):
    code = "print('x' * 10**6)"
    environment = os.environ | {"CODE": code, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, command, "--name=cat"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.read(2) == "1 "
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


@pytest.mark.parametrize("flag", ["--help", "-h", "--helpfull"])
def test_help_lists_the_flags_of_the_command_and_no_others(command, flag):
    result = run(command, flag)
    assert (result.returncode, result.stderr) == (0, "")
    listed = set(re.findall(r"^  --(\w+)", result.stdout, re.MULTILINE))
    assert listed == {"count", "name", "sort", "flagfile", "verbosity"}
    assert "--count=1" in result.stdout


def test_help_is_an_argument_after_two_dashes(command):
    assert run(command, "--name=cat", "--", "--help").returncode == 2


def test_a_flagfile_that_comes_along_is_found_by_its_name(command, tmp_path):
    own = tmp_path / "own.py"
    call = f"cli.run(main, flagfiles=__import__('pathlib').Path({str(tmp_path)!r}))"
    own.write_text(command.read_text().replace("cli.run(main)", call))
    (tmp_path / "few.flags").write_text("--count=2\n")
    assert run(own, "--name=cat", "--flagfile=few").stdout == "2 cat\n"
    result = run(own, "--name=cat", "--flagfile=many")
    assert result.returncode == 2
    assert result.stderr == (
        "error: --flagfile=many: no such file, nor one of those that come along: few\n"
    )
    mine = tmp_path / "mine" / "few"
    mine.parent.mkdir()
    mine.write_text("--count=7\n")
    result = run(own, "--name=cat", f"--flagfile={mine}")
    assert result.stdout == "7 cat\n"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("--name=cat\n\n--cuont=3\n", "3: --cuont: there is no such flag; did you mean --count?"),
        ("# a comment\n--name=cat\n--count=many\n", "3: --count=many: must be a whole number"),
        ("--name=cat\n// a comment\ncount=3\n", "3: unexpected argument 'count=3': flags"),
        ("--name=cat\n--flagfile=nowhere\n", "2: --flagfile=nowhere: No such file"),
        ("--flagfile={file}\n", "1: --flagfile={file}: includes itself"),
    ],
)
def test_a_mistake_in_a_flagfile_is_named_with_its_line(command, tmp_path, lines, said):
    for outer in (False, True):  # within another, too
        file = tmp_path / "flags.txt"
        file.write_text(lines.format(file=file))
        start = file
        if outer:
            start = tmp_path / "outer.txt"
            start.write_text(f"--flagfile={file}\n")
        result = run(command, f"--flagfile={start}")
        assert result.returncode == 2
        place = f"error: {file}:"
        assert result.stderr.startswith(place + said.format(file=file)), result.stderr


def test_flags_stand_in_the_place_of_their_flagfile(command, tmp_path):
    for name, count in (("a", 2), ("b", 3)):
        (tmp_path / name).write_text(f"--count={count}\n--name\n{name}\n")
    files = [f"--flagfile={tmp_path / name}" for name in "ab"]
    assert run(command, *files).stdout == "3 b\n"
    assert run(command, *reversed(files)).stdout == "2 a\n"
    assert run(command, "--flagfile", str(tmp_path / "a"), "--count", "5").stdout == "5 a\n"
    assert run(command, "--count", "5", *files[:1]).stdout == "2 a\n"


def test_a_value_may_look_like_a_flag(command):
    assert run(command, "--name", "--cat").stdout == "1 --cat\n"


def test_the_command_that_has_a_flag_is_named():
    """Of `quickdraw`, which knows all of them."""
    code = "import sys; sys.argv[0] = 'quickdraw'; from trainer import console; console.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "train", "--top=3"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stderr == ("error: --top: is no flag of this command, but of quickdraw predict\n")


@pytest.mark.parametrize("arguments", [(), ("train", "--help"), ("--help",)])
def test_a_reader_of_help_that_has_enough_is_no_mistake(arguments):
    code = "import sys; sys.argv[0] = 'quickdraw'; from trainer import console; console.main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == ""


def test_a_command_can_be_ended_by_a_signal(command):
    result = run(command, "--name=cat", code="os.kill(os.getpid(), signal.SIGTERM)")
    assert result.returncode == -signal.SIGTERM
    assert result.stderr == ""


COMMANDS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
    for package in ("quickdraw_tfrecords", "trainer", "tools")
    for path in (ROOT / package).rglob("*.py")
    if re.search(r"^    cli\.run\(", path.read_text(), re.MULTILINE) and path.name != "cli.py"
)


def interrupted_import(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Runs Python from the project's folder; the import of absl is met by Ctrl-C."""
    (tmp_path / "absl.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(0.1)\n"
    )
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("module", COMMANDS)
def test_ctrl_c_while_a_command_is_imported_shows_no_traceback(tmp_path, module):
    result = interrupted_import(tmp_path, "-m", module)
    assert (result.returncode, result.stdout, result.stderr) == (-signal.SIGINT, "", "")


def test_the_commands_are_found():
    assert {
        "quickdraw_tfrecords",
        "quickdraw_tfrecords.commands.audit",
        "quickdraw_tfrecords.commands.verify",
        "trainer",
    } < set(COMMANDS)


@pytest.mark.parametrize("start", [("-c", "import {}"), ("-m", "program")])
@pytest.mark.parametrize("package", ["quickdraw_tfrecords", "trainer", "tools"])
def test_in_other_programs_ctrl_c_stays_what_it_is(tmp_path, start, package):
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "__init__.py").write_text(f"import {package}, absl")
    result = interrupted_import(tmp_path, start[0], start[1].format(f"{package}, absl"))
    assert "KeyboardInterrupt" in result.stderr


def _run_without(streams: str, *arguments: str, path: str) -> subprocess.CompletedProcess:
    shell = f'exec "{sys.executable}" "$@" {streams}'
    return subprocess.run(
        ["sh", "-c", shell, "sh", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_are_no_error(streams):
    result = _run_without(streams, "-m", "quickdraw_tfrecords", "--help", path="")
    assert (result.returncode, result.stderr) == (0, "")


def test_no_file_takes_the_number_of_a_closed_stream(tmp_path):
    (tmp_path / "absl.py").write_text(
        f"import os\nnumber = os.open(os.devnull, os.O_RDONLY)\n"
        f"open({str(tmp_path / 'number')!r}, 'w').write(str(number))\nos._exit(0)\n"
    )
    result = _run_without("<&- >&- 2>&-", "-m", "quickdraw_tfrecords", path=str(tmp_path))
    assert result.returncode == 0
    assert int((tmp_path / "number").read_text()) > 2
