"""The loop, in this process: what it compiles, keeps to, and refuses."""

import csv
import dataclasses
import signal
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base.errors import DataError, Interrupted, UsageError
from tests.processes import ChildProcess, train
from tests.trained import make_run
from tests.trainer.training.test_steps import make_config, make_model
from trainer import session
from trainer.config import OPTIMIZERS, Config
from trainer.results import split_results
from trainer.run_directory import checkpoints, runs, status
from trainer.run_directory.run_log import RunLog
from trainer.run_directory.workplace import Workplace
from trainer.training import op_errors, optimizers, precision
from trainer.training.loop import Metrics, Run
from trainer.training.parts import Parts
from trainer.training.steps import TrainSteps


@pytest.fixture
def config(tmp_path, data_dir) -> Config:
    return make_config(
        data_dir=data_dir,
        run_dir=tmp_path / "run",
        model="compact_cnn",
        epochs=2,
        batch_size=64,
        precision="float32",
        cache="memory",
    )


def _make_parts(config: Config) -> Parts:
    place = Workplace(config.run_dir, is_chief=True)
    return session.make_parts(config, qt.open_dataset(config.data_dir), place)


def _train(config: Config) -> None:
    Run(config, _make_parts(config)).train()


def _begin(config: Config, warnings: list[str] | None = None) -> Parts:
    """The parts of a run that has found what its directory holds, and takes no step."""
    parts = _make_parts(config)
    parts.state.begin(warn=[].append if warnings is None else warnings.append)
    return parts


def _replace(config: Config, **values: object) -> Config:
    return dataclasses.replace(config, **values)


def test_each_part_is_compiled_once(config):
    parts = _make_parts(config)
    Run(config, parts).train()
    assert parts.train_steps.run.experimental_get_tracing_count() == 1
    assert parts.evaluator.run.experimental_get_tracing_count() == 1


def test_a_resumed_run_keeps_to_its_order(config):
    """What --cache=auto decides depends on the memory of the moment, and decides the order."""
    _train(_replace(config, epochs=1, cache="none"))
    automatic = _replace(config, cache="auto")
    assert _make_parts(automatic).state.cache == "memory"
    assert _begin(automatic).state.cache == "none"
    with pytest.raises(UsageError, match="--cache was 'none', is 'memory'"):
        _begin(config)


def test_a_resumed_run_keeps_to_its_precision(config, monkeypatch):
    """What --precision=auto decides depends on how busy the machine is."""
    _train(_replace(config, epochs=1, precision="mixed_bfloat16"))
    monkeypatch.setattr(precision, "_cpu_flags", set)
    automatic = _replace(config, precision="auto")
    parts = _begin(automatic)
    assert parts.state.progress.epoch == 1
    assert parts.facts.precision == parts.facts.config.precision == "mixed_bfloat16"
    assert _make_parts(_replace(automatic, resume="never")).facts.precision == "float32"
    with pytest.raises(UsageError, match="--precision was 'mixed_bfloat16', is 'float32'"):
        _begin(config)


@pytest.mark.slow
def test_a_run_is_begun_anew_where_asked(config):
    _train(_replace(config, epochs=1))
    parts = _begin(_replace(config, resume="never", seed=9))
    assert parts.state.progress.epoch == 0
    assert not list(config.run_dir.rglob("*.npz"))


@pytest.mark.slow
def test_a_run_begun_anew_may_take_its_own_weights(config):
    """They are read before its checkpoints are deleted."""
    _train(_replace(config, epochs=1))
    expected, _ = checkpoints.read(checkpoints.find(config.run_dir))
    parts = _begin(_replace(config, resume="never", init_from=config.run_dir))
    assert not list(config.run_dir.rglob("*.npz"))
    found = parts.model.get_layer("logits").kernel
    np.testing.assert_array_equal(found, expected["logits/kernel"])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_variables_have_the_same_names_in_every_process(name):
    """Keras numbers some over all that the process has made."""
    names = []
    for _ in range(2):
        model, optimizer = make_model(), optimizers.create(make_config(optimizer=name), 10)
        optimizer.build(model.trainable_variables)
        names.append([*checkpoints.named([*model.variables, *optimizer.variables])])
    assert names[0] == names[1]


