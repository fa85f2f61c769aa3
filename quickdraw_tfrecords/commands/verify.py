"""Checks every byte of a data set that this project's converter wrote.

    quickdraw verify --data_dir=data

Every record's CRCs, every shard against the manifest (length, CRC32C, records, drawings of
each class), TFDS' metadata against the manifest, no file missing or superfluous, and
every drawing (class and row in the source) there just once, so that the splits are disjoint.
Stops at the first fault, with exit code 1, and names the shard and the record.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from tqdm import tqdm

from quickdraw_tfrecords.base import cli
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.format import manifest as manifests
from quickdraw_tfrecords.format import shards
from quickdraw_tfrecords.format.manifest import Manifest
from quickdraw_tfrecords.format.records import RecordLayout
from quickdraw_tfrecords.format.shards import ShardInfo

_ROW_BITS = 40  # of a drawing's key: its class above, its row in the source below


def define_flags() -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("data_dir", None, "Folder of the data set.", required=True)


def main() -> None:
    """Verifies as the flags say."""
    verify(Path(flags.FLAGS.data_dir))


def verify(data_dir: Path) -> None:
    """Checks a data set and prints a table of its splits.

    Args:
      data_dir: What was given to the converter as --data_dir, or the directory in it that
        holds the shards.

    Raises:
      DataError: The first fault; names the file and, within a shard, the record.
    """
    directory = manifests.find_directory(data_dir)
    manifest = manifests.read_manifest(directory)
    _check_manifest(directory, manifest)
    _check_metadata(directory, manifest)
    keys: dict[str, Sequence[np.ndarray]] = {}
    print(_ROW.format("split", "shards", "drawings", "MiB", "status"))
    for split, members in manifest.splits.items():
        keys[split] = list(_check_split(directory, manifest, split))
        records = f"{sum(map(len, keys[split])):,}"
        mib = f"{sum(shard.bytes for shard in members) / 2**20:,.1f}"
        print(_ROW.format(split, len(members), records, mib, "ok"))
    _check_distinct(directory, manifest, keys)
    print("every drawing is there once; the data set is sound")


def _check_manifest(directory: Path, manifest: Manifest) -> None:
    """Whether the manifest agrees with itself."""
    path = directory / manifests.FILE_NAME
    for split, members in manifest.splits.items():
        for index, shard in enumerate(members):
            facts = (shard.name, shard.bytes, shard.records)
            name = shards.shard_name(split, index, len(members))
            wanted = (name, shard.records * manifest.layout.stride, sum(shard.class_counts))
            _require_equal(f"{path}: name, bytes and records of {name}", facts, wanted)
    counts = np.sum([shard.class_counts for shard in manifest.shards], axis=0)
    _require_equal(f"{path}: drawings of each class", manifest.request["drawings"], counts.tolist())


def _check_metadata(directory: Path, manifest: Manifest) -> None:
    """Whether what TFDS reads is what the manifest gives, and no file is superfluous."""
    names = {shard.name for shard in manifest.shards}
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            Path(scratch, name).touch()  # TFDS looks which shards there are
        manifests.write_tfds_metadata(Path(scratch), manifest)
        expected, found = _metadata(Path(scratch)), _metadata(directory)
        known = {manifests.FILE_NAME, *(path.name for path in Path(scratch).iterdir())}
    for fact, value in expected.items():
        _require_equal(f"{directory}/{fact}", found.get(fact), value)
    if unknown := sorted({path.name for path in directory.iterdir()} - known):
        raise DataError(
            f"{directory}: {', '.join(unknown)}: not part of the data set; remove what does not "
            "belong there"
        )


def _metadata(directory: Path) -> dict[str, Any]:
    """The facts that TFDS reads, by the file they are in."""
    from quickdraw_tfrecords.sources.tfds import read_info  # takes a second to import

    info = read_info(directory)
    features = dict(info.features)
    facts: dict[str, Any] = {"features.json: features": sorted(features)}
    for name, feature in features.items():
        facts[f"features.json: {name}"] = feature.to_json()
    facts["label.labels.txt: class names"] = getattr(features.get("label"), "names", None)
    facts["dataset_info.json: splits"] = list(info.splits)
    for name, split in info.splits.items():
        facts[f"dataset_info.json: shardLengths of {name}"] = list(split.shard_lengths)
        facts[f"dataset_info.json: files of {name}"] = [path.name for path in split.filepaths]
        facts[f"dataset_info.json: numBytes of {name}"] = int(split.num_bytes)
    return facts


def _check_split(directory: Path, manifest: Manifest, split: str) -> Iterator[np.ndarray]:
    """Checks the shards of a split; yields the keys of each one's drawings, int64[records]."""
    members = manifest.splits[split]
    with tqdm(total=sum(s.records for s in members), unit=" drawings", unit_scale=True) as bar:
        bar.set_description(split)
        for shard in members:
            yield _check_shard(directory, manifest.layout, shard)
            bar.update(shard.records)


