"""The metadata that TFDS reads beside the shards: written through its own API, and compared.

What TFDS would read must be what the manifest says, above all which label has which name. That
is looked at before a data set is published, and again by `quickdraw verify`.

https://www.tensorflow.org/datasets/external_tfrecord
"""

import contextlib
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from quickdraw_tfrecords.base.errors import DataError, MissingError
from quickdraw_tfrecords.base.stores import Location, Store
from quickdraw_tfrecords.format.credit import credit_of
from quickdraw_tfrecords.format.manifest import DATASET_NAME, VERSION, Manifest
from quickdraw_tfrecords.format.validation import require_equal

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

_LICENSE = "LICENSE"  # written where the license is known
FILE_NAMES = ("features.json", "dataset_info.json", "label.labels.txt", _LICENSE)


def write(directory: Path, manifest: Manifest) -> None:
    """Writes the files of `FILE_NAMES`."""
    import tensorflow_datasets as tfds  # takes a second

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
    credit = credit_of(manifest.request)
    tfds.folder_dataset.write_metadata(
        data_dir=directory,
        features=tfds.features.FeaturesDict(_features(manifest)),
        split_infos=split_infos,
        version=VERSION,
        check_data=False,  # it would want more than one record in each split
        supervised_keys=("image", "label"),
        description=credit.description,
        homepage=credit.homepage,
        license=credit.license,
        citation=credit.citation,
    )


def read_info(directory: Path) -> "tfds.core.DatasetInfo":
    """What TFDS reads of a data set's metadata, of any tool's; does not import TensorFlow.

    Raises:
      DataError: It is missing or damaged.
    """
    import tensorflow_datasets as tfds

    with _named_errors(directory):
        return tfds.builder_from_directory(directory).info


def stated_credit(info: "tfds.core.DatasetInfo") -> dict[str, str]:
    """What a data set says of itself: its name, and of homepage, license, and citation what it has.

    See `credit.of_tfds`.
    """
    facts = {
        "name": info.name,
        "license": info.redistribution_info.license,
        "citation": info.citation,
        "homepage": info.homepage,
    }
    return {key: value for key, value in facts.items() if value}


def list_files(
    directory: Path, info: "tfds.core.DatasetInfo"
) -> dict[str, tuple[tuple[Path, int], ...]]:
    """The files of each split in order, each with the number of its records.

    Raises:
      DataError: The metadata does not say, or names files elsewhere.
    """
    with _named_errors(directory):
        found = {
            name: tuple(zip(map(Path, split.filepaths), split.shard_lengths, strict=True))
            for name, split in info.splits.items()
        }
    for path, records in itertools.chain.from_iterable(found.values()):
        if path.parent != directory or records < 0:
            raise DataError(
                f"{directory}: dataset_info.json: {path} with {records} records, must be in the "
                "same folder and have 0 or more"
            )
    return found


@contextlib.contextmanager
def _named_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # TFDS does not wrap what its JSON and protobuf parsers raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{directory}: its TFDS metadata cannot be read: {reason}") from None


def require_same(directory: Location, manifest: Manifest) -> None:
    """Compares what TFDS reads with the manifest.

    Raises:
      DataError: Something differs; says what, and where.
    """
    if isinstance(directory, Store):
        with tempfile.TemporaryDirectory() as name:
            copy = Path(name)
            for file in FILE_NAMES:
                try:
                    (copy / file).write_bytes(directory.read(file))
                except MissingError:
                    if file != _LICENSE:
                        raise
            try:
                require_same(copy, manifest)
            except DataError as error:
                raise DataError(str(error).replace(name, str(directory))) from None
        return
    info = read_info(directory)
    found = dict(info.features)
    wanted = _features(manifest)
    require_equal(f"{directory}/features.json: features", sorted(found), sorted(wanted))
    for name, feature in wanted.items():
        place = f"{directory}/features.json: {name}"
        require_equal(place, found[name].to_json(), feature.to_json())
    place = f"{directory}/label.labels.txt: class names"
    require_equal(place, found["label"].names, list(manifest.class_names))
    place = f"{directory}/dataset_info.json:"
    require_equal(f"{place} splits", list(info.splits), list(manifest.splits))
    for split, members in manifest.splits.items():
        listed, lengths = info.splits[split], [shard.records for shard in members]
        require_equal(f"{place} shardLengths of {split}", list(listed.shard_lengths), lengths)
        names = [path.name for path in listed.filepaths]
        require_equal(f"{place} files of {split}", names, [shard.name for shard in members])
        num_bytes = sum(lengths) * manifest.layout.example_bytes
        require_equal(f"{place} numBytes of {split}", int(listed.num_bytes), num_bytes)


def _features(manifest: Manifest) -> "dict[str, tfds.features.FeatureConnector]":
    import tensorflow_datasets as tfds

    side = manifest.layout.side
    return {
        # Without encoding=BYTES a uint8 tensor is read as one varint per pixel.
        "image": tfds.features.Tensor(
            shape=(side, side, 1), dtype=np.uint8, encoding=tfds.features.Encoding.BYTES
        ),
        "label": tfds.features.ClassLabel(names=list(manifest.class_names)),
        "source_row": tfds.features.Scalar(np.int64),
    }
