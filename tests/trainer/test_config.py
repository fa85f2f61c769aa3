"""A run's settings: what they give, what they refuse, and flagfiles."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags as absl_flags

from quickdraw_tfrecords.base import setting_flags
from quickdraw_tfrecords.base.errors import UsageError
from trainer import config as configs
from trainer.commands.train import FLAGFILES
from trainer.config import Config
from trainer.run_directory import starts
from trainer.run_directory.checkpoints import best, latest
from trainer.training import augmentation, mixing

REQUIRED = ("--data_dir=data", "--run_dir=run")


def parse(*argv: str) -> Config:
    """What the trainer does with flags before it imports TensorFlow."""
    values = absl_flags.FlagValues()
    setting_flags.define_flags(Config, values)
    absl_flags.DEFINE_string("flagfile", "", "", flag_values=values)
    assert values(["trainer", *argv]) == ["trainer"]
    config = setting_flags.from_flags(Config, values)
    config.check()
    starts.require(config)
    return config


def test_defaults_are_the_study_protocol():
    study = parse(f"--flagfile={FLAGFILES / 'study_2019.flags'}", *REQUIRED)
    defaults = dataclasses.replace(parse(*REQUIRED), model="study_cnn")
    assert dataclasses.asdict(study) == dataclasses.asdict(defaults)
    assert (study.early_stopping_patience, study.plateau_patience, study.epochs) == (6, 5, 30)
    assert (study.optimizer, study.batch_size, study.monitor) == ("adam", 1024, "validation_loss")


@pytest.mark.parametrize("path", sorted(FLAGFILES.iterdir()), ids=lambda path: path.stem)
def test_every_flagfile_is_valid(path):
    assert parse(f"--flagfile={path}", *REQUIRED).data_dir == Path("data")


def test_the_mode_follows_the_metric():
    assert parse(*REQUIRED).mode == "min"
    assert parse(*REQUIRED, "--monitor=validation_top3").mode == "max"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--learning_rate=0"], "--learning_rate=0.0: must be above 0"),
        (["--learning_rate=nan"], "--learning_rate=nan: must be a finite number"),
        (["--weight_decay=inf"], "--weight_decay=inf: must be a finite number"),
        (["--plateau_factor=1"], "--plateau_factor=1.0: must be below 1"),
        (["--plateau_factor=0"], "--plateau_factor=0.0: must be above 0"),
        (["--ema=1"], "--ema=1.0: must be below 1"),
        (["--min_learning_rate=0.1"], "--min_learning_rate=0.1: must not be above"),
        (["--schedule=warmup_cosine", "--epochs=1"], "--warmup_epochs=1.0: must be below"),
        (["--schedule=one_cycle", "--epochs=1"], "--warmup_epochs=1.0: must be below"),
        (["--profile_steps=3"], "--profile_steps=3: must be first,last"),
        (["--profile_steps=5,3"], "--profile_steps=5,3: must be first,last"),
        (["--profile_steps=0,3"], "--profile_steps=0,3: must be first,last"),
        (["--model=nothing"], "--model=nothing: must be one of"),
        (["--augment=shift,melt"], "--augment=melt: must be one of"),
        (["--train_sides=16,28"], "--train_sides: a run that stops early would end at a side"),
        (["--init_from=x", "--resume=must"], "--init_from and --resume=must contradict"),
        (["--init_from=x"], "--init_from=x: no checkpoint is there"),
        (["--resume=must"], "--resume=must, but run has no checkpoint"),
        (["--check_numerics", "--jit_compile=true"], "--check_numerics cannot see into XLA"),
        (["--cache=device", "--strategy=mirrored"], "--cache=device holds the split on one"),
        (["--data_dir="], "--data_dir is required"),
        (["--run_dir="], "--run_dir is required"),
    ],
)
def test_what_is_impossible_is_refused_in_one_line(argv, message):
    with pytest.raises(UsageError) as caught:
        parse(*REQUIRED, *argv)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "argument",
    [
        "--optimizer=adan", "--schedule=linear", "--epochs=0", "--batch_size=0", "--ema=1.5",
        "--dropout=1", "--seed=-1", "--keep=0", "--steps_per_loop=0", "--label_smoothing=1",
        "--early_stopping_patience=-2", "--train_sides=3", "--teacher_share=1.5",
        "--tta=rotate", "--precision=float16", "--jit_compile=maybe",
    ],
)  # fmt: skip
def test_what_is_out_of_range_is_refused(argument):
    with pytest.raises(UsageError, match=f"{argument}(.0)?: must be"):
        parse(*REQUIRED, argument)


def test_what_is_no_number_is_refused():
    with pytest.raises(absl_flags.Error, match="--profile_steps=a,b: must be a whole number"):
        parse(*REQUIRED, "--profile_steps=a,b")


def test_a_config_of_python_is_held_to_the_same_rules():
    config = Config(data_dir="data", run_dir="run", epochs=7)
    assert config == parse(*REQUIRED, "--epochs=7")
    with pytest.raises(UsageError, match="--batch_size=0: must be at least 1"):
        dataclasses.replace(config, batch_size=0).check()
    with pytest.raises(UsageError, match=r"--warmup_epochs=9\.0: must be below --epochs=7"):
        dataclasses.replace(config, schedule="warmup_cosine", warmup_epochs=9.0).check()
    with pytest.raises(TypeError, match="run_dir"):
        Config(data_dir="data")


def test_the_list_of_augmentations_is_that_of_the_trainer():
    assert configs.AUGMENTATIONS == augmentation.KINDS + mixing.KINDS


def test_must_resume_is_met_by_a_checkpoint(tmp_path):
    latest(tmp_path, keep=1).save(1, {}, {})
    assert parse(*REQUIRED, f"--run_dir={tmp_path}", "--resume=must").resume == "must"


def test_init_from_is_not_needed_to_resume(tmp_path):
    """So that the same command resumes after the other run has been deleted."""
    best(tmp_path / "other", keep=1).save(1, {}, {})
    argv = (*REQUIRED, f"--run_dir={tmp_path}", f"--init_from={tmp_path / 'other'}")
    assert parse(*argv).init_from == tmp_path / "other"
    latest(tmp_path, keep=1).save(1, {}, {})
    assert parse(*argv[:-1], "--init_from=gone").init_from == Path("gone")
    with pytest.raises(UsageError, match="gone: no checkpoint"):
        parse(*argv[:-1], "--init_from=gone", "--resume=never")


EVERYTHING = (
    "--train_split=train[:50%]",
    "--model=study_cnn", "--dropout=0.3", "--epochs=7", "--batch_size=96", "--optimizer=lamb",
    "--learning_rate=0.003", "--weight_decay=0.0", "--label_smoothing=0.1", "--ema=0.99",
    "--schedule=warmup_cosine", "--warmup_epochs=0.25", "--monitor=validation_top3",
    "--plateau_factor=0.3", "--plateau_patience=2", "--plateau_min_delta=1e-05",
    "--plateau_cooldown=1", "--min_learning_rate=1e-07", "--early_stopping_patience=-1",
    "--early_stopping_min_delta=0.01", "--augment=shift,flip", "--cache=none", "--seed=11",
    "--deterministic", "--precision=mixed_bfloat16", "--jit_compile=false",
    "--strategy=one_device", "--steps_per_loop=3", "--resume=never",
    "--checkpoint_every_secs=7.5", "--log_every_secs=2.0",
    "--checkpoint_every_steps=9", "--keep=4", "--profile_steps=3,5", "--histograms",
    "--report=false", "--gpu_memory_growth",
    "--read_ahead_mib=8", "--local_cache_dir=cache", "--local_cache_gib=1.5",
    "--check_numerics", "--flip_classes=cat,The Mona Lisa", "--train_sides=16,28", "--tta=flip",
    "--teacher_share=0.3",
)  # fmt: skip


@pytest.mark.parametrize("argv", [(), EVERYTHING], ids=["defaults", "everything"])
def test_the_flagfile_of_a_run_repeats_it_elsewhere(argv, tmp_path, monkeypatch):
    """Into another run directory, named before or after it, and from another folder."""
    best(tmp_path / "first", keep=1).save(1, {}, {})
    monkeypatch.chdir(tmp_path)
    config = parse(*REQUIRED, "--init_from=first", "--teacher=first", *argv)
    path = tmp_path / "flags.txt"
    path.write_text(config.to_flagfile())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    expected = dataclasses.replace(
        config,
        data_dir=tmp_path / "data",
        local_cache_dir=config.local_cache_dir and tmp_path / "cache",
        init_from=tmp_path / "first",
        teacher=tmp_path / "first",
        run_dir=Path("other"),
        resume="auto",
    )
    assert parse(f"--flagfile={path}", "--run_dir=other") == expected
    assert parse("--run_dir=other", f"--flagfile={path}") == expected


def test_the_flagfile_of_a_run_needs_a_run_directory_of_its_own(tmp_path):
    """It would else test the same run again, or replace it."""
    path = tmp_path / "flags.txt"
    path.write_text(parse(*REQUIRED, "--resume=never").to_flagfile())
    with pytest.raises(UsageError, match="--run_dir is required"):
        parse(f"--flagfile={path}")


def test_every_flag_is_in_the_test_above():
    given = {argument[2:].partition("=")[0] for argument in (*EVERYTHING, *REQUIRED)}
    assert {field.name for field in dataclasses.fields(Config)} - given == {"init_from", "teacher"}


def test_flags_are_checked_before_tensorflow_is_imported():
    code = (
        "import sys; import trainer; from trainer.commands import train\n"
        "from trainer.run_directory import starts\n"
        "config = trainer.Config(data_dir='data', run_dir='run', augment=['flip'])\n"
        "config.check(); starts.require(config)\n"
        "print('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


def test_the_commands_help_lists_every_setting_by_group_and_nothing_of_absl():
    command = [sys.executable, "-m", "trainer", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    shown = re.findall(r"^  --(?:\[no\])?(\w+)", text, re.MULTILINE)
    settings_names = [field.name for field in dataclasses.fields(Config)]
    assert sorted(shown) == sorted([*settings_names, "print_model", "flagfile", "verbosity"])
    for group in ("Data:", "Model:", "Optimization:", "Checkpoints:"):
        assert group in text.splitlines()