def _check_shard(directory: Path, layout: RecordLayout, shard: ShardInfo) -> np.ndarray:
    path = directory / shard.name
    # The CRCs of the records name the damaged one, so they come before that of the file.
    matrix = shards.read_shard(directory, shard, check_crc=False)
    damaged = np.flatnonzero(~layout.is_sound(matrix))
    if len(damaged):
        raise DataError(
            f"{_place(path, layout, int(damaged[0]))} is damaged (its CRCs or its framing do not "
            f"hold), as are {len(damaged) - 1:,} more in this shard; {shards.RESTORE}"
        )
    crcs = shards.prefix_crc32c(matrix)
    if crcs != shard.prefix_crc32c:
        raise DataError(
            f"{path}: every record is sound, but they are not those that were written: CRC32C "
            f"is {crcs[-1]:08x}, the manifest says {shard.crc32c:08x}; {shards.RESTORE}"
        )
    labels = layout.labels(matrix)
    counts = np.bincount(labels, minlength=len(shard.class_counts))
    _require_equal(f"{path}: drawings of each class", counts.tolist(), list(shard.class_counts))
    return labels.astype(np.int64) << _ROW_BITS | layout.source_rows(matrix)


def _check_distinct(
    directory: Path, manifest: Manifest, keys: dict[str, Sequence[np.ndarray]]
) -> None:
    """Whether every drawing is in one record of one split only."""
    merged = np.sort(np.concatenate([shard for split in keys.values() for shard in split]))
    repeated = merged[1:][merged[1:] == merged[:-1]]
    if not len(repeated):
        return
    places = [
        _place(directory / shard.name, manifest.layout, int(record))
        for split, members in manifest.splits.items()
        for shard, found in zip(members, keys[split], strict=True)
        for record in np.flatnonzero(found == repeated[0])
    ]
    label, row = divmod(int(repeated[0]), 1 << _ROW_BITS)
    raise DataError(
        f"drawing {row} of class {manifest.class_names[label]!r} is there more than once: "
        f"{' and '.join(places)}; convert again with --overwrite"
    )


def _place(path: Path, layout: RecordLayout, record: int) -> str:
    return f"{path}: record {record} (at byte {record * layout.stride})"


def _require_equal(what: str, found: Any, wanted: Any) -> None:
    """Raises a `DataError` if two values differ; of long lists it shows where."""
    if isinstance(found, list) and isinstance(wanted, list):
        _require_equal(f"number of {what}", len(found), len(wanted))
        for index, pair in enumerate(zip(found, wanted, strict=True)):
            _require_equal(f"{what}[{index}]", *pair)
    elif found != wanted:
        raise DataError(f"{what}: {found!r}, must be {wanted!r} by the manifest; {shards.RESTORE}")


_ROW = "{:<12}{:>8}{:>14}{:>12}  {}"

if __name__ == "__main__":
    define_flags()
    cli.run(main)
