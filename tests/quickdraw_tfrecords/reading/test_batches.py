"""Batches of NumPy arrays: those of `load`, the caller's own, and no traps."""

import pickle
import tracemalloc

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base import buffers
from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.reading import blocks, chunks
from quickdraw_tfrecords.sources.synthetic import SyntheticSource
from quickdraw_tfrecords.writing import converter
from quickdraw_tfrecords.writing.config import ConvertConfig

Columns = tuple[np.ndarray, ...]
any_cache = pytest.mark.parametrize("cache", ["memory", "none"])


def read(*args, **kwargs) -> list[Columns]:
    return list(qt.batches(*args, **kwargs))


def assert_same(some: list[Columns], others: list[Columns]) -> None:
    assert [len(batch[0]) for batch in some] == [len(batch[0]) for batch in others]
    for batch, other in zip(some, others, strict=True):
        for column, expected in zip(batch, other, strict=True):
            np.testing.assert_array_equal(column, expected)


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_load_gives_the_same_batches(data_dir, data):
    workers = data.draw(st.integers(1, 4))
    worker = data.draw(st.integers(0, workers - 1))
    options = {
        "split": data.draw(st.sampled_from(["train", "validation", "train[30%:]", "train[:100]"])),
        "batch_size": data.draw(st.integers(1, 400)),
        "shuffle": data.draw(st.booleans()),
        "seed": data.draw(st.integers(0, 2**32)),
        "epoch": data.draw(st.integers(0, 1000)),
        "epochs": data.draw(st.integers(1, 2)),
        "start_step": data.draw(st.integers(0, 3)),
        "drop_remainder": data.draw(st.booleans()),
        "cache": data.draw(st.sampled_from(["memory", "none"])),
        "window_mib": data.draw(st.floats(0.001, 1)),
        "with_source_row": data.draw(st.booleans()),
    }
    import tensorflow as tf

    context = tf.distribute.InputContext(workers, worker, workers)
    loaded = list(qt.load(data_dir, **options, input_context=context).as_numpy_iterator())
    found = qt.batches(data_dir, **options, worker=worker, workers=workers)
    batches = list(found)
    assert len(found) == len(batches)
    assert_same(batches, loaded)


@any_cache
def test_batches_have_the_shape_and_type_promised(data_dir, cache):
    batches = read(data_dir, "train", 100, shuffle=True, cache=cache, with_source_row=True)
    assert [images.shape for images, *_ in batches] == [(100, 28, 28, 1)] * 7 + [(20, 28, 28, 1)]
    dtypes = {tuple(column.dtype for column in batch) for batch in batches}
    assert dtypes == {(np.dtype(np.uint8), np.dtype(np.int32), np.dtype(np.int64))}


@any_cache
def test_arrays_are_the_callers_own(data_dir, cache):
    """What is written into one batch is seen in no other, however long it is kept."""
    info = qt.open_dataset(data_dir)
    options = {"shuffle": True, "cache": cache, "window_mib": 0.1}
    expected = [tuple(map(np.copy, batch)) for batch in qt.batches(info, "train", 10, **options)]
    kept = []
    for number, (images, labels) in enumerate(qt.batches(info, "train", 10, **options)):
        np.testing.assert_array_equal(images, expected[number][0])
        np.testing.assert_array_equal(labels, expected[number][1])
        images[:], labels[:] = number, number
        kept.append((images, labels))
    for number, (images, labels) in enumerate(kept):
        assert (images == number).all()
        assert (labels == number).all()
    assert_same(read(info, "train", 10, **options), expected)


@pytest.mark.parametrize("library", ["load", "batches"])
@any_cache
def test_iterating_again_gives_the_next_epoch(data_dir, library, cache):
    options = {"batch_size": 100, "shuffle": True, "seed": 3, "cache": cache}
    found = getattr(qt, library)(data_dir, "train", epoch=4, epochs=2, **options)
    for epoch in (4, 6, 8):
        expected = read(data_dir, "train", epoch=epoch, epochs=2, **options)
        batches = [tuple(map(np.asarray, batch)) for batch in found]
        assert_same(batches, expected)


def test_repeat_gives_a_new_order_each_time(data_dir):
    options = {"batch_size": 100, "shuffle": True}
    repeated = qt.load(data_dir, "train", **options).repeat(3).as_numpy_iterator()
    assert_same(list(repeated), read(data_dir, "train", epochs=3, **options))


@pytest.mark.parametrize("library", ["load", "batches"])
def test_the_order_on_disk_stays(data_dir, library):
    found = getattr(qt, library)(data_dir, "train", 100, start_step=2)
    epochs = [[tuple(map(np.asarray, batch)) for batch in found] for _ in range(2)]
    assert_same(*epochs)


def test_what_begins_within_an_epoch_is_iterated_once(data_dir):
    found = qt.batches(data_dir, "train", 100, shuffle=True, epoch=5, start_step=2)
    assert len(list(found)) == len(found) == 6
    with pytest.raises(UsageError, match=r"start_step=2: can be iterated once.*epoch=6"):
        iter(found)


