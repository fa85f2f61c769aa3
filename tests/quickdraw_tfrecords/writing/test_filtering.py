"""Tests of quickdraw_tfrecords.writing.filtering, against drawings looked at one by one."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quickdraw_tfrecords.bitmaps import quality
from quickdraw_tfrecords.format import manifest as manifests
from quickdraw_tfrecords.format.records import RecordLayout
from quickdraw_tfrecords.writing import filtering, planning

KINDS = tuple(quality.MEANINGS)


@dataclasses.dataclass(frozen=True)
class Arrays:
    """A source of drawings in memory."""

    images: tuple[np.ndarray, ...]  # of each class, uint8[n, side * side]

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(f"class {label}" for label in range(len(self.images)))

    @property
    def counts(self) -> tuple[int, ...]:
        return tuple(map(len, self.images))

    @property
    def side(self) -> int:
        return round(self.images[0].shape[1] ** 0.5)

    def read(self, label: int, rows: np.ndarray) -> np.ndarray:
        assert (np.diff(rows) > 0).all()
        return self.images[label][rows]

    def source_rows(self, label: int, rows: np.ndarray) -> np.ndarray:
        return rows

    def describe(self) -> dict[str, Any]:
        return {"kind": "arrays"}


def faulty_drawings(seed: int, count: int, distinct: int) -> np.ndarray:
    """uint8[count, 9 * 9]: blank, nearly blank, overfull and sound ones, many of them twins."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 60, (distinct, 81), np.uint8)
    images[random.random(distinct) < 0.1] = 0
    images[random.random(distinct) < 0.1, 1:] = 0
    images[random.random(distinct) < 0.1] += 150
    return images[random.integers(0, distinct, count)]


def take_one_by_one(
    images: np.ndarray, order: np.ndarray, wanted: int, drop: tuple[str, ...]
) -> tuple[list[int], dict[str, int]]:
    kept, seen, dropped = [], set(), dict.fromkeys(drop, 0)
    for row in order:
        if len(kept) == wanted:
            break
        image, share = images[row], images[row].mean() / 255
        facts = {
            "blank": not image.any(),
            "nearly_blank": image.any() and share < quality.NEARLY_BLANK,
            "overfull": share > quality.OVERFULL,
            "duplicates": image.tobytes() in seen,
        }
        fault = next((kind for kind in drop if facts[kind]), None)
        seen.add(image.tobytes())
        if fault:
            dropped[fault] += 1
        else:
            kept.append(int(row))
    return sorted(kept), dropped


def make_filter(images: np.ndarray, drop: tuple[str, ...], seed: int) -> filtering.DrawingFilter:
    return filtering.DrawingFilter(Arrays((images,)), drop, seed, Path("unused"))


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 120),
    distinct=st.integers(1, 120),
    share=st.floats(0, 1),
    drop=st.lists(st.sampled_from(KINDS), unique=True, min_size=1).map(
        lambda chosen: tuple(kind for kind in KINDS if kind in chosen)
    ),
    chunk_drawings=st.integers(1, 30),
    least_more=st.integers(1, 5),
)
def test_takes_what_looking_one_by_one_takes(
    seed, count, distinct, share, drop, chunk_drawings, least_more
):
    images, wanted = faulty_drawings(seed, count, distinct), max(1, round(share * count))
    order = planning.drawing_order("class 0", count, wanted, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filtering, "_CHUNK_BYTES", chunk_drawings * 81)
        patch.setattr(filtering, "_LEAST_MORE", least_more)
        label, rows, dropped = make_filter(images, drop, seed).take((0, wanted))
    assert (label, rows.tolist(), dropped) == (0, *take_one_by_one(images, order, wanted, drop))


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 50), data=st.data())
def test_the_order_begins_with_what_is_taken_without_a_sieve(seed, count, data):
    wanted = data.draw(st.integers(1, count))
    order = planning.drawing_order("cat", count, wanted, seed=seed)
    assert sorted(order) == list(range(count))
    rows = planning.draw("cat", count, wanted, seed=seed)
    np.testing.assert_array_equal(order[:wanted], rows)


def test_of_a_whole_class_the_lowest_row_of_each_drawing_stays():
    images = np.random.default_rng(0).integers(0, 100, (20, 81), np.uint8)
    images[[3, 11, 17]] = images[3]
    _, rows, dropped = make_filter(images, ("duplicates",), 5).take((0, 20))
    assert rows.tolist() == [row for row in range(20) if row not in (11, 17)]
    assert dropped == {"duplicates": 2}


def test_classes_are_put_together_in_order_and_twins_of_two_classes_both_stay(pool):
    images = tuple(faulty_drawings(seed, 40, 30) for seed in range(4))
    images[1][:] = images[0]
    source, drop = Arrays(images), ("blank", "duplicates")
    wanted = planning.Selection(source.class_names, source.counts, (40,) * 4, seed=1)
    selection, dropped = filtering.select(source, wanted, drop=drop, pool=pool)
    expected = [take_one_by_one(of_class, np.arange(40), 40, drop) for of_class in images]
    for label, (kept, of_class) in enumerate(expected):
        assert selection.rows(label).tolist() == kept
        assert selection.takes[label] == len(kept)
        assert {kind: counts[label] for kind, counts in dropped.items()} == of_class
    assert selection.rows(0).tolist() == selection.rows(1).tolist()


def test_what_was_dropped_is_a_table_of_the_classes_that_lost_some():
    request = {
        "class_names": ["cat", "The Mona Lisa", "tree"],
        "drop": {"blank": [0, 1, 0], "duplicates": [0, 1200, 34]},
    }
    layout = RecordLayout.create(side=28, max_label=2, max_source_row=9)
    text = filtering.describe(manifests.Manifest(request, layout, splits={}))
    assert [line.rsplit(maxsplit=2) for line in text.splitlines()] == [
        ["dropped", "blank", "duplicates"],
        ["The Mona Lisa", "1", "1,200"],
        ["tree", "0", "34"],
        ["in all", "1", "1,234"],
    ]
