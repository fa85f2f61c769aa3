"""A data set that TFDS prepared: `quickdraw_bitmap`, `mnist`, or any other of gray images.

Its records vary in length, so opening the source reads all files once and indexes where each
class's drawings are. Row r of a class is its r-th drawing in the order of the files, counted
through all the splits asked for.

https://www.tensorflow.org/datasets/catalog/quickdraw_bitmap
"""

import dataclasses
import functools
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tensorflow_datasets as tfds
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from tensorflow_datasets.core import read_only_builder
from tensorflow_datasets.proto import tf_example_pb2

from quickdraw_tfrecords.base import class_names as names
from quickdraw_tfrecords.base import progress
from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.format import tfds_metadata
from quickdraw_tfrecords.format.records import MAX_SIDE
from quickdraw_tfrecords.sources import tfrecords
from quickdraw_tfrecords.sources.files import (
    FileVersion,
    checksum,
    open_unchanged,
    temporary_directory,
)
from quickdraw_tfrecords.sources.tfds_images import DECODERS

_ENTRY = np.dtype([("file", np.int32), ("offset", np.int64)])
_BUFFER_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class TfdsSource:
    """A TFDS data set on disk. See `Source` for the other attributes and the methods.

    Attributes:
      encoding: How images are stored: `picture`, or as in `tfds.features.Encoding`.
      credit: See `tfds_metadata.stated_credit`.
      files: The data set's TFRecord files, in order, each with its version.
      index: A `.npy` file, `_ENTRY[drawings]`: where each drawing is, sorted by class. It is
        not kept in this object, because that is sent to the workers with every batch of shards.
    """

    class_names: tuple[str, ...]
    counts: tuple[int, ...]
    side: int
    encoding: str
    credit: Mapping[str, str]
    files: tuple[tuple[Path, FileVersion], ...]
    index: Path

    @classmethod
    def open(
        cls,
        source_dir: Path,
        classes: Sequence[str] | None = None,
        *,
        name: str | None = None,
        splits: str | None = None,
    ) -> "TfdsSource":
        """Indexes the drawings of the wanted classes (all, if None); needs no TensorFlow.

        Args:
          source_dir: The version directory of a data set with the features image, uint8 of
            (side, side, 1), and label, a ClassLabel; or a data_dir of TFDS with
            `quickdraw_bitmap/3.0.0` in it, or with the data set called `name`.
          classes: Class names. The data set's own order of them is kept.
          name: As for `tfds.load`: `mnist`, `emnist/letters`, `mnist:3.0.1`.
          splits: For example `train+test`; all, if None.

        Raises:
          UsageError: There is no such data set, or no such split; a wanted class is unknown or
            listed twice.
          DataError: It has other features or another file format, or a file is damaged.
        """
        directory = _find_by_name(source_dir, name) if name else _find(source_dir)
        info = tfds_metadata.read_info(directory)
        side, labels, encoding = _require_drawings(directory, info)
        files_of = tfds_metadata.list_files(directory, info)
        lengths = {
            path: records
            for split in _select_splits(info, splits)
            for path, records in files_of[split]
        }
        if not lengths:
            raise DataError(f"{directory}: dataset_info.json names no files with drawings")
        chosen = names.select(labels, classes, are_files=False)
        chosen = tuple(sorted(chosen, key=labels.index))
        files, entries, counts = _index(lengths, labels, chosen)
        credit = tfds_metadata.stated_credit(info)
        return cls(chosen, counts, side, encoding, credit, files, _save(entries))

    def read(self, label: int, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """See `Source.read`."""
        entries = _load(self.index)[sum(self.counts[:label]) + rows]
        images = np.empty((len(rows), self.side**2), np.uint8)
        # File by file, each front to back: the entries of a class ascend within each.
        for number in np.unique(entries["file"]):
            members = np.flatnonzero(entries["file"] == number)
            with open_unchanged(*self.files[number]) as file:
                for member, offset in zip(members, entries["offset"][members], strict=True):
                    images[member] = self._read_image(file, int(offset))
        return images

    def _read_image(self, file: BinaryIO, offset: int) -> NDArray[np.uint8]:
        file.seek(offset)
        data = tfrecords.read_record(file)
        try:
            if data is None:
                raise EOFError("the file ends before it")
            return DECODERS[self.encoding](_feature(data, "image"), self.side)
        except Exception as error:  # protobuf and Pillow do not wrap what their parsers raise
            raise tfrecords.damaged(file, offset, f"its image cannot be decoded: {error}") from None

    def source_rows(self, label: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """See `Source.source_rows`."""
        return rows

    def describe(self) -> dict[str, Any]:
        """See `Source.describe`; reads every file once for its checksum."""
        files = {}
        for path, version in self.files:
            with open_unchanged(path, version, buffering=0) as file:
                crc = checksum(file)
            files[path.name] = {"bytes": version.size_bytes, "crc32c": f"{crc:08x}"}
        return {"kind": "tfds", "credit": dict(self.credit), "files": files}


def _find(source_dir: Path) -> Path:
    for directory in (source_dir, source_dir / "quickdraw_bitmap" / "3.0.0"):
        if (directory / "dataset_info.json").is_file():
            return directory
    raise UsageError(
        f"--source_dir={source_dir}: holds no dataset_info.json, nor quickdraw_bitmap/3.0.0; "
        "name the folder of a data set that TFDS has prepared, or the data_dir it is in "
        "and --tfds_name"
    )


def _find_by_name(source_dir: Path, name: str) -> Path:
    try:
        return Path(read_only_builder.builder_from_files(name, data_dir=source_dir).data_path)
    except Exception as error:  # an unknown name, a bad one, or damaged metadata
        raise UsageError(
            f"--tfds_name={name}: {source_dir} holds no data set of this name that can be read "
            f"({type(error).__name__}). Has it been prepared, and does the name include its "
            "configuration, as in emnist/letters?"
        ) from None


def _select_splits(info: tfds.core.DatasetInfo, wanted: str | None) -> list[str]:
    if wanted is None:
        return list(info.splits)
    chosen = wanted.split("+")
    for split in chosen:
        if split not in info.splits or chosen.count(split) > 1:
            raise UsageError(
                f"--tfds_split={wanted}: must be some of {'+'.join(info.splits)}, each once"
            )
    return chosen


def _require_drawings(directory: Path, info: tfds.core.DatasetInfo) -> tuple[int, list[str], str]:
    """The side, the class names and the encoding of a data set of drawings in TFRecord files."""
    if info.file_format is not tfds.core.FileFormat.TFRECORD:
        raise DataError(
            f"{directory}: its files have the format {info.file_format.value}, must have "
            "tfrecord; prepare it again with download_and_prepare(file_format='tfrecord')"
        )
    has_names = isinstance(info.features, tfds.features.FeaturesDict)
    features: dict[str, Any] = dict(info.features) if has_names else {}
    image: Any = features.get("image")
    label: Any = features.get("label")
    shape: tuple[Any, ...] = getattr(image, "shape", None) or ()
    is_square = len(shape) == 3 and shape[1:] == (shape[0], 1)
    if is_square and shape[0] not in range(1, MAX_SIDE + 1):
        raise DataError(f"{directory}: its images are {shape}, must have 1 to {MAX_SIDE} a side")
    if not (is_square and image.np_dtype == np.uint8 and hasattr(label, "names")):
        raise DataError(
            f"{directory}: must have the features image, uint8 of (side, side, 1), and label, "
            f"a ClassLabel; it has {features or info.features!r}"
        )
    is_picture = isinstance(image, tfds.features.Image)
    return shape[0], label.names, "picture" if is_picture else image.to_json_content().encoding


def _index(
    lengths: Mapping[Path, int], labels: Sequence[str], chosen: Sequence[str]
) -> tuple[tuple[tuple[Path, FileVersion], ...], NDArray[np.void], tuple[int, ...]]:
    """The files; where the chosen classes' drawings are, by class, in order; how many of each."""
    # From the data set's own labels to ours; -1 for classes that are not wanted.
    class_of = np.full(len(labels), -1, np.int32)
    class_of[[labels.index(name) for name in chosen]] = np.arange(len(chosen))
    files, classes, entries = [], [], []
    total = sum(lengths.values())
    with progress.bar("indexing", total=total, unit="records") as bar:
        for number, (path, length) in enumerate(lengths.items()):
            version, found, offsets = _scan(path, length, num_classes=len(labels))
            files.append((path, version))
            wanted = class_of[found] >= 0
            classes.append(class_of[found[wanted]])
            entries.append(np.empty(len(classes[-1]), _ENTRY))
            entries[-1]["file"], entries[-1]["offset"] = number, offsets[wanted]
            bar.update(length)
    # A stable sort keeps the order of the files within each class.
    merged = np.concatenate(classes)
    counts = np.bincount(merged, minlength=len(chosen))
    ordered = np.concatenate(entries)[np.argsort(merged, kind="stable")]
    return tuple(files), ordered, tuple(counts.tolist())


def _scan(
    path: Path, length: int, *, num_classes: int
) -> tuple[FileVersion, NDArray[np.int32], NDArray[np.int64]]:
    """The version of a file; the label int32[n] and the offset int64[n] of each record in it."""
    labels, offsets = array("i"), array("q")
    try:
        with open_unchanged(path, buffering=_BUFFER_BYTES) as file:
            version = FileVersion.of(file)
            while data := tfrecords.read_record(file):
                offset = file.tell() - len(data) - tfrecords.FRAMING_BYTES
                labels.append(_label(data, num_classes))
                offsets.append(offset)
    except FileNotFoundError:
        raise DataError(f"{path}: missing; {tfrecords.REMEDY}") from None
    except (DecodeError, ValueError) as error:
        raise tfrecords.damaged(file, offset, f"it has no valid label: {error}") from None
    if len(labels) != length:
        raise DataError(
            f"{path}: ends after {len(labels):,} records, dataset_info.json says {length:,}; "
            f"{tfrecords.REMEDY}"
        )
    return version, np.array(labels, np.int32), np.array(offsets, np.int64)


def _label(data: bytes, num_classes: int) -> int:
    label: int
    (label,) = _feature(data, "label").int64_list.value
    if not 0 <= label < num_classes:
        raise ValueError(f"{label} is not one of {num_classes} classes")
    return label


def _feature(data: bytes, name: str) -> Any:
    return tf_example_pb2.Example.FromString(data).features.feature[name]


def _save(entries: NDArray[np.void]) -> Path:
    """Saves the index to a temporary file, which the workers map while this process lives."""
    path = temporary_directory() / "entries.npy"
    np.save(path, entries)
    return path


@functools.lru_cache(maxsize=1)
def _load(index: Path) -> NDArray[np.void]:
    entries: NDArray[np.void] = np.load(index, mmap_mode="r")
    return entries
