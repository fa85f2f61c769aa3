"""Settings and the flags made of them."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import hypothesis
import pytest
from absl import flags
from hypothesis import given
from hypothesis import strategies as st

from quickdraw_tfrecords.base import setting_flags, settings
from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.settings import REQUIRED, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """One setting of each kind."""

    data_dir: Path = setting(REQUIRED, "Required.", group="data")
    cache_dir: Path | None = setting(None, "A path.", group="data")
    folder: Path = setting(Path("a folder"), "A path.")
    overwrite: bool = setting(False, "A switch.", group="data")
    report: bool = setting(True, "A switch that is on.")
    name: str = setting("some name", "Text.")
    note: str | None = setting(None, "Text.")
    note_that_is: str | None = setting("a default", "Text.")
    cache: Literal["auto", "memory"] = setting("auto", "Where.")
    model: str = setting("cnn", "Which.", choices=("cnn", "mlp"))
    epochs: int = setting(30, "How many.", minimum=1, maximum=10**9)
    seed: int | None = setting(None, "Any.", minimum=0)
    rate: float = setting(1e-3, "How fast.", above=0, below=10)
    decay: float | None = setting(0.5, "How fast.", minimum=0)
    kinds: tuple[str, ...] = setting((), "Some.")
    kinds_that_are: tuple[str, ...] = setting(("a", "b"), "Some.")
    steps: tuple[int, ...] = setting((), "Some.", minimum=1)

    def __post_init__(self) -> None:
        settings.normalize(self)


def parse(*arguments: str, settings_class: type[Any] = Example) -> Any:
    values = flags.FlagValues()
    setting_flags.define_flags(settings_class, values)
    flags.DEFINE_string("flagfile", "", "", flag_values=values)
    assert values(["command", *arguments]) == ["command"]
    return setting_flags.from_flags(settings_class, values)


line = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20).map(str.strip)
path = line.filter(bool).map(Path).filter(lambda value: str(value) == str(value).strip())
examples = st.builds(
    Example,
    data_dir=path,
    cache_dir=st.none() | path,
    folder=path,
    overwrite=st.booleans(),
    report=st.booleans(),
    name=line,
    note=st.none() | line.filter(bool),
    note_that_is=st.none() | line.filter(bool),
    cache=st.sampled_from(["auto", "memory"]),
    model=st.sampled_from(["cnn", "mlp"]),
    epochs=st.integers(1, 10**9),
    seed=st.none() | st.integers(0),
    rate=st.floats(0, 10, exclude_min=True, exclude_max=True),
    decay=st.none() | st.floats(0, allow_infinity=False),
    kinds=st.lists(line, max_size=3).map(tuple),
    kinds_that_are=st.lists(line, max_size=3).map(tuple),
    steps=st.lists(st.integers(1), max_size=3).map(tuple),
)


@hypothesis.settings(deadline=None)
@given(example=examples)
def test_a_flagfile_gives_back_the_same_settings(tmp_path_factory, example):
    settings.check(example)
    flagfile = tmp_path_factory.getbasetemp() / "flags.txt"
    flagfile.write_text(settings.to_flagfile(example), encoding="utf-8")
    assert parse(f"--flagfile={flagfile}") == example


def test_what_is_none_or_empty_is_left_out_of_a_flagfile():
    text = settings.to_flagfile(Example(data_dir="data", overwrite=True, report=False))
    assert text.splitlines() == [
        "--data_dir=data", "--folder=a folder", "--overwrite", "--noreport", "--name=some name",
        "--note_that_is=a default", "--cache=auto", "--model=cnn", "--epochs=30", "--rate=0.001",
        "--decay=0.5", '--kinds_that_are=a,b',
    ]  # fmt: skip


def test_some_settings_can_be_left_out_of_a_flagfile():
    text = settings.to_flagfile(Example(data_dir="data"), exclude=("data_dir", "report"))
    assert text.startswith("--folder=a folder\n--nooverwrite\n--name=some name\n")


def test_flags_give_typed_values():
    found = parse(
        "--data_dir=a/b", "--steps=3, 5", "--kinds=x,y", "--decay=", "--note=", "--rate=2"
    )
    expected = Example(
        data_dir=Path("a/b"), steps=(3, 5), kinds=("x", "y"), decay=None, note=None, rate=2.0
    )
    assert found == expected
    assert isinstance(found.rate, float)


def test_paths_may_be_strings_and_tuples_lists():
    example = Example(data_dir="data", cache_dir="cache", steps=[1, 2])
    assert example.data_dir == Path("data")
    assert example.cache_dir == Path("cache")
    assert example.steps == (1, 2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "--epochs=0: must be at least 1"),
        ({"epochs": 2 * 10**9}, "--epochs=2000000000: must be at most 1000000000"),
        ({"epochs": 1.5}, "--epochs=1.5: must be a whole number"),
        ({"epochs": True}, "--epochs=True: must be a whole number"),
        ({"epochs": None}, "--epochs=: must be a whole number"),
        ({"overwrite": 1}, "--overwrite=1: must be true or false"),
        ({"rate": 0}, "--rate=0: must be above 0"),
        ({"rate": 10.0}, "--rate=10.0: must be below 10"),
        ({"rate": float("nan")}, "--rate=nan: must be a finite number"),
        ({"decay": float("inf")}, "--decay=inf: must be a finite number"),
        ({"decay": "x"}, "--decay=x: must be a number"),
        ({"cache": "disk"}, "--cache=disk: must be one of auto, memory"),
        ({"model": "x"}, "--model=x: must be one of cnn, mlp"),
        ({"steps": (3, 0)}, "--steps=0: must be at least 1"),
        ({"steps": 3}, "--steps=3: must be a tuple"),
        ({"kinds": ("a", 1)}, "--kinds=1: must be text"),
        ({"name": "a\nb"}, "--name=a\nb: must be one line without spaces at its ends"),
        ({"data_dir": 3}, "--data_dir=3: must be a path"),
    ],
)
def test_a_value_that_is_impossible_is_refused_by_name(values, message):
    with pytest.raises(UsageError) as error:
        settings.check(Example(**{"data_dir": "data", **values}))
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--epochs=0", "--epochs=0: must be at least 1"),
        ("--epochs=x", "flag --epochs=x: must be a whole number"),
        ("--steps=1,x", "flag --steps=1,x: must be a whole number"),
        ("--rate=x", "flag --rate=x: must be a number"),
        ("--data_dir=", "--data_dir is required"),
        ("--folder=", "flag --folder=: must be a path"),
        ("--cache=disk", "--cache=disk: must be one of auto, memory"),
    ],
)
def test_flags_are_held_to_the_same_rules(argument, message):
    with pytest.raises((UsageError, flags.IllegalFlagValueError)) as error:
        parse("--data_dir=data", argument)
    assert str(error.value) == message


def test_a_required_setting_has_to_be_given():
    with pytest.raises(UsageError, match="--data_dir is required"):
        parse("--epochs=3")
    with pytest.raises(TypeError, match="data_dir"):
        Example()


def test_flags_are_grouped_and_described():
    values = flags.FlagValues()
    setting_flags.define_flags(Example, values)
    groups = values.flags_by_module_dict()
    assert [flag.name for flag in groups["data"]] == ["data_dir", "cache_dir", "overwrite"]
    assert "epochs" in [flag.name for flag in groups["settings"]]
    assert values["epochs"].help == "How many."
    assert values["cache"].help == "<auto|memory>: Where."
    assert values["rate"].default_as_str == "'0.001'"


def test_what_cannot_be_a_setting_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Wrong:
        value: dict[str, int] = setting(None, "None.")

    with pytest.raises(TypeError, match="a setting cannot be"):
        settings.check(Wrong())


def test_it_needs_no_tensorflow():
    code = "import sys, quickdraw_tfrecords.base.settings; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
