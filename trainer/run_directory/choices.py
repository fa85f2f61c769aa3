"""Which objects of a run directory a command needs, where that is in an object store."""

import functools
from collections.abc import Callable, Collection

from quickdraw_tfrecords.base.leases import LEASE_NAME
from trainer.run_directory import checkpoints

RUN, HISTORY = "run.json", "history.csv"
LATEST = "checkpoints/latest/"
LISTED = (HISTORY, LEASE_NAME, "evaluation/test/metrics.json")

_BEST = "checkpoints/best/"

Names = Collection[str]


def to_go_on(names: Names) -> list[str]:
    """All that a run which goes on may read, or delete."""
    return [name for name in names if not name.startswith(("export/", "."))]


def to_resume(names: Names) -> list[str]:
    """What a worker needs that writes nothing."""
    return [name for name in names if name.startswith(LATEST)]


def to_list(names: Names) -> list[str]:
    """What tells how far a run has come, but checkpoints."""
    return [name for name in names if name in (RUN, *LISTED)]


def to_use(*also: str) -> Callable[[Names], list[str]]:
    """What a run is, its weights to use, and files or folders more."""
    return functools.partial(_to_use, also=also)


def _to_use(names: Names, also: tuple[str, ...]) -> list[str]:
    return [name for name in names if name == RUN or name.startswith(also)] + weights(names)


def weights(names: Names) -> list[str]:
    """The checkpoint to use: the best, or else the latest, or else that of a plain folder."""
    return next(filter(None, (newest(names, folder) for folder in (_BEST, LATEST, ""))), [])


def newest_of_both(names: Names) -> list[str]:
    """The newest checkpoint of either kind, whose name and state say how far a run has come."""
    return newest(names, _BEST) + newest(names, LATEST)


def newest(names: Names, folder: str) -> list[str]:
    """The newest checkpoint in a folder, if there is one."""
    inside = [name for name in names if checkpoints.is_name(name, folder)]
    return sorted(inside, key=lambda name: (len(name), name))[-1:]
