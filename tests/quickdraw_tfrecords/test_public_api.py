"""What `import quickdraw_tfrecords as qt` gives."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

import quickdraw_tfrecords as qt


def test_only_public_names_are_listed():
    assert set(dir(qt)) == {
        "DataError",
        "DatasetInfo",
        "UsageError",
        "__version__",
        "arrays",
        "batches",
        "load",
        "open_dataset",
    }
    for name in dir(qt):
        assert getattr(qt, name)
    with pytest.raises(AttributeError, match="no attribute 'flags'"):
        _ = qt.flags


def test_a_data_set_is_opened_without_tensorflow(data_dir):
    program = (
        "import sys, quickdraw_tfrecords as qt\n"
        f"info = qt.open_dataset({str(data_dir)!r})\n"
        "for cache in ('memory', 'none'):\n"
        "    batches = qt.batches(info, 'train', 64, shuffle=True, cache=cache)\n"
        "    assert sum(len(labels) for _, labels in batches) == 720\n"
        "assert len(qt.arrays(info, 'train')[0]) == 720\n"
        "print(info.num_classes, qt.__version__, 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == f"5 {qt.__version__} False\n", done.stderr


def test_a_data_set_is_shown_in_a_few_lines(data_dir):
    info = qt.open_dataset(data_dir)
    text = repr(info)
    assert len(text.splitlines()) == 4
    assert "5 classes: 'airplane', 'cat', 'The Mona Lisa', ..." in text
    assert "28 x 28" in text
    assert "train 720, validation 80, test 200" in text
    assert info.fingerprint in text
    assert str(info.directory) in text


def test_an_open_data_set_gives_the_batches_of_its_path(data_dir):
    info = qt.open_dataset(data_dir)
    for cache in ("memory", "none"):
        both = [
            list(qt.load(data, "train", 100, shuffle=True, seed=1, epoch=2, cache=cache))
            for data in (info, data_dir)
        ]
        for (images, labels), (other_images, other_labels) in zip(*both, strict=True):
            np.testing.assert_array_equal(images, other_images)
            np.testing.assert_array_equal(labels, other_labels)


def test_an_open_data_set_is_not_looked_for_again(data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path / "copy")
    info = qt.open_dataset(tmp_path / "copy")
    (info.directory / "manifest.json").unlink()
    assert sum(len(labels) for _, labels in qt.load(info, "test", 64)) == 200
