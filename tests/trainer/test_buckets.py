"""Runs in a bucket: trained, killed, and resumed, by processes that share nothing else."""

import functools
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import trainer as api
from quickdraw_tfrecords.base.store_kinds import open_backend
from quickdraw_tfrecords.base.stores import Store, open_store
from tests.object_store import ObjectStore
from tests.processes import ChildProcess, free_ports, train
from tests.trained import make_run
from trainer import console
from trainer.config import Config
from trainer.run_directory import checkpoints
from trainer.run_directory.working_copy import WorkingCopy
from trainer.training.steps import TrainSteps

FLAGS = (
    "--model=compact_cnn", "--batch_size=48", "--epochs=2", "--precision=float32",
    "--deterministic", "--checkpoint_every_steps=5", "--ema=0.8", "--augment=shift",
)  # fmt: skip


class Trainer:
    """Starts trainers, whose runs and data set are in a bucket."""

    def __init__(self, object_store: ObjectStore, tmp_path: Path, data_dir: Path) -> None:
        self._tmp_path, self._count = tmp_path, 0
        self.env = object_store.environment
        self.url = f"{object_store.url}/runs"
        data = open_store(f"{object_store.url}/data")
        for path in data_dir.rglob("*"):
            if path.is_file():
                data.write(str(path.relative_to(data_dir)), path)
        self._data = str(data)

    def start(
        self, run_dir: str, *flags: str, setup: Callable | None = None, **env: str
    ) -> ChildProcess:
        """One, with a folder for temporary files of its own."""
        self._count += 1
        own = self._tmp_path / f"machine{self._count}"
        own.mkdir()
        given = [f"--data_dir={self._data}", f"--run_dir={run_dir}", *FLAGS, *flags]
        env = {**self.env, "TMPDIR": str(own), **env}
        return ChildProcess(train, given, setup, output=own / "output", env=env)

    def finish(self, run_dir: str, *flags: str, code: int = 0, **kwargs) -> ChildProcess:
        process = self.start(run_dir, *flags, **kwargs)
        finish(process, code)
        return process

    def store(self, name: str) -> Store:
        return open_store(f"{self.url}/{name}")


@pytest.fixture
def trainer(object_store, tmp_path, data_dir) -> Trainer:
    return Trainer(object_store, tmp_path, data_dir)


@pytest.fixture
def any_trainer(any_object_store, tmp_path, data_dir) -> Trainer:
    return Trainer(any_object_store, tmp_path, data_dir)


def finish(process: ChildProcess, code: int = 0) -> None:
    assert process.wait() == code, process.stderr
    assert "Traceback" not in process.stderr


def latest(store: Store) -> tuple[dict[str, np.ndarray], list[dict[str, float]]]:
    """The arrays of the last checkpoint, and the history in it, but for times."""
    copy = WorkingCopy(store)
    copy.pull(list)
    arrays, state = checkpoints.read(checkpoints.latest(copy.directory, keep=1).newest())
    times = ("seconds", "examples_per_second")
    rows = [
        {k: v for k, v in row.items() if k not in times} for row in state["progress"]["history"]
    ]
    return arrays, rows


def assert_same(found: Store, expected: Store) -> None:
    (arrays, history), (expected_arrays, expected_history) = latest(found), latest(expected)
    assert arrays.keys() == expected_arrays.keys()
    for name, array in expected_arrays.items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)
    assert history == expected_history


def killed_in_epoch_2(run_dir: str) -> None:
    """In the middle of the second epoch, once a checkpoint of this epoch is in the bucket."""
    original = TrainSteps.run

    def run_steps(self, *arguments):
        original(self, *arguments)
        if self.step.numpy() >= 24:
            store = open_store(run_dir)
            while not any("latest/step-0000000020" in name for name in store.entries()):
                pass
            os.kill(os.getpid(), signal.SIGKILL)

    TrainSteps.run = run_steps


@pytest.mark.slow
def test_a_run_that_was_killed_resumes_from_the_bucket(any_trainer):
    any_trainer.finish(f"{any_trainer.url}/undisturbed")
    disturbed = f"{any_trainer.url}/disturbed"
    any_trainer.finish(
        disturbed, code=-signal.SIGKILL, setup=functools.partial(killed_in_epoch_2, disturbed)
    )
    resumed = any_trainer.finish(disturbed)
    assert "resuming at epoch 2, step 5" in resumed.stdout
    assert_same(any_trainer.store("disturbed"), any_trainer.store("undisturbed"))
    names = set(any_trainer.store("disturbed").entries())
    assert {"run.json", "flags.txt", "history.csv", "evaluation/test/metrics.json"} <= names
    assert any("events.out.tfevents" in name for name in names)
    assert ".lease" not in names
    again = any_trainer.finish(disturbed)
    assert "trained already, for 2 epochs" in again.stdout


