"""Tests of quickdraw verify: every kind of fault, made on purpose, is found and named."""

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.commands import verify
from quickdraw_tfrecords.format import manifest as manifests
from quickdraw_tfrecords.format import shards
from quickdraw_tfrecords.format.manifest import Manifest

TRAIN_1 = "quickdraw-train.tfrecord-00001-of-00006"
TRAIN_2 = "quickdraw-train.tfrecord-00002-of-00006"
TEST_0 = "quickdraw-test.tfrecord-00000-of-00002"


@pytest.fixture
def directory(data_dir, tmp_path) -> Path:
    """A sound data set that a test may damage."""
    return shutil.copytree(data_dir / "quickdraw" / "1.0.0", tmp_path / "1.0.0")


@pytest.fixture
def manifest(directory) -> Manifest:
    return manifests.read_manifest(directory)


def change(path: Path, edit: Callable[[bytearray], None]) -> None:
    content = bytearray(path.read_bytes())
    edit(content)
    path.write_bytes(content)


def rewrite(directory: Path, manifest: Manifest, name: str, matrix: np.ndarray) -> Manifest:
    """Puts other records into a shard and makes the manifest agree."""
    matrix.tofile(directory / name)
    counts = np.bincount(manifest.layout.labels(matrix), minlength=len(manifest.class_names))
    facts = {
        "prefix_crc32c": shards.prefix_crc32c(matrix),
        "bytes": matrix.nbytes,
        "records": len(matrix),
        "class_counts": tuple(counts.tolist()),
    }
    splits = {
        split: tuple(
            dataclasses.replace(shard, **facts) if shard.name == name else shard
            for shard in members
        )
        for split, members in manifest.splits.items()
    }
    manifest = dataclasses.replace(manifest, splits=splits)
    manifests.write_manifest(directory, manifest)
    return manifest


def records(directory: Path, manifest: Manifest, name: str) -> np.ndarray:
    """uint8[records, stride] of a shard."""
    return np.fromfile(directory / name, np.uint8).reshape(-1, manifest.layout.stride)


def verify_command(data_dir: Path) -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        "-m",
        "quickdraw_tfrecords.commands.verify",
        f"--data_dir={data_dir}",
    ]
    root = Path(__file__).parents[3]
    return subprocess.run(command, cwd=root, capture_output=True, text=True)


def test_a_sound_data_set_passes_with_a_table_of_its_splits(data_dir):
    done = verify_command(data_dir)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[:3] for row in rows[1:4]] == [
        ["train", "6", "720"],
        ["validation", "1", "80"],
        ["test", "2", "200"],
    ]
    assert all(row[-1] == "ok" for row in rows[1:4])


def test_a_damaged_data_set_fails_in_one_line(directory):
    change(directory / TRAIN_1, lambda content: content.__setitem__(500, content[500] ^ 1))
    done = verify_command(directory)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"error: {directory / TRAIN_1}: record 0 (at byte 0)" in done.stderr
    assert "train" not in done.stdout


def test_verifying_imports_no_tensorflow(data_dir):
    program = (
        "import sys; from pathlib import Path; from quickdraw_tfrecords.commands import verify\n"
        f"verify.verify(Path({str(data_dir)!r})); print('tensorflow' in sys.modules)"
    )
    root = Path(__file__).parents[3]
    run = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert run.stdout.splitlines()[-1] == "False", run.stderr


@pytest.mark.parametrize("part", ["length", "length CRC", "image", "label", "source_row", "CRC"])
@pytest.mark.parametrize("record", [0, 17, -1])
def test_a_flipped_bit_is_found_and_its_record_named(directory, manifest, part, record):
    layout = manifest.layout
    record %= shards_of(manifest)[TRAIN_1].records
    column = {
        "length": 0,
        "length CRC": 9,
        "image": layout.image.offset + 300,
        "label": layout.label.offset,
        "source_row": layout.source_row.offset,
        "CRC": layout.stride - 1,
    }
    offset = record * layout.stride + column[part]
    change(directory / TRAIN_1, lambda content: content.__setitem__(offset, content[offset] ^ 2))
    place = rf"{TRAIN_1}: record {record} \(at byte {record * layout.stride}\) is damaged"
    with pytest.raises(DataError, match=place):
        verify.verify(directory)


def shards_of(manifest: Manifest) -> dict[str, shards.ShardInfo]:
    return {shard.name: shard for members in manifest.splits.values() for shard in members}


@pytest.mark.parametrize("difference", [-1, -900, +1])
def test_another_length_is_found(directory, manifest, difference):
    size = shards_of(manifest)[TRAIN_1].bytes
    change(directory / TRAIN_1, lambda content: content.extend(b"?"))
    with open(directory / TRAIN_1, "rb+") as file:
        file.truncate(size + difference)
    with pytest.raises(DataError, match=rf"{TRAIN_1}: {size + difference:,} bytes, the manifest"):
        verify.verify(directory)


def test_a_record_too_many_is_found(directory, manifest):
    change(directory / TEST_0, lambda content: content.extend(content[: manifest.layout.stride]))
    with pytest.raises(DataError, match=rf"{TEST_0}: .* bytes, the manifest says"):
        verify.verify(directory)


