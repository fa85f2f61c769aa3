"""State machines of `trainer.training.monitors` against Keras' own callbacks, epoch by epoch."""

import contextlib
import functools
import json
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quickdraw_tfrecords.base.errors import UsageError
from trainer.epochs import is_improvement
from trainer.training.monitors import EarlyStopping, ReduceLROnPlateau

NAN, INF = float("nan"), float("inf")
FLOAT32_MAX = float(np.finfo(np.float32).max)
PLATEAU_STREAMS = STOPPING_STREAMS = 5000

reproducible = functools.partial(
    settings,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@functools.cache
def optimizer() -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(0.1)


def start(callback: keras.callbacks.Callback) -> types.SimpleNamespace:
    """Gives the callback as much of a model as it looks at, and begins training."""
    model = types.SimpleNamespace(optimizer=optimizer(), stop_training=False)
    callback.set_model(model)
    callback.on_train_begin()
    return model


def bits(metric: float | None) -> str | None:
    """Equal for equal floats to the last bit, NaN included."""
    return None if metric is None else float(metric).hex()


def keras_plateau(setting: dict, metrics: list, rates: list) -> list[tuple]:
    """What Keras has after every epoch. `rates` begins with the learning rate; then, where one is
    not None, it is set by hand before that epoch.
    """
    callback = keras.callbacks.ReduceLROnPlateau("val_loss", **setting)
    model = start(callback)
    trace = []
    for epoch, (metric, rate) in enumerate(zip(metrics, rates, strict=True)):
        if rate is not None:
            model.optimizer.learning_rate = rate
        callback.on_epoch_end(epoch, {"val_loss": metric})
        held = model.optimizer.learning_rate.numpy()
        assert held.dtype == np.float32
        trace.append((bits(held), bits(callback.best), callback.wait, callback.cooldown_counter))
    return trace


def our_plateau(setting: dict, metrics: list, rates: list) -> list[tuple]:
    plateau, current, trace = ReduceLROnPlateau(**setting), rates[0], []
    for metric, rate in zip(metrics, rates, strict=True):
        current = plateau.update(metric, current if rate is None else rate)
        trace.append((bits(current), bits(plateau.best), plateau.wait, plateau.cooldown_left))
    return trace


def keras_stopping(setting: dict, metrics: list, first_epoch: int = 0) -> list[tuple]:
    """What Keras has after every epoch: whether it stops there, best epoch, best, wait."""
    callback = keras.callbacks.EarlyStopping("val_loss", **setting)
    model = start(callback)
    trace = []
    for epoch, metric in enumerate(metrics, first_epoch):
        model.stop_training = False
        callback.on_epoch_end(epoch, {"val_loss": metric})
        trace.append((model.stop_training, callback.best_epoch, bits(callback.best), callback.wait))
    return trace


def our_stopping(setting: dict, metrics: list, first_epoch: int = 0) -> list[tuple]:
    stopping = EarlyStopping(**setting)
    trace = []
    for epoch, metric in enumerate(metrics, first_epoch):
        stop = stopping.update(epoch, metric)
        trace.append((stop, stopping.best_epoch, bits(stopping.best), stopping.wait))
    return trace


def same_plateau(setting: dict, metrics: list, rates: list | None = None) -> list[float]:
    """The learning rates, after asserting that Keras gives them too."""
    rates = rates or [0.1] + [None] * (len(metrics) - 1)
    ours = our_plateau(setting, metrics, rates)
    assert ours == keras_plateau(setting, metrics, rates)
    return [float.fromhex(rate) for rate, *_ in ours]


def same_stopping(setting: dict, metrics: list) -> list[int]:
    """The epochs that say stop, after asserting that they do in Keras too."""
    ours = our_stopping(setting, metrics)
    assert ours == keras_stopping(setting, metrics)
    return [epoch for epoch, (stop, *_) in enumerate(ours) if stop]


def reductions(rates: list[float]) -> list[int]:
    return [epoch for epoch in range(1, len(rates)) if rates[epoch] < rates[epoch - 1]]


# --- settings and streams ------------------------------------------------------------------------

# Strategies are made once, here: to make them anew in every example takes longer than Keras does.
any_float32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
centres = st.sampled_from([0.0, 0.1, 1.0, 2.5, -0.7, 1e-42, 3e-8, 1e30, FLOAT32_MAX]) | any_float32
kinds = st.sampled_from(["constant", "close", "close", "mixed", "mixed", "wild"])
picks = st.lists(st.integers(0, 15), min_size=1, max_size=14)
wild = st.lists(any_float32 | st.sampled_from([NAN, INF, -INF, -0.0]), min_size=1, max_size=14)

common = {
    "patience": st.integers(0, 4),
    "mode": st.sampled_from(["min", "max"]),
    "min_delta": st.sampled_from([0, 0.0, 1e-4, -1e-4, 0.1, 2.0**-24, 1e-9, 1.0]),
}
plateau_settings = st.fixed_dictionaries(
    common
    | {
        "factor": st.sampled_from([0.1, 0.5, 0.2, 1 / 3, 0.99]) | st.floats(0.001, 0.999),
        "cooldown": st.integers(0, 3),
        "min_lr": st.sampled_from([0, 0.0, 0.001, 0.01, 0.1]) | st.floats(0, 0.2),
    }
)
stopping_settings = st.fixed_dictionaries(
    common | {"start_from_epoch": st.sampled_from([0, 0, 1, 2, 5])}
)
learning_rates = st.sampled_from([0.001, 0.01, 0.1, 1.0]) | st.floats(0, 1)
rates_set_by_hand = st.none() | st.tuples(st.integers(0, 13), learning_rates)
baselines = st.none() | st.integers(0, 15) | any_float32
first_epochs = st.sampled_from([0, 0, 1, 3])
restarts = st.integers(0, 13)


def near(centre: float, min_delta: float) -> list[float]:
    """Values that tie, or differ by about the delta or by about what float32 can resolve."""
    spacing = float(np.spacing(np.float32(min(abs(centre), FLOAT32_MAX / 2))))
    steps = (spacing, spacing / 2, spacing / 3, min_delta, min_delta + spacing, 2 * min_delta)
    values = [centre] + [centre + sign * step for step in steps for sign in (-1, 1)]
    return [value for value in values if abs(value) <= FLOAT32_MAX]


def draw_metrics(draw, close: list[float]) -> list[float]:
    """1 to 14 metrics: constant, close to each other, with NaN and infinities too, or anything."""
    kind = draw(kinds)
    if kind == "wild":
        return draw(wild)
    values = {"constant": close[:1], "close": close, "mixed": [*close, NAN, INF, -INF]}[kind]
    return [values[pick % len(values)] for pick in draw(picks)]


@st.composite
def plateau_cases(draw) -> tuple[dict, list, list]:
    setting = draw(plateau_settings)
    metrics = draw_metrics(draw, near(draw(centres), setting["min_delta"]))
    schedule = [draw(learning_rates)] + [None] * (len(metrics) - 1)
    if by_hand := draw(rates_set_by_hand):
        epoch, rate = by_hand
        schedule[epoch % len(schedule)] = rate
    return setting, metrics, schedule


@st.composite
def stopping_cases(draw) -> tuple[dict, list, int]:
    setting = draw(stopping_settings)
    close = near(draw(centres), setting["min_delta"])
    baseline = draw(baselines)
    setting["baseline"] = close[baseline % len(close)] if type(baseline) is int else baseline
    return setting, draw_metrics(draw, close), draw(first_epochs)


# --- the oracle ----------------------------------------------------------------------------------


@pytest.mark.slow
@reproducible(max_examples=PLATEAU_STREAMS)
@given(plateau_cases())
def test_plateau_reduces_in_the_epochs_and_to_the_rates_of_keras(case):
    assert our_plateau(*case) == keras_plateau(*case)


@pytest.mark.slow
@reproducible(max_examples=STOPPING_STREAMS)
@given(stopping_cases())
def test_early_stopping_stops_in_the_epochs_of_keras_with_its_best(case):
    assert our_stopping(*case) == keras_stopping(*case)


# --- what Keras does, by name: each example is checked against Keras too -------------------------


def test_defaults_are_those_of_the_study_and_else_those_of_keras():
    metrics = [1.0 - 6e-6 * epoch for epoch in range(9)] + [1.0] * 9
    rates = [0.1] + [None] * 17
    assert our_plateau({}, metrics, rates) == keras_plateau({"patience": 5}, metrics, rates)
    assert our_stopping({}, metrics) == keras_stopping({"patience": 6}, metrics)
    assert reductions(same_plateau({"mode": "min", "patience": 5}, metrics)) == [5, 10, 15]
    assert same_stopping({"mode": "min", "patience": 6}, metrics) == [14, 15, 16, 17]


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize(("change", "improves"), [(0.5, False), (0.5 + 2**-23, True)])
def test_a_change_of_exactly_min_delta_is_no_improvement(mode, change, improves):
    second = 1.0 - change if mode == "min" else 1.0 + change
    setting = {"mode": mode, "min_delta": 0.5, "patience": 1}
    assert same_stopping(setting, [1.0, second]) == ([] if improves else [1])
    assert is_improvement(second, 1.0, mode=mode, min_delta=0.5) is improves


def test_subnormal_metrics_are_as_good_as_zero():
    setting = {"mode": "max", "patience": 1}
    assert same_stopping(setting, [0.0, 1e-40, 2e-38]) == [1]
    assert same_stopping(setting, [-1e-40, 0.0, 1e-40]) == [1, 2]


def test_a_change_too_small_for_float32_is_no_improvement():
    assert same_stopping({"mode": "min", "patience": 1}, [1.0, 1.0 - 1e-9]) == [1]


def test_the_delta_is_added_in_float64_and_the_sum_rounded_once():
    # 1 + 3 * 2**-25 is nearer to 1 + 2**-23; either term rounded to float32 first would give 1.
    best, metric, min_delta = 1.0 + 2.0**-23, 1.0 + 2.0**-25, 2.0**-24
    setting = {"mode": "min", "min_delta": min_delta, "patience": 1}
    assert same_stopping(setting, [best, metric]) == [1]
    assert np.float32(metric) + np.float32(min_delta) < np.float32(best)


def test_the_sign_of_min_delta_is_ignored():
    metrics = [1.0, 0.95, 0.8, 0.75, 0.7]
    positive = same_plateau({"mode": "min", "patience": 1, "min_delta": 0.1}, metrics)
    assert positive == same_plateau({"mode": "min", "patience": 1, "min_delta": -0.1}, metrics)
    assert reductions(positive) == [1, 3, 4]


@pytest.mark.parametrize("later", [1.0, INF, -INF, NAN])
def test_a_nan_that_comes_first_is_never_beaten(later):
    metrics = [NAN, later, later, later]
    assert same_stopping({"mode": "min", "patience": 2}, metrics) == [2, 3]
    assert reductions(same_plateau({"mode": "min", "patience": 2}, metrics)) == [2]


def test_a_nan_that_comes_later_is_an_epoch_without_improvement():
    assert same_stopping({"mode": "max", "patience": 2}, [1.0, NAN, 2.0, NAN, NAN]) == [4]


def test_cooldown_one_does_what_zero_does_and_two_delays_by_one():
    flat = [1.0] * 8
    epochs = [
        reductions(same_plateau({"mode": "min", "patience": 2, "cooldown": cooldown}, flat))
        for cooldown in (0, 1, 2)
    ]
    assert epochs == [[2, 4, 6], [2, 4, 6], [2, 5]]


def test_patience_zero_does_what_one_does():
    metrics = [1.0, 1.0, 0.5, 0.7]
    assert reductions(same_plateau({"mode": "min", "patience": 0}, metrics)) == [1, 3]
    assert reductions(same_plateau({"mode": "min", "patience": 1}, metrics)) == [1, 3]
    assert same_stopping({"mode": "min", "patience": 0}, metrics) == [1, 3]
    assert same_stopping({"mode": "min", "patience": 1}, metrics) == [1, 3]


def test_the_best_is_kept_when_the_rate_is_reduced():
    # 2.0 improves on the 3.0 before it, but not on the 1.0 from before the reduction.
    rates = same_plateau({"mode": "min", "patience": 2}, [1.0, 3.0, 3.0, 2.0, 2.0])
    assert reductions(rates) == [2, 4]


def test_at_min_lr_the_wait_grows_and_a_rate_raised_by_hand_falls_at_once():
    setting = {"mode": "min", "patience": 3, "min_lr": 0.1, "factor": 0.5}
    rates = same_plateau(setting, [1.0] * 6, [0.1, None, None, None, None, 0.8])
    assert rates == [float(np.float32(rate)) for rate in (0.1, 0.1, 0.1, 0.1, 0.1, 0.4)]


def test_min_lr_is_compared_as_float32():
    # float32(0.1) > 0.1: a comparison in float64 would take it for a rate still to be reduced.
    setting = {"mode": "min", "patience": 1, "min_lr": 0.1, "cooldown": 3}
    same_plateau(setting, [1.0, 1.0, 1.0], [0.1, None, None])
    plateau = ReduceLROnPlateau(**setting)
    for _ in range(3):
        plateau.update(1.0, 0.1)
    assert (plateau.wait, plateau.cooldown_left) == (2, 0)


def test_reductions_multiply_in_float64_and_round_to_float32():
    rates = same_plateau({"mode": "min", "patience": 1, "factor": 0.3}, [1.0] * 12, None)
    assert all(rate == float(np.float32(rate)) for rate in rates)
    assert reductions(rates) == list(range(1, 12))


def test_epoch_zero_never_stops_whatever_came_before():
    callback = keras.callbacks.EarlyStopping("val_loss", mode="min", patience=0)
    model, stopping = start(callback), EarlyStopping(patience=0)
    for epoch, stops in ((0, False), (0, False), (1, True)):
        callback.on_epoch_end(epoch, {"val_loss": 1.0})
        assert stopping.update(epoch, 1.0) is model.stop_training is stops


def test_an_epoch_that_improves_never_stops_even_short_of_the_baseline():
    setting = {"mode": "max", "patience": 2, "baseline": 10.0}
    assert same_stopping(setting, [1.0, 2.0, 3.0, 4.0, 4.0]) == [4]


def test_only_beating_the_baseline_starts_the_count_again():
    setting = {"mode": "max", "patience": 3, "baseline": 10.0}
    assert same_stopping(setting, [1.0, 2.0, 2.0]) == [2]
    assert same_stopping(setting, [1.0, 11.0, 2.0, 2.0, 2.0]) == [4]


def test_epochs_before_start_from_epoch_are_not_looked_at():
    setting = {"mode": "min", "patience": 1, "start_from_epoch": 3}
    assert same_stopping(setting, [0.0, NAN, 0.0, 5.0, 6.0]) == [4]
    assert our_stopping(setting, [0.0, NAN, 0.0]) == [(False, 0, None, 0)] * 3


@pytest.mark.parametrize("mode", ["min", "max"])
def test_beyond_float32_a_metric_counts_as_infinite_where_keras_fails(mode, recwarn):
    with pytest.raises(ValueError, match="out of range"):
        keras_stopping({"mode": mode}, [1.0, 1e39])
    ours, infinite = (our_stopping({"mode": mode}, [1.0, value, 2.0]) for value in (1e39, INF))
    assert [stop for stop, *_ in ours] == [stop for stop, *_ in infinite]
    assert not [warning for warning in recwarn if warning.category is RuntimeWarning]


# --- state ---------------------------------------------------------------------------------------


def through_json(machine):
    """A new machine of the same settings that has read the state of this one."""
    names = {"factor", "patience", "mode", "min_delta", "cooldown", "min_lr", "baseline"}
    names = (names | {"start_from_epoch"}) & vars(machine).keys()
    restored = type(machine)(**{name: getattr(machine, name) for name in names})
    restored.load_state_dict(json.loads(json.dumps(machine.state_dict(), allow_nan=False)))
    return restored


@reproducible(max_examples=1000)
@given(plateau_cases(), restarts)
def test_plateau_continues_after_a_restart_as_if_there_was_none(case, restart):
    setting, metrics, rates = case
    plateau, current, trace = ReduceLROnPlateau(**setting), rates[0], []
    for epoch, (metric, rate) in enumerate(zip(metrics, rates, strict=True)):
        if epoch == restart:
            plateau = through_json(plateau)
        current = plateau.update(metric, current if rate is None else rate)
        trace.append((bits(current), bits(plateau.best), plateau.wait, plateau.cooldown_left))
    assert trace == our_plateau(*case)


@reproducible(max_examples=1000)
@given(stopping_cases(), restarts)
def test_early_stopping_continues_after_a_restart_as_if_there_was_none(case, restart):
    setting, metrics, first_epoch = case
    stopping, trace = EarlyStopping(**setting), []
    for epoch, metric in enumerate(metrics, first_epoch):
        if epoch - first_epoch == restart:
            stopping = through_json(stopping)
        stop = stopping.update(epoch, metric)
        trace.append((stop, stopping.best_epoch, bits(stopping.best), stopping.wait))
    assert trace == our_stopping(*case)


@reproducible(max_examples=300)
@given(st.floats() | st.floats(width=32).map(np.float32))
def test_best_survives_json_to_the_last_bit(metric):
    stopping, plateau = EarlyStopping(), ReduceLROnPlateau()
    stopping.update(0, metric)
    plateau.update(metric, 0.1)
    assert bits(through_json(stopping).best) == bits(through_json(plateau).best) == bits(metric)


@pytest.mark.parametrize(
    ("metric", "encoded"), [(NAN, "nan"), (INF, "inf"), (-INF, "-inf"), (0.1, 0.1)]
)
def test_state_dict_encodes_what_json_cannot_hold(metric, encoded):
    plateau = ReduceLROnPlateau()
    assert plateau.state_dict() == {"best": None, "wait": 0, "cooldown_left": 0}
    plateau.update(metric, 0.1)
    assert plateau.state_dict()["best"] == encoded


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"best": 1.0, "wait": 0}, "cooldown_left"),
        ({"best": 1.0, "wait": 0, "cooldown_left": 0, "best_epoch": 0}, "best_epoch"),
        ({}, "ReduceLROnPlateau"),
        (None, "None"),
        ({"best": 1.0, "wait": -1, "cooldown_left": 0}, "wait=-1"),
        ({"best": 1.0, "wait": 0, "cooldown_left": 0.5}, "cooldown_left=0.5"),
        ({"best": "low", "wait": 5, "cooldown_left": 5}, "best='low'"),
        ({"best": [1.0], "wait": 5, "cooldown_left": 5}, r"best=\[1.0\]"),
    ],
)
def test_load_state_dict_refuses_what_state_dict_does_not_give(state, message):
    plateau = ReduceLROnPlateau(patience=9)
    for metric in (1.0, 2.0):
        plateau.update(metric, 0.1)
    before = plateau.state_dict()
    with pytest.raises(ValueError, match=message):
        plateau.load_state_dict(state)
    assert plateau.state_dict() == before


