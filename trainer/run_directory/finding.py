"""Runs that are named by folders, patterns, and URLs, opened as far as it takes to list them."""

from collections.abc import Sequence
from pathlib import Path

from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.stores import Location, Store, is_url, open_store
from trainer.run_directory import choices, runs, status
from trainer.run_directory.runs import TrainedRun


def find(places: Sequence[str], flag: str) -> list[Location]:
    """The runs that are named, on this machine and in object stores.

    Args:
      places: Run directories, and folders of such at any depth; on this machine also patterns.
      flag: What they were given as, for the error.

    Returns:
      Each once, in the order of places, and by name where one of these holds several.

    Raises:
      UsageError: A place holds none.
    """
    found: dict[str, Location] = {}
    for place in places:
        for run in _in_place(place, flag):
            found.setdefault(str(run.resolve() if isinstance(run, Path) else run), run)
    return list(found.values())


def open_listed(location: Location) -> TrainedRun:
    """A run with all that `status.of` asks for, of checkpoints the state alone."""
    return _with_states(runs.open_run(location, choose=choices.to_list))


def open_whole(location: Location, split: str) -> TrainedRun:
    """A run with its weights, its results on a split, and all that `status.of` asks for."""
    choose = choices.to_use(*choices.LISTED, f"evaluation/{split}/")
    return _with_states(runs.open_run(location, choose=choose))


def _with_states(run: TrainedRun) -> TrainedRun:
    if run.copy:
        run.copy.pull_ends(choices.newest_of_both)
    return run


def _in_place(place: str, flag: str) -> Sequence[Location]:
    return _in_store(open_store(place), flag) if is_url(place) else status.find([place], flag)


def _in_store(store: Store, flag: str) -> list[Store]:
    folders = sorted(
        name.removesuffix(runs.FILE_NAME).removesuffix("/")
        for name in store.entries()
        if name == runs.FILE_NAME or name.endswith(f"/{runs.FILE_NAME}")
    )
    if not folders:
        raise UsageError(f"{flag}{store}: no run is there; a run has a {runs.FILE_NAME}")
    return [store / folder if folder else store for folder in folders]
