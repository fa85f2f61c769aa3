"""Tests of quickdraw audit, against numpy.unique and counting one by one."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from quickdraw_tfrecords.audit import findings, sheet
from quickdraw_tfrecords.audit.catalogue import Catalogue
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.bitmaps import quality
from quickdraw_tfrecords.commands import audit as audit
from quickdraw_tfrecords.format import manifest as manifests
from quickdraw_tfrecords.format import shards
from quickdraw_tfrecords.format.manifest import Manifest
from quickdraw_tfrecords.format.records import RecordLayout
from quickdraw_tfrecords.format.shards import ShardInfo
from quickdraw_tfrecords.sources.numpy_bitmap import NumpyBitmapSource
from quickdraw_tfrecords.writing import converter
from quickdraw_tfrecords.writing.config import ConvertConfig

CLASS_NAMES = ("airplane", "The Mona Lisa", "cat")
SPLITS = ("train", "validation", "test")


def write_dataset(directory: Path, split_images: list[list[np.ndarray]], side: int) -> Manifest:
    """Writes the shards of each split and the manifest; labels are 0, 1, 2, 0, 1, ...

    Args:
      directory: Where to.
      split_images: For each split and shard of it uint8[n, side * side].
      side: Of a drawing.
    """
    layout = RecordLayout.create(side=side, max_label=len(CLASS_NAMES) - 1, max_source_row=999)
    row, members = 0, {}
    for split, shard_images in zip(SPLITS, split_images, strict=True):
        members[split] = []
        for index, images in enumerate(shard_images):
            rows = np.arange(row, row + len(images))
            matrix = layout.encode(images, rows % len(CLASS_NAMES), rows)
            name = shards.shard_name(split, index, len(shard_images))
            matrix.tofile(directory / name)
            counts = np.bincount(rows % len(CLASS_NAMES), minlength=len(CLASS_NAMES))
            members[split].append(ShardInfo.of(name, matrix, counts))
            row += len(images)
    request = {
        "source": {"kind": "numpy_bitmap"},
        "class_names": list(CLASS_NAMES),
        "drawings": np.bincount(np.arange(row) % len(CLASS_NAMES), minlength=3).tolist(),
        "test_fraction": 0.2,
        "validation_fraction": 0.1,
        "shards": {split: len(images) for split, images in members.items()},
        "seed": 0,
    }
    manifest = Manifest(request, layout, {k: tuple(v) for k, v in members.items()})
    manifests.write_manifest(directory, manifest)
    return manifest


def audited(directory: Path) -> tuple[Catalogue, findings.Findings]:
    catalogue = Catalogue.read(directory, manifests.read_manifest(directory))
    return catalogue, findings.find(catalogue)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.tuples(*[st.lists(st.integers(1, 12), min_size=1, max_size=3)] * 3),
    distinct=st.integers(1, 40),
    weak=st.booleans(),
)
def test_every_count_is_that_of_counting_one_by_one(tmp_path_factory, seed, sizes, distinct, weak):
    random = np.random.default_rng(seed)
    pool = random.integers(0, 80, (distinct, 9), np.uint8)
    pool[random.random(distinct) < 0.1] = 0
    pool[random.random(distinct) < 0.1, 1:] = 0
    pool[random.random(distinct) < 0.1] += 120
    split_images = [
        [pool[random.integers(0, distinct, size)] for size in of_split] for of_split in sizes
    ]
    directory = tmp_path_factory.mktemp("data")
    write_dataset(directory, split_images, side=3)
    with pytest.MonkeyPatch.context() as patch:
        if weak:  # collisions everywhere
            patch.setattr(quality, "fingerprints", lambda images: images[:, 0].astype(np.uint64))
        catalogue, found = audited(directory)
    images = np.concatenate([shard for of_split in split_images for shard in of_split])
    labels = np.arange(len(images)) % 3
    split_of = np.repeat(range(3), [sum(of_split) for of_split in sizes])
    drawings = [(image.tobytes(), label) for image, label in zip(images, labels, strict=True)]
    ink = images.mean(axis=1) / 255
    expected = {
        "blank": ~images.any(axis=1),
        "nearly_blank": images.any(axis=1) & (ink < 0.02),
        "overfull": ink > 0.5,
        "duplicates": [drawing in drawings[:i] for i, drawing in enumerate(drawings)],
        "ambiguous": [any(d[0] == e[0] and d[1] != e[1] for e in drawings) for d in drawings],
        "leaked": [
            any(e == d and split_of[j] < split_of[i] for j, e in enumerate(drawings))
            for i, d in enumerate(drawings)
        ],
    }
    assert list(expected) == list(findings.MEANINGS)
    for kind, mask in expected.items():
        np.testing.assert_array_equal(found.masks[kind], mask, err_msg=kind)
    unique, counts = np.unique(images, axis=0, return_counts=True)
    assert sum(expected["duplicates"]) == len(drawings) - len(set(drawings))
    assert Counter(Counter(found.twins.groups.tolist()).values()) == Counter(
        counts[counts > 1].tolist()
    )
    assert len(found.twins.members) == counts[counts > 1].sum()
    seen = {
        ("validation", "train"): (1, (0,)),
        ("test", "train"): (2, (0,)),
        ("test", "validation"): (2, (1,)),
        ("test", "train or validation"): (2, (0, 1)),
    }
    for key, (later, earlier) in seen.items():
        before = [d for d, split in zip(drawings, split_of, strict=True) if split in earlier]
        ours = [d for d, split in zip(drawings, split_of, strict=True) if split == later]
        same = sum(d in before for d in ours)
        other = sum(any(d[0] == e[0] and d[1] != e[1] for e in before) for d in ours)
        assert found.seen[key] == (same, other), key
    assert found.seen.keys() == seen.keys()
    assert len(unique) == len({image for image, _ in drawings})
    some = np.flatnonzero(random.random(len(images)) < 0.5)
    if len(some):
        np.testing.assert_array_equal(catalogue.images(some).reshape(len(some), 9), images[some])
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    """Drawings of 28 pixels a side, with faults at known places. Do not change it."""
    random = np.random.default_rng(5)
    images = random.integers(0, 128, (60, 784), np.uint8)
    images[[8, 33]] = 0  # class 2, train and validation; class 0
    images[4, 3:] = 0  # class 1
    images[[10, 13, 40, 55]] = images[1]  # class 1, train, train, validation and test
    images[50] = images[15]  # class 2 and 0
    images[7] |= 128
    path = tmp_path_factory.mktemp("audit") / "1.0.0"
    path.mkdir()
    write_dataset(path, [[images[:20], images[20:30]], [images[30:45]], [images[45:]]], side=28)
    return path


def run(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "quickdraw_tfrecords.commands.audit", *map(str, arguments)]
    root = Path(__file__).parents[3]
    return subprocess.run(command, cwd=root, capture_output=True, text=True)


def test_the_command_says_what_it_found_and_draws_it(directory, tmp_path):
    done = run(f"--data_dir={directory}", f"--png={tmp_path}/sheet")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == [f"{directory}:", "60", "drawings", "of", "3", "classes"]
    assert ["blank", "2", "3.3333%", "no", "ink", "at", "all"] in lines
    for line in (
        ["validation,", "seen", "in", "train", "1", "1"],
        ["test,", "seen", "in", "train", "1", "1"],
        ["test,", "seen", "in", "validation", "1", "0"],
        ["test,", "seen", "in", "train", "or", "validation", "1", "1"],
        ["airplane", "20", "1", "0", "0", "0", "2", "0"],
        ["The", "Mona", "Lisa", "20", "0", "1", "1", "4", "0", "2"],
        ["cat", "20", "1", "0", "0", "0", "2", "0"],
    ):
        assert line in lines
    assert lines[-1] == ["nothing", "of", "the", "kind", "in", "0", "of", "3", "classes"]
    with Image.open(tmp_path / "sheet") as image:
        assert image.format == "PNG"


def test_json_names_every_drawing(directory):
    done = run(f"--data_dir={directory}", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["counts"] == {
        "blank": 2,
        "nearly_blank": 1,
        "overfull": 1,
        "duplicates": 4,
        "ambiguous": 4,
        "leaked": 2,
    }
    assert found["classes"]["The Mona Lisa"]["duplicates"] == 4
    places = {
        kind: [(d["class"], d["split"], d["position"], d["source_row"]) for d in drawings]
        for kind, drawings in found["found"].items()
    }
    assert places == {
        "blank": [("cat", "train", 8, 8), ("airplane", "validation", 3, 33)],
        "nearly_blank": [("The Mona Lisa", "train", 4, 4)],
        "overfull": [("The Mona Lisa", "train", 7, 7)],
    }
    twins = [[drawing["source_row"] for drawing in group] for group in found["twins"]]
    assert twins == [[1, 10, 13, 40, 55], [8, 33], [15, 50]]
    assert found["twins"][0][4] == {
        "class": "The Mona Lisa",
        "split": "test",
        "position": 10,
        "source_row": 55,
        "ink": pytest.approx(0.25, abs=0.02),
    }


def cells_of(directory: Path, limit: int) -> dict[str, list[sheet._Cell]]:
    return {
        title.split(" (")[0]: cells for title, cells in sheet._sections(*audited(directory), limit)
    }


def test_the_sheet_has_each_drawing_under_its_gravest_kind_with_where_it_stands(directory):
    cells = cells_of(directory, 24)
    assert {kind: [cell.position for cell in found] for kind, found in cells.items()} == {
        "leaked": [1],
        "ambiguous": [8, 15],
        "overfull": [7],
        "nearly_blank": [4],
        "blank": [8, 33],
    }
    # A place in each split comes before a second one in train.
    assert cells["leaked"][0].lines == [
        "The Mona Lisa · train 1 · row 1",
        "The Mona Lisa · validation 10 · row 40",
        "The Mona Lisa · test 10 · row 55",
        "The Mona Lisa · train 10 · row 10",
        "and 1 more",
    ]
    assert cells["nearly_blank"][0].lines[:3] == ["The Mona Lisa", "train 4", "row 4"]
    assert [len(found) for found in cells_of(directory, 1).values()] == [1] * 5


def test_the_worst_come_first_on_the_sheet(tmp_path):
    images = np.random.default_rng(0).integers(0, 128, (60, 100), np.uint8)
    images[[3, 6]], images[[12, 15, 18]], images[[21, 24]] = images[3], images[12], images[21]
    images[30:33] = [[150], [170], [160]]
    images[40:43] = 0
    images[40:43, 0] = 200, 100, 150
    write_dataset(tmp_path, [[images], [images[50:51]], [images[51:52]]], side=10)
    cells = cells_of(tmp_path, 24)
    indices = {kind: [cell.position for cell in found] for kind, found in cells.items()}
    assert indices["duplicates"] == [12, 3, 21]
    assert indices["overfull"] == [31, 32, 30]
    assert indices["nearly_blank"] == [41, 42, 40]


def test_the_sheet_shows_the_drawings_magnified_thrice(directory):
    catalogue, found = audited(directory)
    drawn = np.asarray(sheet.draw(catalogue, found, limit=24))
    windows = np.lib.stride_tricks.sliding_window_view(drawn, (84, 84))
    for image in catalogue.images(np.array([1, 7, 15])):
        magnified = (255 - image).repeat(3, axis=0).repeat(3, axis=1)
        candidates = np.argwhere((windows[:, :, 0] == magnified[0]).all(axis=2))
        assert sum(np.array_equal(windows[y, x], magnified) for y, x in candidates) == 1


@pytest.mark.parametrize("side", [3, 64, 128])
def test_drawings_of_any_size_are_drawn(tmp_path, side):
    random = np.random.default_rng(0)
    images = random.integers(0, 128, (9, side * side), np.uint8)
    images[5] = images[2]
    write_dataset(tmp_path, [[images[:3]], [images[3:6]], [images[6:]]], side=side)
    catalogue, found = audited(tmp_path)
    assert found.masks["leaked"].nonzero()[0].tolist() == [5]
    assert sheet.draw(catalogue, found, limit=3).height > side


def test_a_data_set_without_faults_says_so(tmp_path):
    images = np.random.default_rng(0).integers(0, 128, (9, 16), np.uint8)
    write_dataset(tmp_path, [[images[:3]], [images[3:6]], [images[6:]]], side=4)
    catalogue, found = audited(tmp_path)
    assert audit.describe(catalogue, found).endswith("nothing of the kind in 3 of 3 classes")
    assert audit.to_json(catalogue, found)["twins"] == []
    assert sheet.draw(catalogue, found, limit=3).height > 0


def test_a_damaged_shard_is_one_line(directory, tmp_path):
    shutil.copytree(directory, tmp_path / "data")
    name = shards.shard_name("test", 0, 1)
    content = bytearray((tmp_path / "data" / name).read_bytes())
    content[500] ^= 1
    (tmp_path / "data" / name).write_bytes(content)
    done = run(f"--data_dir={tmp_path}/data")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path}/data/{name}: its bytes differ")


def test_a_data_set_of_another_tool_is_one_line(data_dir, tmp_path):
    shutil.copytree(data_dir / "quickdraw" / "1.0.0", tmp_path / "other")
    (tmp_path / "other" / "manifest.json").unlink()
    with pytest.raises(DataError, match=r"has no manifest\.json, because another .* --source=tfds"):
        manifests.read_manifest(tmp_path / "other")


def test_auditing_imports_no_tensorflow(directory):
    program = (
        "import sys; from pathlib import Path\n"
        "from quickdraw_tfrecords.audit import findings\n"
        "from quickdraw_tfrecords.audit.catalogue import Catalogue\n"
        "from quickdraw_tfrecords.commands import audit\n"
        "from quickdraw_tfrecords.format import manifest\n"
        f"path = Path({str(directory)!r})\n"
        "findings.find(Catalogue.read(path, manifest.read_manifest(path)))\n"
        "print('tensorflow' in sys.modules)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False", done.stderr


def test_what_drop_leaves_has_no_faults_of_its_kind(tmp_path, pool):
    for seed, name in enumerate(("cat", "tree")):
        random = np.random.default_rng(seed)
        images = random.integers(0, 128, (60, 784), np.uint8)[random.integers(0, 60, 90)]
        images[:3], images[3:5, 1:], images[5:7] = 0, 0, 255
        np.save(tmp_path / f"{name}.npy", images)
    source, drop = NumpyBitmapSource.open(tmp_path), tuple(quality.MEANINGS)
    with_all = ConvertConfig(per_class=None, shards=3)
    without = ConvertConfig(per_class=None, shards=3, drop=drop)
    for number, chosen in enumerate((with_all, without)):
        found = audited(converter.convert(source, tmp_path / str(number), chosen, pool=pool))[1]
        assert all(found.masks[kind].any() == (chosen is with_all) for kind in drop)
