"""What a sweep may choose from."""

from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from quickdraw_tfrecords.base.errors import UsageError
from tests.trainer.training.test_steps import make_config
from trainer.sweeping import space

BASE = make_config(model="compact_cnn", epochs=9)
TOML = """
learning_rate = { low = 1e-4, high = 1e-2, log = true }
batch_size = { low = 64, high = 512, step = 64 }
dropout = { low = 0, high = 0.5 }
optimizer = ["adam", "lamb"]
label_smoothing = [0, 0.1]
augment = ["", "shift,rotate", ["shift", "flip"]]
deterministic = [true, false]
"""
JSON = """
{"learning_rate": {"low": 1e-4, "high": 1e-2, "log": true},
 "batch_size": {"low": 64, "high": 512, "step": 64},
 "dropout": {"low": 0, "high": 0.5},
 "optimizer": ["adam", "lamb"],
 "label_smoothing": [0, 0.1],
 "augment": ["", "shift,rotate", ["shift", "flip"]],
 "deterministic": [true, false]}
"""


def _read(directory: Path, text: str, name: str = "space.toml") -> dict:
    (directory / name).write_text(text)
    return space.read(directory / name, BASE)


@pytest.mark.parametrize(("text", "name"), [(TOML, "space.toml"), (JSON, "space.json")])
def test_a_space_is_read_from_either_form(tmp_path, text, name):
    assert _read(tmp_path, text, name) == {
        "learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
        "batch_size": IntDistribution(64, 512, step=64),
        "dropout": FloatDistribution(0.0, 0.5),
        "optimizer": CategoricalDistribution(("adam", "lamb")),
        "label_smoothing": CategoricalDistribution(("0", "0.1")),
        "augment": CategoricalDistribution(("", "shift,rotate", "shift,flip")),
        "deterministic": CategoricalDistribution(("true", "false")),
    }


def test_what_is_drawn_becomes_settings():
    params = {"batch_size": 128, "augment": "shift,flip", "deterministic": "true", "dropout": 0.25}
    config = space.apply(BASE, params | {"label_smoothing": "0.1"})
    assert (config.batch_size, config.dropout, config.label_smoothing) == (128, 0.25, 0.1)
    assert (config.augment, config.deterministic) == (("shift", "flip"), True)
    assert config.epochs == BASE.epochs


def test_what_contradicts_the_other_settings_is_refused():
    with pytest.raises(UsageError, match="--warmup_epochs=9"):
        space.apply(BASE, {"schedule": "warmup_cosine", "warmup_epochs": 9.0})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("learnig_rate = [1]", "learnig_rate: is no flag of quickdraw train; did you mean lear"),
        ("run_dir = ['a']", "run_dir: the sweep needs it to be the same for all trials"),
        ("monitor = ['validation_top1']", "monitor: the sweep needs it to be the same"),
        ("dropout = 0.5", "dropout: is 0.5, must be a range, such as {low = 1, high = 9}, or a"),
        ("dropout = {low = 0.1}", "dropout: high=None must be a number"),
        ("dropout = {low = 0.5, high = 0.1}", "dropout: low=0.5 must be below high=0.1"),
        ("dropout = {low = 0, high = 1}", "dropout: --dropout=1.0: must be at most 0.99"),
        ("dropout = {low = 0, high = 0.5, log = true}", "dropout: log = true needs low above 0"),
        ("dropout = {low = 0, high = 0.5, log = 1}", "dropout: log=1 must be true or false"),
        ("dropout = {min = 0, max = 1}", "dropout: 'max': a range has low, high, step, log"),
        ("batch_size = {low = 1.5, high = 9}", "batch_size: low=1.5 must be a whole number"),
        ("batch_size = {low = true, high = 9}", "batch_size: low=True must be a whole number"),
        ("batch_size = ['many']", "batch_size: must be a whole number"),
        ("optimizer = {low = 1, high = 2}", "optimizer: is no number, so it needs a list"),
        ("optimizer = ['adam', 'adan']", "optimizer: --optimizer=adan: must be one of"),
        ("optimizer = []", "optimizer: a list must hold choices, each once"),
        ("optimizer = ['adam', 'adam']", "optimizer: a list must hold choices, each once"),
        ("deterministic = ['yes']", "deterministic: --deterministic=yes: must be true or false"),
        ("augment = ['melt']", "augment: --augment=melt: must be one of"),
    ],
)
def test_a_bad_entry_is_named(tmp_path, entry, message):
    with pytest.raises(UsageError) as caught:
        _read(tmp_path, entry)
    assert str(caught.value).startswith(f"--space={tmp_path}/space.toml: {message}")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("space.toml", "learning_rate = ", "not TOML: "),
        ("space.json", "{", "not JSON: "),
        ("space.json", "[1]", "must have an entry for each flag to be tried"),
        ("space.toml", "", "must have an entry for each flag to be tried"),
        ("space.toml", "\x00", "not TOML: "),
    ],
)
def test_a_file_that_is_no_space_is_refused(tmp_path, name, text, message):
    with pytest.raises(UsageError) as caught:
        _read(tmp_path, text, name)
    assert str(caught.value).startswith(f"--space={tmp_path}/{name}: {message}")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match="nowhere: No such file or directory"):
        space.read(tmp_path / "nowhere", BASE)