def test_a_state_of_the_other_class_is_refused():
    with pytest.raises(ValueError, match="EarlyStopping"):
        EarlyStopping().load_state_dict(ReduceLROnPlateau().state_dict())


# --- misuse --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("machine", "name", "value"),
    [
        (ReduceLROnPlateau, "factor", 1.0),
        (ReduceLROnPlateau, "factor", 1.5),
        (ReduceLROnPlateau, "factor", 0.0),
        (ReduceLROnPlateau, "factor", NAN),
        (ReduceLROnPlateau, "cooldown", -1),
        (ReduceLROnPlateau, "min_lr", -0.1),
        (ReduceLROnPlateau, "min_lr", NAN),
        (ReduceLROnPlateau, "min_lr", INF),
        (EarlyStopping, "baseline", NAN),
        (EarlyStopping, "start_from_epoch", -1),
        *[
            (machine, name, value)
            for machine in (ReduceLROnPlateau, EarlyStopping)
            for name, value in [
                ("patience", -1),
                ("patience", 1.5),
                ("mode", "auto"),
                ("mode", None),
                ("min_delta", NAN),
                ("min_delta", INF),
            ]
        ],
    ],
)
def test_a_bad_setting_is_refused_by_name_value_and_requirement(machine, name, value):
    with pytest.raises(UsageError, match=f"^{name}={value!r}: must be .+"):
        machine(**{name: value})


@pytest.mark.parametrize("factor", [1.0, 2.0, 0.999999])
def test_a_factor_that_keras_refuses_is_refused(factor):
    def accepts(kind):
        with contextlib.suppress(ValueError):
            kind(factor=factor)
            return True
        return False

    assert accepts(ReduceLROnPlateau) == accepts(keras.callbacks.ReduceLROnPlateau) == (factor < 1)


def test_importing_monitors_imports_neither_tensorflow_nor_keras():
    code = (
        "import sys; import numpy; before = set(sys.modules);"
        "import trainer.training.monitors;"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    third_party = set(run.stdout.split()) - set(sys.stdlib_module_names)
    assert third_party == {"trainer", "quickdraw_tfrecords"}
