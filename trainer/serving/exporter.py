"""Exports a run: writes a format, and compares what was written with the model.

An export takes uint8 images, gives probabilities and has the class names inside. It is run
before it appears under its name, beside the model, on drawings of the test split: unless both
name the same class, or an int8 model is nearly as often right, what was there stays.
"""

import contextlib
import dataclasses
import functools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.files import delete_leftovers, sync_to_disk
from quickdraw_tfrecords.reading import drawings
from quickdraw_tfrecords.reading.dataset import DatasetInfo
from trainer.run_directory.runs import TrainedRun
from trainer.serving import formats, readme
from trainer.serving.classifier import Classifier
from trainer.serving.formats import Format, Predict
from trainer.serving.web import page

_MIN_SAME = 0.999  # of the drawings must be given the same class
_MAX_LOSS = 0.02  # of top-1 by int8
_COMPARED = 50_000  # drawings at most; somewhat more than it takes to see 0.1 %
_REPRESENTATIVE = 512  # drawings to scale int8 by
_BATCH_SIZE = 256


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How an export compares with the model it was made from.

    Attributes:
      drawings: Number of drawings that both were asked about.
      same: How many of them both gave the same class.
      largest_difference: Of any probability of any drawing.
      model_top1: Share of drawings that the model is right on.
      export_top1: Share of drawings that the export is right on.
    """

    drawings: int
    same: int
    largest_difference: float
    model_top1: float
    export_top1: float

    @classmethod
    def of(
        cls,
        model: NDArray[np.float32],
        export: NDArray[np.float32],
        labels: NDArray[np.int32],
    ) -> "Agreement":
        """Compares probabilities, float32[n, classes] each, by the labels, int32[n]."""
        model_classes, export_classes = model.argmax(axis=1), export.argmax(axis=1)
        return cls(
            drawings=len(labels),
            same=int((model_classes == export_classes).sum()),
            largest_difference=float(np.abs(model - export).max()),
            model_top1=float((model_classes == labels).mean()),
            export_top1=float((export_classes == labels).mean()),
        )

    def __str__(self) -> str:
        return (
            f"the same class as the model's on {self.same:,} of {self.drawings:,} drawings of the "
            f"test split ({self.same / self.drawings:.2%}); largest difference of a probability "
            f"{self.largest_difference:.1e}; top-1 {self.model_top1:.4f} -> {self.export_top1:.4f}"
            f" ({self.export_top1 - self.model_top1:+.4f})"
        )

    def require(self, name: str, *, is_exact: bool) -> None:
        """Refuses an export that is too far from the model.

        Raises:
          DataError: It is, or either gives probabilities that are no numbers.
        """
        if np.isnan(self.largest_difference):
            raise DataError(f"{name}: not exported: it or the model gives NaN for a drawing")
        loss = self.model_top1 - self.export_top1
        if is_exact and not self.same >= _MIN_SAME * self.drawings:
            raise DataError(f"{name}: not exported: {self}; at least {_MIN_SAME:.1%} are required")
        if not is_exact and not loss <= _MAX_LOSS:
            raise DataError(f"{name}: not exported: {self}; at most {_MAX_LOSS} may be lost")


def export(run: TrainedRun, name: str, *, runtime_dir: Path | None = None) -> None:
    """Writes what a format consists of, compares it with the model, and prints how it does.

    Args:
      run: What to export.
      name: A format's, see `trainer.serving.formats`, or "web".
      runtime_dir: Of the format "web": see `runtime.write`.

    Raises:
      UsageError: The run has no checkpoint, or the format needs a package that is missing.
      DataError: The run is damaged, its data set is not there, or an export is not like the
        model.
    """
    step = int(run.checkpoint().stem.removeprefix("step-"))
    classifier = Classifier.of(run)
    info = run.open_dataset()
    representative, _ = _read(info, "train", _REPRESENTATIVE)
    images, labels = _read(info, "test", _COMPARED)
    probabilities = classifier(images)
    directory = run.out_dir / "export"
    web = functools.partial(
        page.write, title=run.name, credit=str(info.credit), runtime_dir=runtime_dir
    )
    delete_leftovers(directory)
    for written in {**formats.FORMATS, "web": (Format("web", web, page.load),)}[name]:
        path = directory / written.path.format(step=step)
        with _published(path) as temporary:
            written.write(classifier, representative, temporary)
            exported = _run(written.load(temporary), images)
            agreement = Agreement.of(probabilities, exported, labels)
            agreement.require(run.shown(path), is_exact=written.is_exact)
        print(f"{run.shown(path)}  {_size_bytes(path) / 2**20:.1f} MiB\n  {agreement}")
    readme.write(directory, run.results("export/"), classifier)


def _read(info: DatasetInfo, split: str, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """The first drawings of a split, uint8[n, side, side], and their labels, int32[n].

    The order on disk is a seeded permutation, so they are a fair sample.
    """
    if not info.num_examples[split]:
        raise DataError(
            f"{info.directory}: its split {split} is empty, and an export is tried on it"
        )
    images, labels = [], []
    for part in drawings.read_all(info, split):
        images.append(part.images)
        labels.append(part.labels)
        if sum(map(len, labels)) >= count:
            break
    return np.concatenate(images)[:count], np.concatenate(labels)[:count]


def _run(predict: Predict, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    starts = range(0, len(images), _BATCH_SIZE)
    return np.concatenate([predict(images[start : start + _BATCH_SIZE]) for start in starts])


@contextlib.contextmanager
def _published(path: Path) -> Iterator[Path]:
    """A name to write a file or a directory to, which then appears as `path`, atomically."""
    for leftover in path.parent.glob(".*.tmp"):
        shutil.rmtree(leftover)
    temporary = path.parent / f".{os.getpid()}.tmp" / path.name
    temporary.parent.mkdir(parents=True)
    try:
        yield temporary
        for each in [temporary, *temporary.rglob("*")]:
            sync_to_disk(each)
        if path.is_dir():
            path.rename(temporary.parent / "old")
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary.parent)


def _size_bytes(path: Path) -> int:
    files = [path, *path.rglob("*")]
    return sum(file.stat().st_size for file in files if file.is_file())
