"""Every command and every snippet of the docs is run, or at least checked word by word.

Python blocks run as they stand, those of a page one after the other. Commands run as they stand,
too, with a few flags added to make them short, in a folder where everything that the docs speak
of is there: `data`, `runs/1`, `cat.png`. What needs a network, a set-up, or minutes is not run;
its command, flags, flagfiles, and make targets must exist all the same.
"""

import ast
import contextlib
import functools
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import quickdraw_tfrecords as qt
from tests.pages import (
    PACKAGES,
    PAGES,
    ROOT,
    Command,
    blocks,
    commands_of_modules,
    commands_of_pages,
    inline_code,
    languages,
    links,
    prose,
)
from tests.processes import ChildProcess
from tests.trained import make_run
from trainer import console

_HELP_FLAG = re.compile(r"^  --(\[no\])?(\w+)", re.MULTILINE)

# Programs of others that the docs call.
OTHERS = {"brew", "git", "pip", "pre-commit", "source", "sudo"}

# Commands that are only checked, and why they are not run.
NOT_RUN = {
    r"^make ": "sets up an environment",
    r"download": "needs a network",
    r"s3://": "needs a bucket",
    r"--source=tfds|^python -c": "needs a data set that TFDS downloads",
    r"quickdraw sketchpad": "serves until it is interrupted",
    r"--format=web": "needs npm",
    r"tools\.record_sketchpad": "needs a browser",
    r"tools\.(accuracy_fit|benchmark|gpu_check|learning_curve)": "takes minutes",
    r"quickdraw sweep": "trains many runs",
    r"tools\.study": "needs a network",
    r"tools\.gpu_forecast": "needs JAX, in an environment of its own",
}
# Packages that blocks may need and that this project does without.
OPTIONAL = {"jax", "torch"}
# What makes a command short.
SHORTER = {
    "quickdraw convert": ["--per_class=all", "--workers=1"],
    "quickdraw train": ["--epochs=1", "--warmup_epochs=0.5", "--batch_size=256", "--noreport"],
}
QUICK = re.compile(r"quickdraw (--help|verify|inspect|audit)|python -m tools.draw_architecture")


def title(command: Command) -> str:
    return f"{command.place}: {command.text}"


# What there is.


def call(words: tuple[str, ...], folder: Path) -> None:
    """Calls a command of this project in a folder, in a process of its own."""
    os.chdir(folder)
    if words[0] == "quickdraw":
        sys.argv = list(words)
        console.main()
    else:
        sys.argv = list(words[2:])
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)


@functools.cache
def flags_of(program: str) -> frozenset[str]:
    """The flags that `--help` lists, and those that every command has."""
    with tempfile.TemporaryDirectory() as folder:
        words = (*program.split(), "--help")
        process = ChildProcess(call, words, ROOT, output=Path(folder) / "help")
        assert process.wait() == 0, process.stderr
        listed = _HELP_FLAG.findall(process.stdout)
    names = {name for _, name in listed} | {f"no{name}" for negatable, name in listed if negatable}
    return frozenset(names | {"flagfile", "help", "version"})


@functools.cache
def makefile() -> tuple[frozenset[str], frozenset[str]]:
    """The targets and the variables of the Makefile."""
    text = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z-]+):", text, re.MULTILINE)
    variables = re.findall(r"^([A-Z_]+) *\?=", text, re.MULTILINE)
    return frozenset(targets), frozenset(variables)


def check_make(command: Command) -> None:
    targets, variables = makefile()
    for word in command.words[1:]:
        variable, is_setting, value = word.partition("=")
        assert variable in (variables if is_setting else targets), word
        if is_setting and value.endswith((".flags", ".lock")):
            assert (ROOT / value).exists(), value


def check_own(command: Command) -> None:
    if command.words[0] == "quickdraw":
        if command.words[1].startswith("-"):
            assert command.words[1] in ("--help", "--version")
            return
        assert command.words[1] in console.COMMANDS
    else:
        assert util.find_spec(command.words[2]), command.words[2]
        if command.words[2].partition(".")[0] not in PACKAGES:
            return  # a module of others
    unknown = command.flags.keys() - flags_of(command.program)
    assert not unknown, f"{command.program} has no flags {unknown}"
    flagfile = command.flags.get("flagfile", "")
    if flagfile and not flagfile.startswith("runs/"):
        shipped = ROOT / "trainer" / "flagfiles" / f"{flagfile}.flags"
        assert shipped.exists() or (ROOT / flagfile).exists(), flagfile


@pytest.mark.parametrize("command", [*commands_of_pages(), *commands_of_modules()], ids=title)
def test_command_and_flags_exist(command: Command):
    if command.words[0] == "make":
        check_make(command)
    elif command.words[0] == "quickdraw" or command.words[:2] == ("python", "-m"):
        check_own(command)
    elif command.words[:2] == ("python", "-c"):
        ast.parse(command.words[2])
    else:
        assert command.words[0] in OTHERS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_flags_and_files_in_the_prose_exist(page: Path):
    flags = frozenset().union(*(flags_of(f"quickdraw {name}") for name in console.COMMANDS))
    for text in inline_code(page):
        for flag in re.findall(r"(?<![\w-])--(\w+)", text):
            assert flag in flags, f"no command has --{flag}"
        if re.fullmatch(rf"(docs|tests|{'|'.join(PACKAGES)})/[\w./-]*", text):
            assert (ROOT / text).exists(), text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    for target in links(page):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_says_its_language(page: Path):
    """Else it would not be checked."""
    assert languages(page) <= {"shell", "python", "yaml", "text"}
    assert not re.search(r"\n\n    \S", prose(page)), "an indented block"


