"""A training run, opened after the fact: what it was, and the model it made.

The trainer leaves `run.json` in the run directory; with it and a checkpoint a run can be
evaluated, reported and exported where its data set is not.
"""

import csv
import dataclasses
import importlib.metadata
import json
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quickdraw_tfrecords.base import class_names, settings
from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.files import atomic_write, open_regular
from quickdraw_tfrecords.base.json_values import JsonValue
from quickdraw_tfrecords.base.stores import Location, Store, locate
from quickdraw_tfrecords.base.version import __version__
from quickdraw_tfrecords.format.records import MAX_SIDE
from quickdraw_tfrecords.reading.dataset import DatasetInfo
from trainer import models
from trainer.config import Config
from trainer.run_directory import checkpoints, choices
from trainer.run_directory.working_copy import WorkingCopy

if TYPE_CHECKING:
    import keras

FILE_NAME = choices.RUN

_PACKAGES = ("tensorflow", "keras", "numpy", "scikit-learn")


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A run directory.

    Attributes:
      directory: The run directory, on this machine.
      out_dir: Where results go, by default the same.
      copy: What `directory` is part of, if the run is in an object store.
      config: The run's settings, with nothing left to be decided.
      precision: The policy that was used, "mixed_bfloat16" for instance.
      devices: What it was trained on.
      class_names: The classes in label order.
      side: Height and width of a drawing in pixels.
      data_dir: The data set, as an absolute path.
      fingerprint: The data set's, see `DatasetInfo.fingerprint`.
      num_examples: Drawings of each split.
      versions: Of Python and the packages, by name.
    """

    directory: Path
    config: Config
    precision: str
    devices: str
    class_names: tuple[str, ...]
    side: int
    data_dir: Location
    fingerprint: str
    num_examples: Mapping[str, int]
    versions: Mapping[str, str]
    out_dir: Path
    copy: WorkingCopy | None = None

    @property
    def name(self) -> str:
        """The last part of the directory's path."""
        return self.directory.resolve().name

    def history(self) -> list[dict[str, float]]:
        """The rows of history.csv, one per epoch; none if no epoch was finished.

        Raises:
          DataError: The file is damaged.
        """
        return read_history(self.directory)

    def pull(self, *also: str) -> None:
        """Gets files or folders of a run in an object store, such as "evaluation/test/"."""
        if self.copy:
            self.copy.pull(choices.to_use(*also))

    def results(self, folder: str) -> set[str]:
        """The names of all files in a folder of results, such as "export/", without it.

        Of a run in an object store also those there, which need not have been pulled.

        Raises:
          DataError: There is no way to the store.
        """
        files = (path for path in (self.out_dir / folder).rglob("*") if path.is_file())
        names = {path.relative_to(self.out_dir).as_posix() for path in files}
        if self.copy and self.out_dir == self.directory:
            names |= self.copy.store.entries().keys()
        return {name.removeprefix(folder) for name in names if name.startswith(folder)}

    def publish(self) -> None:
        """Puts what was written since into the object store, if the run is in one.

        Raises:
          DataError: It cannot be written to.
        """
        if self.copy:
            try:
                self.copy.push()
            except DataError as error:
                remedy = "--out_dir=... names another place for the results"
                raise DataError(f"{error}; {remedy}") from None

    @property
    def where(self) -> str:
        """The run directory, as its user knows it."""
        return self.shown(self.directory)

    def shown(self, path: Path) -> str:
        """A file of the run, as its user knows it."""
        return self.copy.shown(str(path)) if self.copy else str(path)

    def open_dataset(self) -> DatasetInfo:
        """The data set that the run was trained on.

        Raises:
          DataError: It is no longer there, or another is.
        """
        try:
            info = self.config.open_dataset(self.data_dir)
        except DataError as error:
            raise DataError(
                f"{error}. {self.where} was trained on it; if it has moved, name it with "
                "--data_dir (of quickdraw evaluate, quickdraw report, quickdraw export)"
            ) from None
        if info.fingerprint != self.fingerprint:
            raise DataError(
                f"{self.data_dir}: is not the data set that {self.where} was trained on "
                f"(fingerprint {info.fingerprint}, was {self.fingerprint}): convert that again"
            )
        return info

    def checkpoint(self) -> Path:
        """The best checkpoint, or the latest if there is no best one yet.

        Raises:
          UsageError: The run has no checkpoint yet.
        """
        return checkpoints.find(self.directory)

    def with_tta(self, tta: str | None) -> "TrainedRun":
        """The same run, whose model has another test-time augmentation; None: its own."""
        return dataclasses.replace(self, config=self.config.with_decided(tta=tta)) if tta else self

    def load_model(self, policy: str = "float32") -> "keras.Model":
        """The model with the weights of `checkpoint`, and with the run's --tta.

        It takes float32[n, side, side, 1] in [0, 1] and gives logits, float32[n, classes].

        Args:
          policy: The dtype policy that it computes with.

        Raises:
          UsageError: The run has no checkpoint yet, or its model is no longer known.
          DataError: The checkpoint is damaged or of another model.
        """
        path = self.checkpoint()
        with models.dtype_policy(policy):
            model = models.get(self.config.model)(
                side=self.side, num_classes=len(self.class_names), dropout=self.config.dropout
            )
        checkpoints.restore_weights(model.variables, path)
        if self.config.tta == "none":
            return model
        from trainer import mirroring  # with it comes TensorFlow, which few readers of runs need

        allowed = mirroring.flippable(self.class_names, self.config.flip_classes)
        return mirroring.AverageWithMirrored(model, allowed)


