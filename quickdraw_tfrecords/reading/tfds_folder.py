"""Data sets with the same features that another tool wrote: any TFDS folder of TFRecords.

Their records may differ in length, so they are parsed one by one. That is far slower than
fixed-stride shards; held in memory (`cache="memory"`), they are parsed once. TensorFlow is not
imported.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from absl import logging
from google.protobuf.message import DecodeError

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.files import os_reason
from quickdraw_tfrecords.format import manifest
from quickdraw_tfrecords.reading.blocks import Block, ReadState
from quickdraw_tfrecords.reading.columns import Columns
from quickdraw_tfrecords.sources import tfrecords

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

    info = _info(directory)
    if "source_row" in info.features:
        raise DataError(
            f"{directory}: has no {manifest.FILE_NAME}, though its shards were written with one; "
            "restore it from a copy, or convert again with --overwrite"
        )
    features = dict(info.features.items())
    image, label = features.get("image"), features.get("label")
    shape, names = getattr(image, "shape", None), getattr(label, "names", None)
    if not shape or shape != (shape[0], shape[0], 1) or names is None:
        raise DataError(
            f"{directory}: must have the features image (side, side, 1) and label (classes)"
        )
    if isinstance(image, tfds.features.Image):
        raise DataError(
            f"{directory}: its images are compressed; convert it first: "
            f"python -m quickdraw_tfrecords --source=tfds --source_dir={directory} --data_dir=..."
        )
    counts = {name: split.num_examples for name, split in info.splits.items()}
    return tuple(names), counts, shape[0]


def warn_of_speed(directory: Path) -> None:
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
    return {
        name: tuple(
            TfdsShard(Path(path).name, records)
            for path, records in zip(split.filepaths, split.shard_lengths, strict=True)
        )
        for name, split in _info(directory).splits.items()
    }


class TfdsReader:
    """Reads blocks of another tool's shards; both CRCs of each record are checked each time.

    Args:
      directory: Where the shards are.
      side: Height and width of a drawing in pixels.
      shards: All that blocks may be of.
      state: What has been read of the data set.
    """

    def __init__(
        self, directory: Path, side: int, shards: Iterable[TfdsShard], state: ReadState
    ) -> None:
        self._directory, self._side = directory, side
        self._shards = {shard.name: shard for shard in shards}
        self._offsets = state.block_offsets

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
            pixels = feature["image"].bytes_list.value[0]
            label = feature["label"].int64_list.value[0]
        except (DecodeError, IndexError) as error:
            raise tfrecords.damaged(file, offset, f"it holds no drawing: {error}") from None
        if len(pixels) != self._side**2:
            raise tfrecords.damaged(file, offset, f"its image has {len(pixels)} bytes")
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
        path = self._directory / name
        try:
            return open(path, "rb", buffering=_BUFFER_BYTES)
        except FileNotFoundError:
            raise DataError(f"{path}: missing; {tfrecords.REMEDY}") from None
        except OSError as error:
            raise DataError(f"{path}: {os_reason(error)}") from None


def _info(directory: Path) -> "tfds.core.DatasetInfo":
    import tensorflow_datasets as tfds

    return tfds.builder_from_directory(directory).info