def test_vertex_ais_pools_are_the_same():
    """That its file is one of YAML; what it means is not checked."""
    yaml = pytest.importorskip("yaml")
    (block,) = blocks(ROOT / "docs" / "cluster.md", "yaml")
    first, second = yaml.safe_load(block)["workerPoolSpecs"]
    assert first == second


def test_the_batch_script_tells_each_task_of_all(tmp_path: Path):
    """With stand-ins for Slurm, which gives two nodes, and for the trainer."""
    texts = blocks(ROOT / "docs" / "cluster.md", "text")
    (script,) = (text for text in texts if text.startswith("#!/bin/bash"))
    for name, does in {
        "scontrol": "printf 'one\\ntwo\\n'",
        "srun": 'for i in 0 1; do SLURM_PROCID=$i "$@"; done',
        "quickdraw": 'echo "$TF_CONFIG"',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{does}\n")
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    told = subprocess.run(["bash", "-c", script], env=env, capture_output=True, check=True).stdout
    cluster = {"worker": ["one:2222", "two:2222"]}
    assert [json.loads(line) for line in told.splitlines()] == [
        {"cluster": cluster, "task": {"type": "worker", "index": index}} for index in range(2)
    ]


def test_the_citation_is_of_this_version():
    assert f"\nversion: {qt.__version__}\n" in (ROOT / "CITATION.cff").read_text()


# Running them.


@pytest.fixture(scope="module")
def shelf(data_dir: Path, source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the docs speak of."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(data_dir, folder / "data")
    with contextlib.chdir(folder):
        make_run(Path("runs/1"), Path("data"))
        make_run(Path("runs/2"), Path("data"), seed=1)
    bitmaps = [source.read(label, np.arange(40)) for label in range(len(source.class_names))]
    for folder_name in ("numpy_bitmap", "bitmaps"):
        (folder / folder_name).mkdir()
        for class_name, images in zip(source.class_names, bitmaps, strict=True):
            np.save(folder / folder_name / f"{class_name}.npy", images)
    np.save(folder / "drawings.npy", bitmaps[0])
    Image.fromarray(255 - bitmaps[1][0].reshape(28, 28)).save(folder / "cat.png")
    for class_name, images in zip(source.class_names[:2], bitmaps, strict=False):
        (folder / "drawings" / class_name).mkdir(parents=True)
        for number, image in enumerate(images):
            path = folder / "drawings" / class_name / f"{number}.png"
            Image.fromarray(image.reshape(28, 28)).save(path)
    strokes = (ROOT / "tests" / "golden" / "drawings.ndjson").read_bytes()
    (folder / "strokes.ndjson").write_bytes(strokes)
    (folder / "simplified").mkdir()
    (folder / "simplified" / "cat.ndjson").write_bytes(strokes)
    (folder / "sketchrnn").mkdir()
    steps = np.array([[5, 9, 0], [60, 0, 0], [0, 70, 1], [-30, -40, 0], [9, 9, 1]], np.int16)
    drawings = np.empty(30, object)
    drawings[:] = [steps + [number, 0, 0] for number in range(30)]
    np.savez(folder / "sketchrnn" / "cat.npz", train=drawings, valid=drawings, test=drawings)
    return folder


@pytest.fixture
def folder(shelf: Path, tmp_path: Path) -> Path:
    """A copy of it, for one test to change."""
    return shutil.copytree(shelf, tmp_path / "docs")


def to_run() -> Iterator[object]:
    """The commands of this project that are run, each once."""
    for command in dict.fromkeys(Command("", command.words) for command in commands_of_pages()):
        is_own = command.words[0] == "quickdraw" or command.words[1:2] == ("-m",)
        has_flags = any(word.startswith("--") for word in command.words)
        if is_own and has_flags and not any(re.search(rule, command.text) for rule in NOT_RUN):
            marks = [] if QUICK.match(command.text) else [pytest.mark.slow]
            yield pytest.param(command, id=command.text, marks=marks)


@pytest.mark.usefixtures("cairo")
@pytest.mark.parametrize("command", to_run())
def test_command_runs(command: Command, folder: Path):
    if command.program == "quickdraw train":
        shutil.rmtree(folder / "runs")
    (folder / "docs").mkdir()
    words = (*command.words, *SHORTER.get(command.program, []))
    process = ChildProcess(call, words, folder, output=folder / "process")
    assert process.wait() == 0, process.stderr
    assert "Traceback" not in process.stderr


def missing_packages(text: str) -> set[str]:
    """Packages that a block imports and that are not installed."""
    names = re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE)
    return {name for name in names if util.find_spec(name) is None}


def run_python(page: Path, folder: Path) -> None:
    os.chdir(folder)
    namespace: dict[str, object] = {}
    for text in blocks(page, "python"):
        if missing_packages(text) & OPTIONAL:
            continue
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(text, str(page), "exec"), namespace)


def with_python() -> Iterator[object]:
    for page in PAGES:
        if any(blocks(page, "python")):
            trains = page.name in ("README.md", "training.md")
            marks = [pytest.mark.slow] if trains else []
            yield pytest.param(page, id=page.name, marks=marks)


@pytest.mark.usefixtures("cairo")
@pytest.mark.parametrize("page", with_python())
def test_python_runs(page: Path, folder: Path):
    process = ChildProcess(run_python, page, folder, output=folder / "process")
    assert process.wait() == 0, process.stderr
    missing = set().union(*map(missing_packages, blocks(page, "python")))
    if missing:
        pytest.skip(f"all but the blocks that need {', '.join(sorted(missing))}: not installed")
