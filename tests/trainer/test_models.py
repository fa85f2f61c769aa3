"""The registry of models, and the sizes that the models promise."""

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import trainer.models
from quickdraw_tfrecords.base.errors import UsageError
from trainer import models


def _build(name: str, *, side: int = 28, num_classes: int = 345) -> keras.Model:
    return models.get(name)(side=side, num_classes=num_classes, dropout=None)


def test_study_cnn_has_the_parameters_of_the_study():
    assert _build("study_cnn").count_params() == 8_031_385


def test_compact_cnn_is_compact():
    model = _build("compact_cnn")
    assert model.count_params() < 300_000
    assert _flops(model) < 6e6


_COSTS = re.compile(r"^\| `\w+` \| `(\w+)` \| (\d+) \|", re.MULTILINE)


def test_the_networks_cost_what_the_page_on_accuracy_says():
    page = (Path(__file__).parents[2] / "docs" / "accuracy.md").read_text()
    stated = {name: int(mega_flops) for name, mega_flops in _COSTS.findall(page)}
    assert stated.keys() >= {"study_cnn", "resnet_s", "resnet_m", "resnet_l"}
    counted = {name: round(_flops(_build(name, num_classes=29)) / 1e6) for name in stated}
    assert counted == stated


def _flops(model: keras.Model) -> int:
    """As TensorFlow's profiler counts them for one drawing: 2 for a multiplication and sum."""
    call = tf.function(lambda x: model(x, training=False))
    graph = call.get_concrete_function(tf.TensorSpec([1, 28, 28, 1])).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    return tf.compat.v1.profiler.profile(graph, options=options).total_float_ops


@pytest.mark.parametrize("name", models.names())
def test_only_the_last_layer_knows_the_classes(name):
    shapes = [
        [weight.shape for weight in _build(name, num_classes=count).weights] for count in (345, 7)
    ]
    assert shapes[0][:-2] == shapes[1][:-2]
    assert [shape[-1] for shape in shapes[1][-2:]] == [7, 7]


@pytest.mark.parametrize("name", models.names())
@pytest.mark.parametrize("side", [28, 64])
def test_logits_are_float32_in_mixed_precision(name, side):
    with models.dtype_policy("mixed_bfloat16"):
        model = _build(name, side=side, num_classes=3)
    assert model.output.dtype == "float32"
    assert model.output.shape == (None, 3)
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}
    *others, last = (layer for layer in model.layers if layer.weights)
    assert last.compute_dtype == "float32"
    assert {layer.compute_dtype for layer in others} == {"bfloat16"}


@pytest.mark.parametrize("name", models.names())
def test_dropout_rate_can_be_given(name):
    model = models.get(name)(side=28, num_classes=3, dropout=0.0)
    images = np.random.default_rng(0).random([4, 28, 28, 1], np.float32)
    dropouts = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert dropouts
    assert all(layer.rate == 0 for layer in dropouts)
    assert model(images).shape == (4, 3)


def test_adding_a_file_adds_a_model(tmp_path: Path, monkeypatch):
    (tmp_path / "tiny.py").write_text(
        "import keras\n"
        "def build(*, side, num_classes, dropout):\n"
        "    layers = [keras.Input([side, side, 1]), keras.layers.Flatten(),\n"
        "              keras.layers.Dense(num_classes)]\n"
        "    return keras.Sequential(layers)\n"
    )
    monkeypatch.setattr(trainer.models, "__path__", [*trainer.models.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    assert "tiny" in models.names()
    assert _build("tiny", num_classes=2).count_params() == 28 * 28 * 2 + 2


OWN_MODEL = """
import keras

def build(*, side, num_classes, dropout):
    layers = [keras.Input([side, side, 1]), keras.layers.Flatten(),
              keras.layers.Dense(num_classes, dtype="float32")]
    return keras.Sequential(layers)
"""


@pytest.fixture
def write_module(tmp_path, monkeypatch) -> Callable[[str], str]:
    """Writes a module into the working directory; gives the name of it, which is a new one."""
    package = f"models_of_{tmp_path.name}"
    (tmp_path / package).mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])

    def write(text: str) -> str:
        (tmp_path / package / "mine.py").write_text(text)
        importlib.invalidate_caches()
        return f"{package}.mine"

    return write


def test_a_module_of_ones_own_is_a_model(write_module):
    model = _build(write_module(OWN_MODEL), num_classes=2)
    assert model.count_params() == 28 * 28 * 2 + 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_like_it", "cannot be imported: No module named 'nothing_like_it'"),
        ("", "the module has no function build(side, num_classes, dropout)"),
        ("build = 3", "the module has no function build(side, num_classes, dropout)"),
        (
            "def build(side, classes): pass",
            "its build(side, classes) must take the keyword arguments side, num_classes and "
            "dropout: missing a required argument: 'classes'",
        ),
        ("def build(**_): return 3", "build returned int, not a keras.Model"),
        (
            OWN_MODEL.replace("(num_classes,", "(7,"),
            "its output is of shape (None, 7), must be (None, 345)",
        ),
        (
            OWN_MODEL.replace("[side, side, 1]", "[side, side, 3]"),
            "its input is of shape (None, 28, 28, 3), must be (None, 28, 28, 1)",
        ),
        (
            OWN_MODEL.replace('"float32"', '"float16"'),
            "its logits are float16, must be float32 under every precision",
        ),
    ],
)
def test_a_module_that_is_no_model_is_refused(write_module, text, message):
    name = write_module(text)
    with pytest.raises(UsageError) as caught:
        _build(name)
    assert str(caught.value).startswith(f"--model={name}: {message}")


def test_a_module_that_is_not_there_is_refused():
    models.check_name("no_such.module")  # which imports nothing
    with pytest.raises(UsageError, match=r"--model=no_such\.module: cannot be imported: No module"):
        _build("no_such.module")


def test_a_policy_holds_for_what_is_built_in_it_only():
    with models.dtype_policy("mixed_bfloat16"):
        mixed = _build("compact_cnn")
    assert mixed.get_layer("hidden").compute_dtype == "bfloat16"
    assert _build("compact_cnn").get_layer("hidden").compute_dtype == "float32"


def test_an_unknown_model_is_refused_by_name():
    with pytest.raises(UsageError, match=r"--model=resnet: must be one of .*compact_cnn"):
        models.get("resnet")
