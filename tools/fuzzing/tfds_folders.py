"""Data sets of other tools: their records, and their metadata."""

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.reading import drawings
from quickdraw_tfrecords.sources.tfds import TfdsSource
from tools.fuzzing.files import drain
from tools.fuzzing.mutations import frame, mutate_bytes

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

_SIDE, _RECORDS = 8, 5
_METADATA = ("features.json", "dataset_info.json", "label.labels.txt")


class _Folder:
    """A TFDS folder data set of a few drawings."""

    def __init__(self, scratch: Path) -> None:
        self._folder = scratch
        self._examples = [_example(label % 3) for label in range(_RECORDS)]
        self._shard = scratch / "doodles-train.tfrecord-00000-of-00001"
        self._shard.write_bytes(b"".join(map(frame, self._examples)))
        write_metadata(scratch)

    def _read(self) -> None:
        drain(lambda: TfdsSource.open(self._folder).read(0, np.arange(1)))
        info = qt.open_dataset(self._folder)
        for split in info.num_examples:
            for part in drawings.read_all(info, split):
                if not ((part.labels >= 0) & (part.labels < info.num_classes)).all():
                    raise AssertionError("a label is out of range")


class TfdsRecords(_Folder):
    """Records with right CRCs and anything in them, or claiming any length."""

    def make(self, numbers: random.Random) -> bytes:
        """Damages an Example, its framing, or the file."""
        records = [frame(example) for example in self._examples]
        place = numbers.randrange(len(records))
        damaged = mutate_bytes(numbers, self._examples[place])
        lengths = (None, None, None, 0, 2**31, 2**62, 2**64 - 1)
        records[place] = frame(damaged, length=numbers.choice(lengths))
        data = b"".join(records)
        return mutate_bytes(numbers, data) if numbers.random() < 0.2 else data

    def run(self, data: bytes) -> None:
        """Reads it as a source, and as a data set."""
        self._shard.write_bytes(data)
        self._read()


class TfdsMetadata(_Folder):
    """What says what is in the records."""

    def __init__(self, scratch: Path) -> None:
        super().__init__(scratch)
        self._seeds = {name: (scratch / name).read_bytes() for name in _METADATA}

    def make(self, numbers: random.Random) -> bytes:
        """A line that names the file, and what it then holds."""
        name = numbers.choice(_METADATA)
        return name.encode() + b"\n" + mutate_bytes(numbers, self._seeds[name])

    def run(self, data: bytes) -> None:
        """Reads it as a source, and as a data set."""
        name, _, content = data.partition(b"\n")
        for each, seed in self._seeds.items():
            (self._folder / each).write_bytes(content if each == name.decode() else seed)
        self._read()


def _example(label: int) -> bytes:
    from tensorflow_datasets.proto import tf_example_pb2

    example: Any = tf_example_pb2.Example()
    example.features.feature["image"].bytes_list.value.append(bytes(range(_SIDE**2)))
    example.features.feature["label"].int64_list.value.append(label)
    return bytes(example.SerializeToString())


def write_metadata(folder: Path, image: "tfds.features.FeatureConnector | None" = None) -> None:
    """Writes the metadata of a data set of five drawings.

    Args:
      folder: Where it goes.
      image: The feature `image`, if it is not to be the right one.
    """
    import tensorflow_datasets as tfds

    template = tfds.core.ShardedFileTemplate(
        dataset_name="doodles", data_dir=tfds.core.Path(folder), filetype_suffix="tfrecord"
    )
    image = image or tfds.features.Tensor(
        shape=(_SIDE, _SIDE, 1), dtype=np.uint8, encoding=tfds.features.Encoding.BYTES
    )
    label = tfds.features.ClassLabel(names=["cat", "tree", "zigzag"])
    split = tfds.core.SplitInfo(
        name="train",
        shard_lengths=[_RECORDS],
        num_bytes=0,
        filename_template=template.replace(split="train"),
    )
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=tfds.features.FeaturesDict({"image": image, "label": label}),
        split_infos=[split],
        filename_template=template,
        version="1.0.0",
        check_data=False,
    )
