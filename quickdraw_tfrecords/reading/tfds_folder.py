"""Data sets with the same features that another tool wrote: any TFDS folder of TFRecords.

Their records may differ in length, so they are parsed one by one. That is far slower than
fixed-stride shards; held in memory (`cache="memory"`), they are parsed once. TensorFlow is not
imported.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from absl import logging
from google.protobuf.message import DecodeError

from quickdraw_tfrecords.base import class_names
from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.files import open_regular, os_reason
from quickdraw_tfrecords.base.stores import Location
from quickdraw_tfrecords.format import manifest, tfds_metadata
from quickdraw_tfrecords.format.records import MAX_SIDE
from quickdraw_tfrecords.reading.blocks import Block, ReadState
from quickdraw_tfrecords.reading.columns import Columns
from quickdraw_tfrecords.sources import tfrecords
from quickdraw_tfrecords.sources.files import FileVersion, checksum, open_unchanged

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

_BLOCKS = 8  # that a shard is streamed in, as many as one of this project's
_BUFFER_BYTES = 2**20


@dataclasses.dataclass(frozen=True)
class TfdsShard:
    """A file of another tool's data set.

    Attributes:
      name: The file's name.
      records: How many records its metadata says it holds.
    """

    name: str
    records: int

    @property
    def block_bounds(self) -> tuple[int, ...]:
        """The first record of each block, and the one after the last."""
        return tuple(self.records * index // _BLOCKS for index in range(_BLOCKS + 1))


def is_dataset(directory: Path) -> bool:
    """Whether TFDS' metadata is there."""
    return (directory / "dataset_info.json").exists() and (directory / "features.json").exists()


def describe(directory: Path) -> tuple[tuple[str, ...], dict[str, int], int]:
    """The class names, drawings of each split, and side of the drawings.

    Raises:
      DataError: Its features are not those of drawings, or it is this project's own and has
        lost its manifest, without which damage would go unnoticed.
    """
    import tensorflow_datasets as tfds

    info = tfds_metadata.read_info(directory)
    has_names = isinstance(info.features, tfds.features.FeaturesDict)
    features: dict[str, Any] = dict(info.features.items()) if has_names else {}
    if "source_row" in features:
        raise DataError(
            f"{directory}: has no {manifest.FILE_NAME}, though its shards were written with one; "
            "restore it from a copy, or convert again with --overwrite"
        )
    image: Any = features.get("image")
    label: Any = features.get("label")
    shape, names = getattr(image, "shape", None), getattr(label, "names", None)
    if (
        not (shape and shape == (shape[0], shape[0], 1) and names)
        or image.np_dtype != np.uint8
        or shape[0] not in range(1, MAX_SIDE + 1)
    ):
        raise DataError(
            f"{directory}: must have the features image (side, side, 1), uint8 of 1 to {MAX_SIDE} "
            "a side, and label (classes)"
        )
    is_raw = isinstance(image, tfds.features.Tensor) and not isinstance(image, tfds.features.Image)
    if not is_raw or image.to_json_content().encoding != tfds.features.Encoding.BYTES.value:
        raise DataError(
            f"{directory}: its images are compressed; convert it first: "
            f"quickdraw convert --source=tfds --source_dir={directory} --data_dir=..."
        )
    try:
        class_names.check(names)
    except UsageError as error:
        raise DataError(f"{directory}: {error}") from None
    if len(set(names)) < len(names):
        raise DataError(f"{directory}: label.labels.txt: a class name is there twice")
    return tuple(names), _count(directory, info), shape[0]


def _count(directory: Path, info: "tfds.core.DatasetInfo") -> dict[str, int]:
    """Drawings of each split."""
    if info.file_format.value != "tfrecord":
        raise DataError(f"{directory}: its files are {info.file_format.value}, must be tfrecord")
    return {
        split: sum(records for _, records in files)
        for split, files in tfds_metadata.list_files(directory, info).items()
    }


def checksums(directory: Path) -> dict[str, tuple[int, int]]:
    """The size in bytes and the CRC32C of each file of records; reads all of them.

    Raises:
      DataError: A file is missing, or changes while it is read.
    """
    found = {}
    for shard in itertools.chain.from_iterable(list_shards(directory).values()):
        with _reading(directory / shard.name) as path, open_unchanged(path, buffering=0) as file:
            found[shard.name] = FileVersion.of(file).size_bytes, checksum(file)
    return found


