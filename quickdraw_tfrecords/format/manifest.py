"""What a data set on disk says about itself: `manifest.json`."""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, overload

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.files import atomic_write, crc32c, open_regular
from quickdraw_tfrecords.base.json_values import JsonValue
from quickdraw_tfrecords.base.stores import Location, Store
from quickdraw_tfrecords.base.version import __version__
from quickdraw_tfrecords.format import validation
from quickdraw_tfrecords.format.records import RecordLayout
from quickdraw_tfrecords.format.shards import RESTORE, ShardInfo

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


def write_manifest(directory: Location, manifest: Manifest) -> None:
    """Writes `manifest.json` atomically. The same manifest gives the same bytes."""
    text = _to_bytes(manifest)
    if isinstance(directory, Store):
        directory.write(FILE_NAME, text)
        return
    with atomic_write(directory / FILE_NAME) as file:
        file.write(text)


def _to_bytes(manifest: Manifest) -> bytes:
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
    return b'{"crc32c": "%08x",\n%b' % (crc32c(body), body)


@overload
def find_directory(data_dir: Path) -> Path: ...


@overload
def find_directory(data_dir: Store) -> Store: ...


def find_directory(data_dir: Location) -> Location:
    """The directory that holds the shards.

    Args:
      data_dir: What was given to the converter as --data_dir, or that directory itself.

    Raises:
      DataError: There is no such directory, or its conversion was not finished; or there is no
        way to it.
    """
    if isinstance(data_dir, Store):
        return _find_folder(data_dir)
    nested = data_dir / DATASET_NAME / VERSION
    if nested.is_dir():
        return nested
    incomplete = nested.with_name(f"{VERSION}.incomplete")
    if incomplete.is_dir() or data_dir.name == incomplete.name:
        raise DataError(_UNFINISHED.format(data_dir))
    if not data_dir.is_dir():
        raise DataError(f"{data_dir}: no such directory")
    return data_dir


def _find_folder(data_dir: Store) -> Store:
    """As `find_directory`; a store has no folders, only objects whose names have slashes."""
    for folder in (data_dir / DATASET_NAME / VERSION, data_dir):
        if folder.entry(FILE_NAME):
            return folder
    raise DataError(
        f"{data_dir}: holds no data set: there is no {FILE_NAME}; make one with `quickdraw "
        "convert`, and if that was stopped run the same command again: it resumes"
    )


def read_manifest(directory: Location, *, finished: bool = True) -> Manifest:
    """Reads `manifest.json`; every byte of it is covered by a checksum.

    Args:
      directory: Where it is.
      finished: Refuse that of a conversion still running, which lists no shards yet.

    Raises:
      DataError: It is missing, damaged, of another version of the format, or unfinished; or
        something in it cannot be.
    """
    path, text = directory / FILE_NAME, _read_text(directory)
    first_line = _CHECKSUM_LINE.match(text)
    body = text[first_line.end() :] if first_line else b""
    if not first_line or int(first_line[1], 16) != crc32c(body):
        raise DataError(f"{path}: damaged (its CRC32C does not match); {RESTORE}")
    manifest = _parse(JsonValue.parse(text, str(path), remedy=RESTORE))
    if finished and not manifest.splits:
        raise DataError(_UNFINISHED.format(directory))
    return manifest


def _read_text(directory: Location) -> bytes:
    if isinstance(directory, Store):
        return directory.read(FILE_NAME)
    try:
        with open_regular(directory / FILE_NAME) as file:
            return file.read()
    except FileNotFoundError:
        raise DataError(f"{directory}: has no {FILE_NAME}, {_why_not(directory)}") from None


def _parse(fields: JsonValue) -> Manifest:
    """The manifest in a file, once everything in it has been checked."""
    if (found := fields["format"].text()) != _FORMAT:
        raise DataError(f"{fields.file}: format is {found!r:.60}, this version reads {_FORMAT!r}")
    request = validation.read_request(fields["request"])
    layout = validation.read_layout(fields["layout"], num_classes=len(request["class_names"]))
    splits = validation.read_splits(fields["splits"], fields["request"], layout)
    return Manifest(request, layout, splits)


def _why_not(directory: Path) -> str:
    """Why a directory has no manifest, and what to do."""
    if (directory / "dataset_info.json").exists():
        return (
            "because another tool wrote it, or the file was lost; convert the data set with "
            "`quickdraw convert --source=tfds`, or restore the file from a copy"
        )
    return "so it is not a finished data set; make one with `quickdraw convert`"


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
