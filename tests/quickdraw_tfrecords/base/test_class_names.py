"""Tests of quickdraw_tfrecords.base.class_names."""

import pytest
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st

from quickdraw_tfrecords.base import class_names
from quickdraw_tfrecords.base.errors import UsageError


def test_the_names_and_their_order_are_those_of_tfds(tmp_path):
    builder = tfds.builder("quickdraw_bitmap", data_dir=tmp_path)
    assert list(class_names.quickdraw_class_names()) == builder.info.features["label"].names
    assert len(class_names.quickdraw_class_names()) == 345
    assert list(class_names.quickdraw_class_names()) != sorted(class_names.quickdraw_class_names())


@settings(deadline=None)
@given(st.randoms())
def test_any_order_becomes_that_of_tfds(random):
    names = list(class_names.quickdraw_class_names())
    random.shuffle(names)
    assert class_names.in_label_order(names) == class_names.quickdraw_class_names()


@settings(deadline=None)
@given(st.permutations(["zigzag", "cat", "a new one", "Zebra crossing"]))
def test_unknown_names_follow_alphabetically(names):
    expected = ("cat", "zigzag", "Zebra crossing", "a new one")
    assert class_names.in_label_order(names) == expected


def test_all_are_chosen_where_none_are_named():
    assert class_names.select(["zigzag", "cat"], None) == ("cat", "zigzag")


@pytest.mark.parametrize("name", ["", "a/b", "a\\b", "a\0b", ".", ".."])
def test_a_name_unfit_for_a_file_is_refused(name):
    for available, wanted in ((["cat"], [name]), (["cat", name], None)):
        with pytest.raises(UsageError, match="is not a class name"):
            class_names.select(available, wanted)


def test_a_misspelt_name_gets_a_suggestion():
    with pytest.raises(
        UsageError, match=r"'aeroplane'; it has 345 classes. Did you mean 'airplane'"
    ):
        class_names.select(class_names.quickdraw_class_names(), ["aeroplane"])
    with pytest.raises(UsageError, match=r"'qqqq'; it has 345 classes$"):
        class_names.select(class_names.quickdraw_class_names(), ["qqqq"])


def test_names_come_from_the_flag_or_from_a_file(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("The Mona Lisa\n\n  cat  \nfish, dried\n")
    assert class_names.parse_classes(None) is None
    assert class_names.parse_classes([]) is None
    assert class_names.parse_classes([" cat", "dog "]) == ("cat", "dog")
    assert class_names.parse_classes([str(path)]) == ("The Mona Lisa", "cat", "fish, dried")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "cat.npy").write_bytes(b"\x93NUMPY\xff")
    with pytest.raises(UsageError, match=r"--classes=.*cat.npy: not a text file"):
        class_names.parse_classes([str(tmp_path / "cat.npy")])


def test_a_file_of_blank_lines_names_no_class(tmp_path):
    (tmp_path / "classes.txt").write_text("\n \n")
    wanted = class_names.parse_classes([str(tmp_path / "classes.txt")])
    with pytest.raises(UsageError, match="name at least one class"):
        class_names.select(["cat"], wanted)


@pytest.mark.parametrize(
    "name",
    [
        *(" ", " e", "e ", "\u00a0e", "a\nb", "a\rb", "a\u2028b", "a\x85b", "a\tb", "\x1b[2J"),
        *("\u202eevil", "a\u200bb", "\ud800", "\ufeffcat", "x" * 101),
    ],
)
def test_a_name_that_would_shift_labels_or_write_to_terminals_is_refused(name):
    for are_files in (True, False):
        with pytest.raises(UsageError, match="a class name must have 1 to 100 printable") as caught:
            class_names.select(["cat", name], None, are_files=are_files)
        assert str(caught.value).isprintable()
        assert class_names.select(["cat", name], ["cat"], are_files=are_files) == ("cat",)


def test_every_name_of_the_rule_is_a_line_of_its_own():
    names = [f"a{chr(code)}b" for code in range(0x3000) if f"a{chr(code)}b".isprintable()]
    class_names.check([*names, "x" * 100, "Ω 3", "e/f", *class_names.quickdraw_class_names()])
    assert "\n".join(names).splitlines() == names
    assert [name.strip() for name in names] == names
