"""Checks every byte of a data set that this project's converter wrote.

    quickdraw verify --data_dir=data

Every record's CRCs, every shard against the manifest (length, CRC32C, records, drawings of
each class), TFDS' metadata against the manifest, no file missing or superfluous, and
every drawing (class and row in the source) there just once, so that the splits are disjoint.
Stops at the first fault, with exit code 1, and names the shard and the record.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from absl import flags

from quickdraw_tfrecords.base import cli, progress
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.stores import Location, Store, locate
from quickdraw_tfrecords.format import manifest as manifests
from quickdraw_tfrecords.format import shards, tfds_metadata
from quickdraw_tfrecords.format.manifest import Manifest
from quickdraw_tfrecords.format.records import RecordLayout
from quickdraw_tfrecords.format.shards import ShardInfo
from quickdraw_tfrecords.format.validation import require_equal

_ROW_BITS = 40  # of a drawing's key: its class above, its row in the source below


def define_flags() -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("data_dir", None, "Folder of the data set, or its URL.", required=True)


def main() -> None:
    """Verifies as the flags say."""
    verify(locate(flags.FLAGS.data_dir))


def verify(data_dir: Location) -> None:
    """Checks a data set and prints a table of its splits.

    Args:
      data_dir: What was given to the converter as --data_dir, or the directory in it that
        holds the shards.

    Raises:
      DataError: The first fault; names the file and, within a shard, the record.
    """
    directory = manifests.find_directory(data_dir)
    manifest = manifests.read_manifest(directory)
    tfds_metadata.require_same(directory, manifest)
    _check_files(directory, manifest)
    keys: dict[str, Sequence[np.ndarray]] = {}
    print(_ROW.format("split", "shards", "drawings", "MiB", "status"))
    for split, members in manifest.splits.items():
        keys[split] = list(_check_split(directory, manifest, split))
        records = f"{sum(map(len, keys[split])):,}"
        mib = f"{sum(shard.bytes for shard in members) / 2**20:,.1f}"
        print(_ROW.format(split, len(members), records, mib, "ok"))
    _check_distinct(directory, manifest, keys)
    print("every drawing is there once; the data set is sound")


def _check_files(directory: Location, manifest: Manifest) -> None:
    """Whether no file is superfluous; a web server does not say."""
    if isinstance(directory, Store):
        names = set() if directory.is_read_only else set(directory.entries())
    else:
        names = {path.name for path in directory.iterdir()}
    known = {manifests.FILE_NAME, *tfds_metadata.FILE_NAMES}
    known |= {shard.name for shard in manifest.shards}
    if unknown := sorted(names - known):
        raise DataError(
            f"{directory}: {', '.join(unknown)}: not part of the data set; remove what does not "
            "belong there"
        )


def _check_split(directory: Location, manifest: Manifest, split: str) -> Iterator[np.ndarray]:
    """Checks the shards of a split; yields the keys of each one's drawings, int64[records]."""
    members = manifest.splits[split]
    total = sum(shard.records for shard in members)
    with progress.bar(split, total=total, unit="drawings") as bar:
        for shard in members:
            yield _check_shard(directory, manifest.layout, shard)
            bar.update(shard.records)


def _check_shard(directory: Location, layout: RecordLayout, shard: ShardInfo) -> np.ndarray:
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
    require_equal(f"{path}: drawings of each class", counts.tolist(), list(shard.class_counts))
    return labels.astype(np.int64) << _ROW_BITS | layout.source_rows(matrix)


def _check_distinct(
    directory: Location, manifest: Manifest, keys: dict[str, Sequence[np.ndarray]]
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


def _place(path: Location, layout: RecordLayout, record: int) -> str:
    return f"{path}: record {record} (at byte {record * layout.stride})"


_ROW = "{:<12}{:>8}{:>14}{:>12}  {}"

if __name__ == "__main__":
    define_flags()
    cli.run(main)
