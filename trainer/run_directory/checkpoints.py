"""Checkpoints: one file each, written atomically, with arrays by name and a JSON state."""

import collections
import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.files import atomic_write, delete_leftovers
from quickdraw_tfrecords.base.json_values import JsonValue
from trainer.run_directory import archives

Arrays = dict[str, NDArray[Any]]
State = dict[str, Any]

_STATE = "state"

# Variables that Keras numbers over all models of a process: those of dropout, and one of Nadam.
# Some of Adafactor's it does not number at all.
_NUMBERED = re.compile(r"(?:.*/(?=seed))?(seed_generator_state|variable)(?:_\d+)?")

_FILE_NAME = re.compile(r"step-(\d{10,})\.npz")


class CheckpointFiles:
    """The checkpoints of one kind in one directory, the newest `keep` of them."""

    def __init__(self, directory: Path, *, keep: int) -> None:
        self._directory, self._keep = directory, keep

    def paths(self) -> list[Path]:
        """The checkpoints there are, oldest first."""
        found = [path for path in self._directory.glob("step-*") if _FILE_NAME.fullmatch(path.name)]
        return sorted(found, key=step_of)

    def save(self, step: int, arrays: Mapping[str, NDArray[Any]], state: State) -> Path:
        """Writes a checkpoint.

        Args:
          step: Number of steps taken.
          arrays: By name.
          state: JSON values.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        delete_leftovers(self._directory)
        path = self._directory / f"step-{step:010d}.npz"
        with atomic_write(path) as file:
            members: dict[str, Any] = {_STATE: np.array(json.dumps(state)), **arrays}
            np.savez(file, **members)
        return path

    def prune(self) -> None:
        """Deletes all but the newest `keep`."""
        for old in self.paths()[: -self._keep]:
            _delete(old)

    def delete_after(self, step: int) -> None:
        """Deletes the checkpoints of later steps."""
        for path in self.paths():
            if step_of(path) > step:
                _delete(path)

    def read_newest(
        self, warn: Callable[[str], None], require: Callable[[JsonValue], None]
    ) -> tuple[Path, Arrays, State]:
        """The newest checkpoint that can be read, its arrays and its state.

        Args:
          warn: Called with a line for each newer one that cannot.
          require: Called with a state; raises a DataError for one that cannot be.

        Raises:
          DataError: None can; names the newest.
        """
        errors: list[DataError] = []
        for path in reversed(self.paths()):
            try:
                arrays, state = read(path)
                require(as_json(path, state))
            except DataError as error:
                errors.append(error)
                continue
            for damage in errors:
                warn(f"warning: {damage}; resuming from {path.name}, which is whole")
            return path, arrays, state
        raise DataError(f"{errors[0]}, and no older one is; begin anew with --resume=never")

    def newest(self) -> Path | None:
        """The newest checkpoint, if there is one."""
        paths = self.paths()
        return paths[-1] if paths else None


def latest(run_dir: Path, *, keep: int) -> CheckpointFiles:
    """A run's checkpoints to resume from."""
    return CheckpointFiles(run_dir / "checkpoints" / "latest", keep=keep)


def best(run_dir: Path, *, keep: int) -> CheckpointFiles:
    """A run's checkpoints to use, each the best at its time."""
    return CheckpointFiles(run_dir / "checkpoints" / "best", keep=keep)


def read(path: Path) -> tuple[Arrays, State]:
    """The arrays and the state of a checkpoint.

    Raises:
      DataError: It is damaged.
    """
    return _read(path, None)


def read_state(path: Path) -> State:
    """The state of a checkpoint alone; it may be large.

    Raises:
      DataError: It is damaged, as far as that can be seen.
    """
    return _read(path, _STATE)[1]


def _read(path: Path, only: str | None) -> tuple[Arrays, State]:
    try:
        arrays = archives.read(path, only)
        state = json.loads(str(arrays.pop(_STATE)))
        if not isinstance(state, dict):
            raise ValueError("its state is not an object")
        return arrays, state
    except (DataError, OSError, ValueError, KeyError, RecursionError) as error:
        raise DataError(f"{path}: not a whole checkpoint ({error})") from None


def as_json(path: Path, state: State) -> JsonValue:
    """A checkpoint's state, to be looked at without trusting it."""
    return JsonValue(state, str(path), "restore the checkpoint from a copy, or delete it")


def epoch(path: Path, state: State) -> int:
    """The number of epochs completed when a checkpoint was written; a best one counts its own.

    Raises:
      DataError: The state does not say.
    """
    found = as_json(path, state)
    return (found if "epoch" in state else found["progress"])["epoch"].whole()


def is_name(name: str, folder: str) -> bool:
    """Whether it is the name of a checkpoint in a folder, which ends with a slash or is empty."""
    return name.startswith(folder) and bool(_FILE_NAME.fullmatch(name.removeprefix(folder)))


def step_of(path: Path) -> int:
    """The number of steps taken when a checkpoint was written, as its name says."""
    return int(path.stem.removeprefix("step-"))


def _delete(path: Path) -> None:
    """Deletes a checkpoint; a directory in its place is moved aside, for it is not ours."""
    if path.is_dir() and not path.is_symlink():
        # Onto an empty directory, which is the way to a name that nobody else has.
        path.rename(tempfile.mkdtemp(prefix=f"not-a-checkpoint-{path.name}-", dir=path.parent))
    else:
        path.unlink()


def restore(variables: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], path: Path) -> None:
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


def restore_weights(variables: Sequence[Any], path: Path) -> State:
    """Gives a model its weights out of a checkpoint, which may hold much else.

    Returns:
      The checkpoint's state.

    Raises:
      DataError: The checkpoint is damaged, or another model's.
    """
    arrays, state = read(path)
    weights = named(variables)
    restore(weights, {name: arrays[name] for name in weights if name in arrays}, path)
    return state


def require_same(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuses to resume a run that the flags would change.

    Raises:
      UsageError: Names everything that differs.
    """
    differences = [
        f"{name} was {found.get(name)!r}, is {wanted[name]!r}"
        for name in wanted
        if found.get(name) != wanted[name]
    ]
    if differences:
        raise UsageError(
            f"cannot resume from {path}: {'; '.join(differences)}. Put that back, choose "
            "another --run_dir, or begin anew with --resume=never"
        )


def find(path: Path, flag: str = "") -> Path:
    """The checkpoint a path means: a file, or a run directory's best or latest one.

    Args:
      path: The path.
      flag: What it was given as, for the error.

    Raises:
      UsageError: There is none.
    """
    if path.is_file():
        return path
    for files in (best(path, keep=1), latest(path, keep=1), CheckpointFiles(path, keep=1)):
        if newest := files.newest():
            return newest
    raise UsageError(f"{flag}{path}: no checkpoint is there")


def named(variables: Sequence[Any]) -> dict[str, Any]:
    """Variables by name, the same in every process that builds the same model."""
    names: list[str] = []
    numbers: collections.Counter[str] = collections.Counter()
    for variable in variables:
        name = getattr(variable, "path", None) or variable.name.partition(":")[0]
        match = _NUMBERED.fullmatch(name)
        base = match[1] if match else name
        number, numbers[base] = numbers[base], numbers[base] + 1
        names.append(f"{base}_{number}" if match or number else base)
    if len(set(names)) != len(names):
        raise ValueError("two variables have one name: name the model's layers")
    return dict(zip(names, variables, strict=True))


def to_arrays(variables: Mapping[str, Any]) -> Arrays:
    """Copies of the values of variables, by the same names."""
    return {name: np.array(variable.numpy()) for name, variable in variables.items()}