def start_two(trainer: Trainer, name: str, setups=(None, None)) -> list[ChildProcess]:
    workers = [f"localhost:{port}" for port in free_ports(2)]
    return [
        trainer.start(
            f"{trainer.url}/{name}",
            "--strategy=multi_worker",
            setup=setup,
            TF_CONFIG=json.dumps(
                {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
            ),
        )
        for index, setup in enumerate(setups)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_two_workers_that_share_only_a_bucket(trainer, killed):
    for process in start_two(trainer, "undisturbed"):
        finish(process)
    setups = [None, None]
    setups[killed] = functools.partial(killed_in_epoch_2, f"{trainer.url}/disturbed")
    processes = start_two(trainer, "disturbed", setups)
    assert processes[killed].wait() == -signal.SIGKILL
    finish(processes[1 - killed], code=1)
    processes = start_two(trainer, "disturbed")
    for process in processes:
        finish(process)
    assert "resuming at epoch 2, step" in processes[0].stdout
    assert "epoch" not in processes[1].stdout
    assert_same(trainer.store("disturbed"), trainer.store("undisturbed"))


def test_credentials_of_a_url_are_in_nothing_that_is_left_or_said(
    object_store, tmp_path, data_dir, monkeypatch, capfd
):
    """A run that is stopped after an epoch, and resumed, in this process."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    open_backend.cache_clear()
    bucket = object_store.url.removeprefix("s3://")
    url = f"s3://an-access-key:a-secret-key@{bucket}/runs/1"
    config = Config(
        data_dir=data_dir, run_dir=url, model="compact_cnn", epochs=2, batch_size=64,
        precision="float32", train_split="train[:20%]", report=False,
    )  # fmt: skip

    def stop(_: object) -> None:
        raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        api.train(config, [stop])
    assert set(api.train(config)) == {"loss", "top1", "top3"}
    assert len(api.open_run(url).history()) == 2
    said = "".join(capfd.readouterr())
    assert "resuming at epoch 2, step 0" in said
    left = {name: open_store(url).read(name) for name in open_store(url).entries()}
    assert {"run.json", "flags.txt", "history.csv"} <= left.keys()
    assert json.loads(left["run.json"])["flags"]["run_dir"] == f"s3://{bucket}/runs/1"
    for secret in ("an-access-key", "a-secret-key"):
        assert secret not in said
        assert [name for name, data in left.items() if secret.encode() in data] == []


def call(words: list[str]) -> None:
    """`quickdraw WORDS...`"""
    sys.argv = ["quickdraw", *words]
    console.main()


@pytest.mark.slow
def test_commands_say_of_a_run_in_a_bucket_what_they_say_of_its_folder(
    object_store, tmp_path, data_dir
):
    local = make_run(tmp_path / "runs" / "one", data_dir).directory
    other = make_run(tmp_path / "runs" / "two", data_dir, seed=1).directory
    store = open_store(f"{object_store.url}/runs")
    for path in (tmp_path / "runs").rglob("*.*"):
        store.write(str(path.relative_to(tmp_path / "runs")), path)
    Image.fromarray(255 - 255 * np.eye(28, dtype=np.uint8)).save(tmp_path / "cat.png")

    def both(command: str, *flags: str) -> list[ChildProcess]:
        """The processes of a command on either; {} is the folder of runs."""
        processes = []
        for folder in (str(tmp_path / "runs"), str(store)):
            words = [command, *(flag.format(folder) for flag in flags)]
            output, env = tmp_path / f"output{len(processes)}", object_store.environment
            processes.append(ChildProcess(call, words, output=output, env=env))
            finish(processes[-1])
        return processes

    def assert_same_words(command: str, *flags: str) -> None:
        ours, theirs = both(command, *flags)
        assert theirs.stdout.replace(str(store), "") == ours.stdout.replace(f"{tmp_path}/runs", "")

    assert_same_words("evaluate", "--run_dir={}/one")
    assert_same_words("evaluate", "--run_dirs={0}/one,{0}/two")
    assert_same_words("predict", "--run_dir={}/one", str(tmp_path / "cat.png"))
    assert_same_words("report", "--run_dir={}/one")
    assert_same_words("export", "--run_dir={}/one", "--format=keras")
    assert_same_words("compare", "--run_dirs={0}/one,{0}/two")
    assert_same_words("runs", "{}", "--json")
    found = {
        name
        for name in store.entries()
        if "tfevents" not in name  # which have the host and the time in their names
    }
    expected = {
        str(path.relative_to(tmp_path / "runs"))
        for folder in (local, other)
        for path in folder.rglob("*")
        if path.is_file() and "tfevents" not in path.name and not path.name.startswith(".")
    }
    assert found == expected
    both("report", "--run_dir={}/one", f"--out_dir={tmp_path / 'out'}")
    assert (tmp_path / "out" / "report" / "index.html").exists()
