"""The study over again, with few drawings from a server on loopback."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.sources.synthetic import SyntheticSource
from tests.quickdraw_tfrecords.sources.test_download import Server
from tools import study
from tools.study import Training

ROOT = Path(__file__).parents[2]
CLASSES = ("airplane", "cat", "zigzag")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "served"
    folder.mkdir()
    source = SyntheticSource(CLASSES, seed=1)
    for label, name in enumerate(CLASSES):
        np.save(folder / f"{name}.npy", source.read(label, np.arange(300)))
    server = Server(folder)
    yield server
    server.close()


def _run(server: Server, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [
        sys.executable, "-m", "tools.study", f"--data_dir={tmp_path}/data",
        f"--out_dir={tmp_path}/runs", f"--base_url={server.url}", f"--classes={','.join(CLASSES)}",
        "--per_class=200", *arguments,
    ]  # fmt: skip
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_all_of_it_and_what_is_done_is_not_done_again(tmp_path, server):
    for name, rate in (("first", 1e-3), ("second", 3e-3)):
        text = f"--model=compact_cnn\n--batch_size=32\n--learning_rate={rate}\n"
        (tmp_path / f"{name}.flags").write_text(text)
    flagfiles = f"--flagfiles={tmp_path}/first.flags,{tmp_path}/second.flags"
    arguments = (flagfiles, "--train_flags=--epochs=1 --noreport")
    result = _run(server, tmp_path, *arguments)
    assert result.returncode == 0, result.stderr
    said = result.stdout
    assert "to download: 0.00 GB, 200 drawings of 3 classes" in said
    assert re.search(r"first: 1 epochs in \d+ s", said)
    assert re.search(r"to share: quickdraw-tfrecords .* 120 test drawings, top-1: first 0\.", said)
    page = (tmp_path / "runs" / "index.html").read_text()
    assert "the study of 2019" in page
    assert "0.719" in page
    requests = len(server.ranges)
    again = _run(server, tmp_path, *arguments)
    assert again.returncode == 0, again.stderr
    assert len(server.ranges) == requests
    assert "epochs in" not in again.stdout
    assert again.stdout.splitlines()[-1] == said.splitlines()[-1]


def test_a_mistake_in_a_flag_is_found_before_anything_is_downloaded(tmp_path, server):
    result = _run(server, tmp_path, "--flagfiles=fast", "--train_flags=--epochs=none")
    assert result.returncode == 2
    assert "fast: flag --epochs=none" in result.stderr
    assert not server.ranges


@pytest.mark.slow
def test_a_part_that_fails_is_named(tmp_path, server):
    (tmp_path / "own.flags").write_text("--model=compact_cnn\n--init_from=nothing\n")
    result = _run(server, tmp_path, f"--flagfiles={tmp_path}/own.flags")
    assert result.returncode == 1
    assert "error: --init_from=nothing: no checkpoint is there" in result.stderr
    assert "error: trainer ended with exit code 2; the same command goes on" in result.stderr


def test_a_flagfile_that_is_none_is_named():
    with pytest.raises(UsageError, match="--flagfiles=slow: neither a file nor a flagfile"):
        study._path("slow")


def test_settings_are_those_of_the_flagfile_and_of_what_was_added():
    arguments = (f"--flagfile={study._path('study_2019')}", "--epochs=3")
    config = study._config(Training("study_2019", Path("runs"), arguments))
    assert (config.model, config.batch_size, config.epochs) == ("study_cnn", 1024, 3)
