"""What reads a run directory: its checkpoints, kept predictions, and facts."""

import json
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tools.fuzzing.files import to_npy, to_zip
from tools.fuzzing.mutations import mutate_bytes, mutate_json
from trainer.run_directory import archives, checkpoints, runs

_HISTORY = b"epoch,train_loss,validation_loss\n1,0.5,0.25\n2,nan,inf\n"


class Checkpoint:
    """Checkpoints, kept predictions, and whatever else is an archive of the trainer's."""

    def __init__(self, scratch: Path) -> None:
        self._path = scratch / "step-0000000001.npz"
        self._state = {
            "run": {"--cache": "none"},
            "progress": {"epoch": 3, "history": [{"a": 1.5}]},
        }
        self._arrays: dict[str, Any] = {
            "a": np.arange(9.0),
            "b": np.float32(3),
            "c": np.zeros((0, 4), np.int32),
        }

    def make(self, numbers: random.Random) -> bytes:
        """Damages a state, a member, or the archive."""
        state = self._state if numbers.random() < 0.5 else mutate_json(numbers, self._state)
        arrays = {"state": np.array(json.dumps(state)), **self._arrays}
        members = [(f"{name}.npy", to_npy(array)) for name, array in arrays.items()]
        if numbers.random() < 0.5:
            members = _mutate_members(numbers, members)
        method = numbers.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
        data = to_zip(members, method)
        return mutate_bytes(numbers, data) if numbers.random() < 0.5 else data

    def run(self, data: bytes) -> None:
        """Reads it as a checkpoint."""
        self._path.write_bytes(data)
        archives.read(self._path)
        _, state = checkpoints.read(self._path)
        checkpoints.epoch(self._path, state)


class RunFacts:
    """`run.json` and `history.csv` of a run directory."""

    def __init__(self, scratch: Path) -> None:
        self._folder = scratch
        self._fields = {
            "flags": {"data_dir": "d", "run_dir": "r", "epochs": 3, "augment": ["shift"]},
            "precision": "float32", "devices": "1 x CPU", "class_names": ["cat", "tree"],
            "side": 28, "data_dir": "/data", "fingerprint": "01234567",
            "num_examples": {"train": 10}, "versions": {"python": "3.11"},
        }  # fmt: skip

    def make(self, numbers: random.Random) -> bytes:
        """The facts, an empty line, and a history."""
        data = json.dumps(mutate_json(numbers, self._fields)).encode()
        if numbers.random() < 0.3:
            data = mutate_bytes(numbers, data)
        return data + b"\n\n" + mutate_bytes(numbers, _HISTORY)

    def run(self, data: bytes) -> None:
        """Opens the run, and reads its history."""
        facts, _, history = data.partition(b"\n\n")
        (self._folder / runs.FILE_NAME).write_bytes(facts)
        (self._folder / "history.csv").write_bytes(history)
        run = runs.open_run(self._folder)
        assert run.name
        run.history()


def _mutate_members(
    numbers: random.Random, members: list[tuple[str, bytes]]
) -> list[tuple[str, bytes]]:
    """Members with one of them damaged, repeated, or gone."""
    place = numbers.randrange(len(members))
    name, data = members[place]
    changed = numbers.choice(([], [members[place]] * 2, [(name, mutate_bytes(numbers, data))]))
    return [*members[:place], *changed, *members[place + 1 :]]
