"""What a data set on disk says about itself: `manifest.json` and the metadata TFDS reads."""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.files import atomic_write, crc32c
from quickdraw_tfrecords.base.version import __version__
from quickdraw_tfrecords.format.records import RecordLayout
from quickdraw_tfrecords.format.shards import ShardInfo

DATASET_NAME = "quickdraw"  # TFDS has a builder `quickdraw_bitmap`; ours must not be called so.
VERSION = "1.0.0"
FILE_NAME = "manifest.json"

_FORMAT = "quickdraw-tfrecords 2"
_UNFINISHED = (
    "{}: its conversion was not finished; run the same `quickdraw convert` command again, it "
    "resumes where it stopped"
)
_CHECKSUM_LINE = re.compile(rb'\{"crc32c": "([0-9a-f]{8})",\n')


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The contents of a data set.

    Attributes:
      request: What was asked for: source, class names, drawings of each class, seed,
        fractions, shards of each split. The same request gives the same bytes.
      layout: Where everything stands in a record.
      splits: The shards of each split in order; empty while a conversion is running.
    """

    request: dict[str, Any]
    layout: RecordLayout
    splits: Mapping[str, tuple[ShardInfo, ...]]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in label order."""
        return tuple(self.request["class_names"])

    @property
    def shards(self) -> tuple[ShardInfo, ...]:
        """The shards of all splits, split after split."""
        return tuple(shard for members in self.splits.values() for shard in members)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Writes `manifest.json` atomically. The same manifest gives the same bytes."""
    body = _json_lines(
        {
            "format": _FORMAT,
            "converter": f"quickdraw-tfrecords {__version__}",
            "request": manifest.request,
            "layout": manifest.layout.to_json(),
            "splits": {
                split: [dataclasses.asdict(shard) for shard in members]
                for split, members in manifest.splits.items()
            },
        }
    )
    with atomic_write(directory / FILE_NAME) as file:
        file.write(b'{"crc32c": "%08x",\n' % crc32c(body))
        file.write(body)


def find_directory(data_dir: Path) -> Path:
    """The directory that holds the shards.

    Args:
      data_dir: What was given to the converter as --data_dir, or that directory itself.

    Raises:
      DataError: There is no such directory, or its conversion was not finished.
    """
    nested = data_dir / DATASET_NAME / VERSION
    if nested.is_dir():
        return nested
    incomplete = nested.with_name(f"{VERSION}.incomplete")
    if incomplete.is_dir() or data_dir.name == incomplete.name:
        raise DataError(_UNFINISHED.format(data_dir))
    if not data_dir.is_dir():
        raise DataError(f"{data_dir}: no such directory")
    return data_dir


def read_manifest(directory: Path, *, finished: bool = True) -> Manifest:
    """Reads `manifest.json`; every byte of it is covered by a checksum.

    Args:
      directory: Where it is.
      finished: Refuse that of a conversion still running, which lists no shards yet.

    Raises:
      DataError: It is missing, damaged, of another version of the format, or unfinished.
    """
    path = directory / FILE_NAME
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{directory}: has no {FILE_NAME}, {_why_not(directory)}") from None
    first_line = _CHECKSUM_LINE.match(text)
    body = text[first_line.end() :] if first_line else b""
    if not first_line or int(first_line[1], 16) != crc32c(body):
        raise DataError(
            f"{path}: damaged (its CRC32C does not match); restore it from a copy, "
            "or convert again with --overwrite"
        )
    fields = json.loads(text)
    if fields["format"] != _FORMAT:
        raise DataError(f"{path}: format is {fields['format']!r}, this version reads {_FORMAT!r}")
    if finished and not fields["splits"]:
        raise DataError(_UNFINISHED.format(directory))
    return Manifest(
        request=fields["request"],
        layout=RecordLayout.from_json(fields["layout"]),
        splits={
            split: tuple(ShardInfo.from_json(shard) for shard in members)
            for split, members in fields["splits"].items()
        },
    )


def _why_not(directory: Path) -> str:
    """Why a directory has no manifest, and what to do."""
    if (directory / "dataset_info.json").exists():
        return (
            "because another tool wrote it, or the file was lost; convert the data set with "
            "`quickdraw convert --source=tfds`, or restore the file from a copy"
        )
    return "so it is not a finished data set; make one with `quickdraw convert`"


def write_tfds_metadata(directory: Path, manifest: Manifest) -> None:
    """Writes `features.json`, `dataset_info.json` and `label.labels.txt` through TFDS' own API.

    https://www.tensorflow.org/datasets/external_tfrecord
    """
    import tensorflow_datasets as tfds

    side = manifest.layout.side
    features = tfds.features.FeaturesDict(
        {
            # Without encoding=BYTES a uint8 tensor is read as one varint per pixel.
            "image": tfds.features.Tensor(
                shape=(side, side, 1), dtype=np.uint8, encoding=tfds.features.Encoding.BYTES
            ),
            "label": tfds.features.ClassLabel(names=list(manifest.class_names)),
            "source_row": tfds.features.Scalar(np.int64),
        }
    )
    template = tfds.core.ShardedFileTemplate(
        dataset_name=DATASET_NAME, data_dir=tfds.core.Path(directory), filetype_suffix="tfrecord"
    )
    split_infos = [
        tfds.core.SplitInfo(
            name=split,
            shard_lengths=[shard.records for shard in members],
            num_bytes=sum(shard.records for shard in members) * manifest.layout.example_bytes,
            filename_template=template.replace(split=split),
        )
        for split, members in manifest.splits.items()
    ]
    synthetic = manifest.request["source"]["kind"] == "synthetic"
    tfds.folder_dataset.write_metadata(
        data_dir=directory,
        features=features,
        split_infos=split_infos,
        version=VERSION,
        check_data=False,  # it would want more than one record in each split
        supervised_keys=("image", "label"),
        description=_SYNTHETIC if synthetic else _DESCRIPTION,
        homepage=None if synthetic else "https://quickdraw.withgoogle.com/data",
        license=None if synthetic else _LICENSE,
    )


def _json_lines(fields: dict[str, Any]) -> bytes:
    """JSON without its opening brace, one field or shard per line: compact, and fit for diff."""
    lines = []
    for key, value in fields.items():
        if key == "splits":
            value = ",\n".join(
                f"{json.dumps(split)}: [\n" + ",\n".join(map(json.dumps, members)) + "]"
                for split, members in value.items()
            )
            lines.append(f'"splits": {{\n{value}}}')
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value)}")
    return (",\n".join(lines) + "}\n").encode()


_DESCRIPTION = "Drawings of Google's Quick, Draw!, square and grayscale, ink high on 0."
_SYNTHETIC = (
    "Synthetic drawings named after the classes of Quick, Draw!; there is no drawing of Google's."
)
_LICENSE = "The Quick, Draw! Dataset, made available by Google, Inc., CC BY 4.0."