def test_a_validation_loss_that_is_not_finite_saves_nothing(config, monkeypatch):
    parts, bad = _make_parts(config), {"loss": np.inf, "top1": 0.5, "top3": 0.5}
    monkeypatch.setattr(parts.evaluator.totals, "means", lambda: bad)
    with pytest.raises(DataError, match="the validation loss is inf after step 11"):
        Run(config, parts).train()
    assert not list(config.run_dir.rglob("*.npz"))


def test_the_best_weights_are_of_the_last_side(config, monkeypatch):
    """However good those of a smaller one were, at that side."""
    config = _replace(config, train_sides=(26, 28), early_stopping_patience=-1)
    parts = _make_parts(config)
    losses = iter([0.1, 0.5])
    monkeypatch.setattr(
        parts.evaluator.totals, "means", lambda: {"loss": next(losses), "top1": 0.5, "top3": 0.5}
    )
    Run(config, parts).train()
    assert [row["validation_loss"] for row in parts.state.progress.history] == [0.1, 0.5]
    assert checkpoints.read(checkpoints.find(config.run_dir))[1]["epoch"] == 2
    assert status.of(runs.open_run(config.run_dir)).validation_loss == 0.5
    assert parts.train_steps.run.experimental_get_tracing_count() == 2


def test_a_checkpoint_of_other_classes_is_not_taken_for_initial_weights(config, tmp_path):
    other = tmp_path / "other"
    checkpoints.best(other, keep=1).save(1, {"logits/bias": np.zeros(9)}, {})
    with pytest.raises(DataError, match="it is another model's"):
        _train(_replace(config, init_from=other))


@pytest.mark.parametrize(("patience", "is_warned"), [(5, True), (4, True), (6, False), (-1, False)])
def test_a_rate_that_would_never_fall_is_warned_of(config, patience, is_warned):
    warnings = []
    _begin(_replace(config, early_stopping_patience=patience), warnings)
    assert ("warning: --early_stopping_patience" in "".join(warnings)) == is_warned


def test_actions_are_told_of_each_epoch_once_it_is_saved(config):
    """As orbit's are: plain callables on the metrics."""
    told, saved = [], []

    def look_for_checkpoints(_: Metrics) -> None:
        saved.append([path.name for path in checkpoints.latest(config.run_dir, keep=9).paths()])

    Run(config, _make_parts(config), [told.append, look_for_checkpoints]).train()
    history = runs.open_run(config.run_dir).history()
    assert [{name: row[name] for name in history[0]} for row in told] == history
    assert saved == [["step-0000000011.npz"], ["step-0000000011.npz", "step-0000000022.npz"]]


def test_an_action_that_raises_ends_the_run_and_the_next_resumes_it(config):
    def stop(_: Metrics) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        Run(config, _make_parts(config), [stop]).train()
    parts = _make_parts(config)
    Run(config, parts).train()
    assert len(parts.state.progress.history) == 2


def test_what_was_decided_is_in_the_flagfile(config):
    """So that it repeats the run on a machine that would decide otherwise."""
    config = _replace(config, precision="auto", cache="auto", epochs=1)
    parts = _make_parts(config)
    Run(config, parts).train()
    lines = (config.run_dir / "flags.txt").read_text().splitlines()
    assert "--cache=memory" in lines
    assert f"--precision={parts.facts.precision}" in lines
    assert runs.open_run(config.run_dir).config.to_flagfile().splitlines() == lines


def test_a_model_in_mixed_precision_changes_nothing_for_others(config):
    parts = _make_parts(_replace(config, precision="mixed_bfloat16"))
    assert parts.model.get_layer("hidden").compute_dtype == "bfloat16"
    assert keras.config.dtype_policy().name == "float32"