def test_two_iterations_at_once_are_two_epochs(data_dir):
    options = {"batch_size": 100, "shuffle": True}
    found = qt.batches(data_dir, "train", **options)
    pairs = list(zip(found, found, strict=True))
    assert_same([first for first, _ in pairs], read(data_dir, "train", epoch=0, **options))
    assert_same([second for _, second in pairs], read(data_dir, "train", epoch=1, **options))


@any_cache
def test_an_iteration_may_be_left(data_dir, cache):
    found = qt.batches(data_dir, "train", 10, shuffle=True, epochs=1000, cache=cache)
    for _, batch in zip(range(5), found, strict=False):
        assert len(batch[0]) == 10


def test_source_rows_are_those_of_the_records(data_dir):
    info = qt.open_dataset(data_dir)
    examples = tfds.builder_from_directory(info.directory).as_dataset("train").as_numpy_iterator()
    rows = {(e["image"].tobytes(), int(e["label"]), int(e["source_row"])) for e in examples}
    for cache in ("memory", "none"):
        batches = read(info, "train", 64, shuffle=True, cache=cache, with_source_row=True)
        found = [
            (image.tobytes(), int(label), int(row))
            for batch in batches
            for image, label, row in zip(*batch, strict=True)
        ]
        assert len(found) == 720
        assert set(found) == rows


def test_a_split_is_held_once_with_and_without_rows(data_dir):
    info = qt.open_dataset(data_dir)
    options = {"shuffle": True, "cache": "memory"}
    with_rows = read(info, "train", 64, with_source_row=True, **options)
    assert_same(read(info, "train", 64, **options), [batch[:2] for batch in with_rows])
    assert len(info.split_slice("train").state.columns) == 1


def test_arrays_are_the_whole_split(data_dir):
    images, labels, rows = qt.arrays(data_dir, "test", with_source_row=True)
    (expected,) = read(data_dir, "test", 1000, with_source_row=True)
    assert_same([(images, labels, rows)], [expected])
    images[:] = 7  # and the caller's own
    np.testing.assert_array_equal(qt.arrays(data_dir, "test")[0], expected[0])


def test_an_open_data_set_can_be_sent_to_another_process(data_dir):
    info = qt.open_dataset(data_dir)
    read(info, "train", 100, cache="memory")
    again = pickle.loads(pickle.dumps(info))
    assert again == info
    assert not again.split_slice("train").state.columns
    assert_same(read(again, "test", 100), read(info, "test", 100))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"split": "dev"}, "split='dev': .* has train, validation, test"),
        ({"split": "train[:0]"}, "must be a slice with drawings"),
        ({"batch_size": 0}, "batch_size=0: must be at least 1"),
        ({"workers": 0}, "workers=0: must be at least 1"),
        ({"worker": 2, "workers": 2}, "worker=2: must be below workers=2"),
        ({"worker": -1}, "worker=-1: must be at least 0"),
        ({"cache": "device"}, "cache='device': "),
    ],
)
def test_a_bad_argument_is_named(data_dir, arguments, said):
    with pytest.raises(UsageError, match=said):
        qt.batches(data_dir, **{"split": "train", "batch_size": 10} | arguments)


def test_only_the_first_epoch_has_to_begin_at_once(data_dir):
    """Of those that follow each other in memory; its chunks grow, the others' need not."""
    found = qt.batches(data_dir, "train", 10, shuffle=True, epochs=3, cache="memory")
    sizes = [len(fill()[1]) for fill in found.tasks()]
    assert sizes == [10, 40, 160, 510, 720, 720]


def allocate_by_numpy(size: int) -> np.ndarray:
    """Aligned as TensorFlow wants it."""
    memory = np.empty(size + 64, np.uint8)
    return memory[-memory.ctypes.data % 64 :][:size]


@pytest.mark.parametrize("side", [28, 128])
@pytest.mark.parametrize("library", ["load", "batches"])
def test_streaming_holds_five_windows(tmp_path, pool, monkeypatch, side, library):
    """Of 0.5 MiB each, while 8 MiB and more pass through; NumPy says what it holds."""
    monkeypatch.setattr(blocks, "_READ_BYTES", 2**18)
    monkeypatch.setattr(buffers, "_allocate", allocate_by_numpy)
    per_class = 8 * 2**20 // side**2
    source = SyntheticSource(("cat",), side=side)
    directory = converter.convert(source, tmp_path, ConvertConfig(per_class=per_class), pool=pool)
    window = 2**19
    options = {"shuffle": True, "cache": "none", "window_mib": window / 2**20}
    found, first = (
        getattr(qt, library)(qt.open_dataset(directory), "train", 16, **options) for _ in range(2)
    )
    next(iter(first))  # what is imported and kept for good is no window
    tracemalloc.start()
    try:
        held = tracemalloc.get_traced_memory()[0]
        for _ in found:
            pass
        peak = tracemalloc.get_traced_memory()[1] - held
    finally:
        tracemalloc.stop()
    # And a piece of a block for each thread that reads: the caller reads the first window.
    assert peak < 5 * window + (1 + chunks.AHEAD) * blocks._READ_BYTES + 2**18