def warn_of_speed(directory: Location) -> None:
    """Says once per process how to read such a data set faster."""
    logging.log_first_n(
        logging.WARNING,
        "%s was not written by this project's converter: its records are parsed one by one. "
        "Convert it with --source=tfds for speed.",
        1,
        directory,
    )


def list_shards(directory: Path) -> Mapping[str, tuple[TfdsShard, ...]]:
    """The files of each split."""
    files = tfds_metadata.list_files(directory, tfds_metadata.read_info(directory))
    return {
        split: tuple(TfdsShard(path.name, records) for path, records in members)
        for split, members in files.items()
    }


class TfdsReader:
    """Reads blocks of another tool's shards; both CRCs of each record are checked each time.

    Args:
      directory: Where the shards are.
      side: Height and width of a drawing in pixels.
      num_classes: Number of classes.
      shards: All that blocks may be of.
      state: What has been read of the data set.
    """

    def __init__(
        self,
        directory: Path,
        side: int,
        num_classes: int,
        shards: Iterable[TfdsShard],
        state: ReadState,
    ) -> None:
        self._directory, self._side, self._num_classes = directory, side, num_classes
        self._shards = {shard.name: shard for shard in shards}
        self._offsets = state.block_offsets

    def along(self, blocks: Iterable[Block]) -> "TfdsReader":
        """See `Reader.along`."""
        return self

    def knows(self, blocks: Iterable[Block]) -> bool:
        """See `Reader.knows`; a disk is faster than parsing is."""
        return True

    def read(
        self, blocks: Iterable[Block], columns: Columns, *, places: np.ndarray | None = None
    ) -> None:
        """See `Reader.read`; there are no source rows.

        Raises:
          DataError: A shard is missing, has fewer or more records than its metadata says, or a
            record is damaged or holds no drawing; names the shard.
        """
        images, labels = columns
        start = 0
        for block in blocks:
            stop = start + len(block)
            rows = slice(start, stop) if places is None else places[start:stop]
            pixels, classes = zip(*self._parse(block), strict=True)
            images[rows] = np.frombuffer(b"".join(pixels), np.uint8).reshape(len(block), -1)
            labels[rows] = classes
            start = stop

    def _parse(self, block: Block) -> Iterator[tuple[bytes, int]]:
        """The pixels and the label of each drawing of a block."""
        name, begin = block.shard.name, block.shard.block_bounds[block.index]
        if name not in self._offsets:
            self._offsets[name] = self._scan(self._shards[name])
        with self._open(name) as file:
            file.seek(self._offsets[name][block.index])
            for _ in range(begin, block.start):
                tfrecords.read_record(file)
            for _ in range(len(block)):
                yield self._parse_record(file)

    def _parse_record(self, file: BinaryIO) -> tuple[bytes, int]:
        from tensorflow_datasets.proto import tf_example_pb2

        offset = file.tell()
        try:
            example = tf_example_pb2.Example.FromString(tfrecords.read_record(file) or b"")
            feature = example.features.feature
            (pixels,) = feature["image"].bytes_list.value
            (label,) = feature["label"].int64_list.value
        except (DecodeError, ValueError) as error:
            raise tfrecords.damaged(file, offset, f"it holds no drawing: {error}") from None
        if len(pixels) != self._side**2:
            raise tfrecords.damaged(file, offset, f"its image has {len(pixels)} bytes")
        if not 0 <= label < self._num_classes:
            reason = f"its label is {label}, and there are {self._num_classes} classes"
            raise tfrecords.damaged(file, offset, reason)
        return pixels, label

    def _scan(self, shard: TfdsShard) -> Sequence[int]:
        """Where each block of a shard begins, in bytes.

        A file that was cut between two records would pass for a shorter one, so they are counted.
        """
        offsets, count = [], 0
        with self._open(shard.name) as file:
            while True:
                offsets += [file.tell()] * shard.block_bounds[:-1].count(count)
                if tfrecords.read_record(file) is None:
                    break
                count += 1
        if count != shard.records:
            raise DataError(
                f"{self._directory / shard.name}: holds {count:,} records, dataset_info.json "
                f"says {shard.records:,}; {tfrecords.REMEDY}"
            )
        return offsets

    def _open(self, name: str) -> BinaryIO:
        with _reading(self._directory / name) as path:
            return open_regular(path, buffering=_BUFFER_BYTES)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[Path]:
    try:
        yield path
    except FileNotFoundError:
        raise DataError(f"{path}: missing; {tfrecords.REMEDY}") from None
    except OSError as error:
        raise DataError(f"{path}: {os_reason(error)}") from None