def test_two_shards_in_each_others_place_are_found(directory, manifest):
    first, second = (directory / name for name in (TRAIN_1, TRAIN_2))
    assert first.stat().st_size == second.stat().st_size
    first.rename(directory / "aside")
    second.rename(first)
    (directory / "aside").rename(second)
    with pytest.raises(DataError, match=rf"{TRAIN_1}: every record is sound, but .* CRC32C"):
        verify.verify(directory)


def test_a_missing_shard_is_named(directory):
    (directory / TRAIN_2).unlink()
    with pytest.raises(DataError, match=rf"{TRAIN_2}: missing"):
        verify.verify(directory)


@pytest.mark.parametrize(
    "name",
    [
        "quickdraw-train.tfrecord-00000-of-00007",
        f".{TRAIN_1}.123.tmp",
        "notes.txt",
    ],
)
def test_a_file_too_many_is_named(directory, name):
    (directory / name).write_bytes(b"")
    with pytest.raises(DataError, match=rf"{name}: not part of the data set"):
        verify.verify(directory)


def test_an_edited_manifest_is_found(directory):
    path = directory / "manifest.json"
    path.write_text(path.read_text().replace('"seed": 3', '"seed": 4'))
    with pytest.raises(DataError, match=r"manifest\.json: damaged"):
        verify.verify(directory)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("dataset_info.json", '"name": "test"', '"name": "tests"', r"splits\[2\]: 'tests'"),
        ("dataset_info.json", '"120"', '"121"', r"shardLengths of train\[0\]: 121, must be 120"),
        ("dataset_info.json", '"numBytes": "', '"numBytes": "1', "numBytes of train: 1"),
        ("dataset_info.json", '"shardLengths"', '"shards"', "metadata cannot be read"),
        ("features.json", '"bytes"', '"none"', r"features\.json: image"),
        ("features.json", '"source_row"', '"row"', r"features\.json: features\[2\]"),
        ("label.labels.txt", "cat", "dog", r"class names\[1\]: 'dog', must be 'cat'"),
    ],
)
def test_edited_metadata_is_found(directory, file, old, new, message):
    path = directory / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        verify.verify(directory)


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json", "label.labels.txt"])
def test_missing_metadata_is_found(directory, file):
    (directory / file).unlink()
    with pytest.raises(DataError, match=r"metadata cannot be read|label\.labels\.txt"):
        verify.verify(directory)


@pytest.mark.parametrize("into", [TEST_0, TRAIN_2])
def test_a_drawing_in_two_places_is_found_though_all_checksums_hold(directory, manifest, into):
    matrix = records(directory, manifest, TRAIN_1)
    copies = records(directory, manifest, into)
    label = manifest.layout.labels(matrix)[5]
    target = int(np.flatnonzero(manifest.layout.labels(copies) == label)[3])
    copies[target] = matrix[5]
    rewrite(directory, manifest, into, copies)
    name = manifest.class_names[label]
    row = manifest.layout.source_rows(matrix)[5]
    stride = manifest.layout.stride
    with pytest.raises(DataError, match=f"drawing {row} of class '{name}' is there more") as error:
        verify.verify(directory)
    assert f"{TRAIN_1}: record 5 (at byte {5 * stride})" in str(error.value)
    assert f"{into}: record {target} (at byte {target * stride})" in str(error.value)


def test_counts_other_than_were_asked_for_are_found_though_all_checksums_hold(directory, manifest):
    matrix = records(directory, manifest, TRAIN_1)
    layout = manifest.layout
    labels, rows = layout.labels(matrix), layout.source_rows(matrix)
    labels[0] = (labels[0] + 1) % 5
    rewrite(directory, manifest, TRAIN_1, layout.encode(layout.images(matrix), labels, rows))
    with pytest.raises(DataError, match=r"drawings of each class\[\d\]: 200, must be (199|201)"):
        verify.verify(directory)


def test_class_counts_of_a_shard_are_compared_with_its_records(directory, manifest):
    train = list(manifest.splits["train"])
    first, second, *others = train[0].class_counts
    train[0] = dataclasses.replace(train[0], class_counts=(first + 1, second - 1, *others))
    first, second, *others = train[1].class_counts
    train[1] = dataclasses.replace(train[1], class_counts=(first - 1, second + 1, *others))
    splits = {**manifest.splits, "train": tuple(train)}
    manifests.write_manifest(directory, dataclasses.replace(manifest, splits=splits))
    with pytest.raises(DataError, match=rf"{train[0].name}: drawings of each class\[0\]"):
        verify.verify(directory)


def test_an_unfinished_conversion_is_told(directory, manifest):
    manifests.write_manifest(directory, dataclasses.replace(manifest, splits={}))
    with pytest.raises(DataError, match="conversion was not finished"):
        verify.verify(directory)


def test_a_data_set_of_another_tool_has_nothing_to_verify_against(directory):
    (directory / "manifest.json").unlink()
    with pytest.raises(DataError, match=r"has no manifest\.json, because another tool"):
        verify.verify(directory)


def test_no_data_set_is_told(tmp_path):
    with pytest.raises(DataError, match="no such directory"):
        verify.verify(tmp_path / "nowhere")
