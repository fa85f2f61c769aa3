"""The wheel: what is in it, and that it does everything from an empty folder."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from quickdraw_tfrecords.base.version import __version__
from trainer.console import COMMANDS

ROOT = Path(__file__).parents[1]
PACKAGES = ("quickdraw_tfrecords", "trainer")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools would pick up what an earlier build left in the tree."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    out = source / "dist"
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", f"--outdir={out}"]
    subprocess.run([*command, source], check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def quickdraw(
    wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., subprocess.CompletedProcess]:
    """Runs the installed command in a folder that was empty."""
    site = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", f"--target={site}"]
    subprocess.run([*pip, wheel], check=True)
    folder = tmp_path_factory.mktemp("empty")

    def run(*arguments: str) -> subprocess.CompletedProcess:
        # Before the environment's own packages, where the project is installed as it stands.
        environment = os.environ | {"PYTHONPATH": str(site)}
        command = [site / "bin" / "quickdraw", *arguments]
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600
        )

    run.site, run.folder = site, folder
    return run


def test_it_holds_the_two_packages_and_what_they_need(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {*PACKAGES, f"quickdraw_tfrecords-{__version__}.dist-info"}
    files = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if "dist-info" not in name} == files
    assert {"trainer/flagfiles/study_2019.flags", "trainer/report/report.html"} < files
    assert {f"{package}/py.typed" for package in PACKAGES} < files


def test_it_converts_verifies_trains_and_predicts_from_an_empty_folder(quickdraw):
    source = ["--source=synthetic", "--classes=cat,tree", "--per_class=60", "--workers=1"]
    model = ["--flagfile=demo", "--epochs=1", "--warmup_epochs=0", "--batch_size=16"]
    for arguments, said in (
        (["convert", *source, "--data_dir=data"], "the data set is in data/quickdraw/1.0.0"),
        (["verify", "--data_dir=data"], "the data set is sound"),
        (["train", *model, "--data_dir=data", "--run_dir=run"], "test loss"),
    ):
        done = quickdraw(*arguments)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout
    np.save(quickdraw.folder / "blank.npy", np.zeros((2, 28, 28), np.uint8))
    done = quickdraw("predict", "--run_dir=run", "blank.npy")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "blank.npy[0]",
        "blank.npy[1]",
    ]


def test_the_command_lists_its_commands(quickdraw):
    done = quickdraw("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout
    assert quickdraw("--version").stdout == f"quickdraw {__version__}\n"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("confert", "did you mean 'convert'?"), ("fly", "`quickdraw --help` lists them")],
)
def test_an_unknown_command_is_one_line(quickdraw, name, hint):
    done = quickdraw(name)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: there is no command {name!r}; {hint}\n"


def test_what_runs_is_what_was_installed(quickdraw):
    program = "import quickdraw_tfrecords, trainer; print(quickdraw_tfrecords.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=quickdraw.folder,
        env=os.environ | {"PYTHONPATH": str(quickdraw.site)},
        capture_output=True,
        text=True,
    )
    assert Path(done.stdout.strip()).is_relative_to(quickdraw.site)
