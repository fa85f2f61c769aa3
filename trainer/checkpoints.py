"""Checkpoints: one file each, whole or not there, with arrays by name and a JSON state."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from quickdraw_tfrecords import shards
from quickdraw_tfrecords.errors import DataError, UsageError

_STATE = "state"


class CheckpointFiles:
    """The checkpoints of one kind in one directory, the newest `keep` of them."""

    def __init__(self, directory: Path, *, keep: int) -> None:
        self._directory, self._keep = directory, keep

    def paths(self) -> list[Path]:
        """The checkpoints there are, oldest first."""
        return sorted(self._directory.glob("step-*.npz"))

    def save(self, step: int, arrays: Mapping[str, np.ndarray], state: dict[str, Any]) -> Path:
        """Writes a checkpoint, then deletes those that are too many.

        Args:
          step: Number of steps taken.
          arrays: By name.
          state: JSON values.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        for leftover in self._directory.glob(".*.tmp"):
            leftover.unlink()
        path = self._directory / f"step-{step:010d}.npz"
        with shards.whole_file(path) as file:
            np.savez(file, **{_STATE: np.array(json.dumps(state)), **arrays})
        for old in self.paths()[: -self._keep]:
            old.unlink()
        return path

    def newest(self) -> Path | None:
        """The newest checkpoint, if there is one."""
        paths = self.paths()
        return paths[-1] if paths else None


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the state of a checkpoint.

    Raises:
      DataError: It is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return arrays, json.loads(str(arrays.pop(_STATE)))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a whole checkpoint ({error}); delete it") from None


def restore(variables: Mapping[str, Any], arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Assigns arrays to variables of the same names.

    Raises:
      DataError: A name is missing on either side, or a shape differs.
    """
    for name in sorted(variables.keys() ^ arrays.keys()):
        where = "model" if name in arrays else "checkpoint"
        raise DataError(f"{path}: {name!r} is not in the {where}: it is another model's")
    for name, variable in variables.items():
        if tuple(variable.shape) != arrays[name].shape:
            raise DataError(
                f"{path}: {name!r} is {arrays[name].shape}, the model's is {variable.shape}"
            )
        variable.assign(arrays[name])


def require_same(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuses to resume a run that the flags would change.

    Raises:
      UsageError: Names every flag that differs.
    """
    differences = [
        f"--{name} was {found.get(name)!r}, is {wanted[name]!r}"
        for name in wanted
        if found.get(name) != wanted[name]
    ]
    if differences:
        raise UsageError(
            f"cannot resume from {path}: {'; '.join(differences)}. Put the flags back, choose "
            "another --run_dir, or begin anew with --resume=never"
        )


def find(path: Path) -> Path:
    """The checkpoint a path means: a file, or a run directory's best or latest one.

    Raises:
      UsageError: There is none.
    """
    if path.is_file():
        return path
    kinds: Sequence[Path] = (path / "checkpoints" / "best", path / "checkpoints" / "latest", path)
    for directory in kinds:
        if newest := CheckpointFiles(directory, keep=1).newest():
            return newest
    raise UsageError(f"{path}: no checkpoint is there")