def read_history(run_dir: Path) -> list[dict[str, float]]:
    """The rows of history.csv, one per epoch; none if no epoch was finished.

    Raises:
      DataError: The file is damaged.
    """
    path = run_dir / choices.HISTORY
    if not path.exists():
        return []
    try:
        with open(path, newline="") as file:
            rows = [{key: float(row[key]) for key in row} for row in csv.DictReader(file)]
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: not a history of the trainer: {error}") from None
    return rows


def describe(
    config: Config, info: DatasetInfo, *, directory: Path, precision: str, devices: str
) -> TrainedRun:
    """What is to be remembered of a run that begins."""
    return TrainedRun(
        directory=directory,
        config=config,
        precision=precision,
        devices=devices,
        class_names=info.class_names,
        side=info.side,
        data_dir=config.data_dir.resolve(),
        fingerprint=info.fingerprint,
        num_examples=dict(info.num_examples),
        versions={"python": platform.python_version(), "quickdraw-tfrecords": __version__}
        | {package: importlib.metadata.version(package) for package in _PACKAGES},
        out_dir=directory,
    )


def write(run: TrainedRun) -> None:
    """Writes `run.json` into the run directory, atomically."""
    facts = _fields(run)
    del facts["directory"], facts["out_dir"], facts["copy"]
    facts = {"flags": _fields(facts.pop("config")), **facts}
    run.directory.mkdir(parents=True, exist_ok=True)
    with atomic_write(run.directory / FILE_NAME) as file:
        text = json.dumps(facts, indent=1, ensure_ascii=False, default=str)  # paths and URLs
        file.write(f"{text}\n".encode())


def _fields(value: Any) -> dict[str, Any]:
    """The fields of a dataclass as they are, without copies: not of all there can be one."""
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def exists(run_dir: Location) -> bool:
    """Whether the trainer has begun a run there."""
    if isinstance(run_dir, Store):
        return run_dir.entry(FILE_NAME) is not None
    return (run_dir / FILE_NAME).exists()


def open_run(
    run_dir: Location,
    data_dir: Location | None = None,
    out_dir: Path | None = None,
    choose: Callable[[choices.Names], choices.Names] = choices.to_use(),  # noqa: B008, pure
) -> TrainedRun:
    """Opens a run directory.

    Args:
      run_dir: The directory.
      data_dir: Where the run's data set is now, if it has moved.
      out_dir: Where results go, if not there.
      choose: What of it is needed, if it is in an object store.

    Raises:
      UsageError: It is not there, or the trainer has not begun a run in it.
      DataError: Its `run.json` is damaged.
    """
    if not exists(run_dir):
        raise UsageError(
            f"--run_dir={run_dir}: holds no {FILE_NAME}; name a folder that "
            "`quickdraw train --run_dir=...` has made"
        )
    copy = WorkingCopy(run_dir) if isinstance(run_dir, Store) else None
    if copy:
        copy.pull(choose)
    directory = copy.directory if copy else Path(str(run_dir))
    path = directory / FILE_NAME
    remedy = "damaged, or another version's; the trainer writes it anew when the run resumes"
    with open_regular(path) as file:
        facts = JsonValue.parse(file.read(), str(path), remedy=remedy)
    run = _from_json(facts, directory=directory, data_dir=data_dir)
    return dataclasses.replace(run, out_dir=out_dir or directory, copy=copy)


def _from_json(facts: JsonValue, *, directory: Path, data_dir: Location | None) -> TrainedRun:
    known = {field.name for field in dataclasses.fields(Config)}
    # Another version of the trainer may have had other settings.
    values = {name: flag.value for name, flag in facts["flags"].fields().items() if name in known}
    names = [name.text() for name in facts["class_names"].elements()]
    try:
        config = Config(**values)
        settings.check(config)
        class_names.check(names)
    except (UsageError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{facts.file}: {error}; {facts.remedy}") from None
    return TrainedRun(
        directory=directory,
        config=config,
        precision=facts["precision"].text(),
        devices=facts["devices"].text(),
        class_names=tuple(names),
        side=facts["side"].whole(1, MAX_SIDE),
        data_dir=data_dir or locate(facts["data_dir"].text()),
        fingerprint=facts["fingerprint"].text(),
        num_examples={name: n.whole() for name, n in facts["num_examples"].fields().items()},
        versions={name: version.text() for name, version in facts["versions"].fields().items()},
        out_dir=directory,
    )
