"""Runs that are named by folders, patterns, and URLs, opened as far as it takes to list them."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.stores import Location, Store, is_url, open_store
from trainer.run_directory import choices, runs
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
        store = open_store(place) if is_url(place) else None
        named = _in_store(store) if store else _in_folders(place)
        if not named:
            raise UsageError(
                f"{flag}{store or place}: no run is there; a run has a {runs.FILE_NAME}"
            )
        for run in named:
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


def _in_folders(place: str) -> list[Path]:
    """The runs in a folder at any depth, or in those that a pattern fits."""
    folders = [place] if Path(place).exists() else sorted(glob.glob(place))
    return [run for folder in folders for run in _in_folder(folder)]


def _in_folder(folder: str) -> Iterator[Path]:
    for directory, subdirectories, files in os.walk(folder):
        subdirectories.sort()
        if runs.FILE_NAME in files:
            subdirectories.clear()  # there is no run within a run
            yield Path(directory)


def _in_store(store: Store) -> list[Store]:
    folders = sorted(
        name.removesuffix(runs.FILE_NAME).removesuffix("/")
        for name in store.entries()
        if name == runs.FILE_NAME or name.endswith(f"/{runs.FILE_NAME}")
    )
    return [store / folder if folder else store for folder in folders]