def _stop_after(steps: int, monkeypatch) -> None:
    original = TrainSteps.run

    def run(self, *arguments):
        original(self, *arguments)
        if int(self.step) >= steps:
            raise InterruptedError

    monkeypatch.setattr(TrainSteps, "run", run)


def test_a_split_on_the_device_is_resumed_too(config, monkeypatch):
    config = _replace(config, cache="device", steps_per_loop=2, checkpoint_every_steps=4)
    whole, parts = _replace(config, run_dir=config.run_dir / "1"), config
    tf.keras.utils.set_random_seed(0)
    _train(whole)
    tf.keras.utils.set_random_seed(0)
    with monkeypatch.context() as patch:
        _stop_after(17, patch)
        with pytest.raises(InterruptedError):
            _train(parts)
    _train(parts)
    (expected, _), (found, _) = (
        checkpoints.read(checkpoints.latest(run.run_dir, keep=1).newest()) for run in (whole, parts)
    )
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.slow
def test_all_at_once(config, data_dir, tmp_path):
    """XLA, weights from another run, a profile, histograms, early stopping: in one process."""
    first = tmp_path / "first"
    tf.keras.utils.set_random_seed(3)
    _train(_replace(config, run_dir=first, epochs=1))
    flags = [
        f"--data_dir={data_dir}", f"--run_dir={tmp_path / 'second'}", f"--init_from={first}",
        "--epochs=9", "--batch_size=64", "--jit_compile=true", "--precision=float32",
        "--optimizer=sgd", "--learning_rate=1e-12", "--schedule=cosine", "--profile_steps=3,5",
        "--histograms", "--early_stopping_patience=1", "--early_stopping_min_delta=9",
        "--monitor=validation_top1", "--keep=1",
    ]  # fmt: skip
    process = ChildProcess(train, flags, output=tmp_path / "process")
    assert process.wait() == 0, process.stderr
    second = tmp_path / "second"
    assert "XLA on" in process.stdout
    assert list((second / "tensorboard").rglob("*.xplane.pb"))
    with open(second / "history.csv", newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    for kind in ("latest", "best"):
        assert len(list((second / "checkpoints" / kind).iterdir())) == 1
    (expected, _), (found, _) = (checkpoints.read(checkpoints.find(d)) for d in (first, second))
    for name in ("conv1/kernel", "logits/bias"):
        np.testing.assert_array_equal(found[name], expected[name])


def test_a_test_that_is_interrupted_has_lost_nothing(config, data_dir, monkeypatch, capsys):
    make_run(config.run_dir, data_dir)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(split_results, "find", interrupt)
        place = Workplace(config.run_dir, is_chief=True)
        with pytest.raises(Interrupted) as caught:
            session._test(config, place, RunLog(config.run_dir, enabled=True))
    assert caught.value.signal == signal.SIGINT
    assert "stopped in the test, with all saved; the same command tests again" in (
        capsys.readouterr().out
    )


def test_an_operation_by_itself_is_described_without_its_node(tmp_path: Path):
    with pytest.raises(tf.errors.OpError) as caught:
        tf.io.read_file(str(tmp_path / "nowhere"))
    assert op_errors.describe(caught.value) == f"{tmp_path}/nowhere; No such file or directory"


def check_numerics() -> None:
    tf.debugging.enable_check_numerics()
    logarithm = tf.function(lambda x: tf.math.log(x, name="of_nothing"))
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        logarithm(tf.constant(-1.0))
    line = op_errors.describe(caught.value)
    assert line == "--check_numerics: NaN or infinity came out of the operation of_nothing"


def test_check_numerics_names_the_operation(tmp_path: Path):
    process = ChildProcess(check_numerics, output=tmp_path / "process")
    assert process.wait() == 0, process.stderr
