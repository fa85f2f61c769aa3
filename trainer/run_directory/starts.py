"""What a run begins with: a checkpoint of its own to resume from, or another's weights."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.stores import Location, Store
from trainer.config import Config
from trainer.run_directory import checkpoints, choices
from trainer.run_directory.working_copy import WorkingCopy

_SUFFIX, _FLAG = ".npz", "--init_from="


def require(config: Config) -> None:
    """Refuses a run that cannot begin as it is asked to; needs no TensorFlow.

    Raises:
      UsageError: A checkpoint that is needed is not there.
    """
    if config.resume != "must" and not config.init_from:
        return
    has_checkpoint = _has_latest(config.run_dir)
    if config.resume == "must" and not has_checkpoint:
        raise UsageError(f"--resume=must, but {config.run_dir} has no checkpoint")
    if config.init_from and (config.resume == "never" or not has_checkpoint):
        _require_weights(config.init_from)


@contextlib.contextmanager
def weights(location: Location) -> Iterator[Path]:
    """The checkpoint that --init_from means, as a file on this machine.

    Raises:
      UsageError: There is none.
    """
    if isinstance(location, Store):
        _require_weights(location)
        copy = WorkingCopy(location)
        if location.name.endswith(_SUFFIX):
            path = copy.directory / location.name
            path.write_bytes(location.read(""))
            yield path
        else:
            copy.pull(choices.weights)
            yield checkpoints.find(copy.directory)
    else:
        yield checkpoints.find(location, _FLAG)


def _has_latest(location: Location) -> bool:
    if isinstance(location, Store):
        return bool(choices.to_resume(list(location.entries())))
    return checkpoints.latest(location, keep=1).newest() is not None


def _require_weights(location: Location) -> None:
    if not isinstance(location, Store):
        checkpoints.find(location, _FLAG)
        return
    is_file = location.name.endswith(_SUFFIX)
    if not (location.entry("") if is_file else choices.weights(list(location.entries()))):
        raise UsageError(f"{_FLAG}{location}: no checkpoint is there")
