"""The study of 2019 over again, on its own data, and what came after it beside it.

    python -m tools.study --data_dir=data/study --out_dir=runs/study

downloads Google's drawings, 6,450 of each of 345 classes, converts them, and trains the
flagfiles study_2019, fast, balanced and best on them. Then one page, <out_dir>/index.html,
compares the runs with the figures that the study published. It says first what it will download,
and how long the training will take by a short trial on this machine. Each part resumes, so that
after any end the same command goes on; what is done takes seconds.

Flags of `quickdraw convert` are taken too, for another choice of drawings (--classes,
--per_class) or another server (--base_url); --train_flags is for the trainer:

    python -m tools.study --per_class=500 --train_flags='--epochs=5'
"""

import dataclasses
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import flags

from quickdraw_tfrecords import __version__
from quickdraw_tfrecords.base import class_names, cli, setting_flags
from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.files import atomic_write
from quickdraw_tfrecords.sources.registry import SourceConfig
from quickdraw_tfrecords.writing.config import ConvertConfig
from tools import gpu_checks
from trainer.commands.train import FLAGFILES
from trainer.config import Config
from trainer.run_directory import runs

_FLAGFILES = ("study_2019", "fast", "balanced", "best")
_PIXELS = 28 * 28
_LARGEST_CLASS = 350_000  # about as many drawings as Google has of one
# What a trial of some steps is not told: places, and what only a whole run knows.
_NOT_TRIED = ("data_dir", "run_dir", "train_sides", "teacher", "init_from", "profile_steps")


@dataclasses.dataclass(frozen=True)
class Training:
    """A run of the study.

    Attributes:
      name: Of its flagfile, and of its folder.
      run_dir: Where it goes.
      arguments: For the trainer.
    """

    name: str
    run_dir: Path
    arguments: tuple[str, ...]

    @property
    def is_done(self) -> bool:
        """Whether it has been tested."""
        return (self.run_dir / "evaluation" / "test" / "metrics.json").exists()

    @property
    def begun(self) -> tuple[str, ...]:
        """What a run that has begun has to be told: a busy machine may decide otherwise."""
        path = self.run_dir / runs.FILE_NAME
        return (
            (f"--precision={json.loads(path.read_text())['precision']}",) if path.exists() else ()
        )


def main() -> None:
    """Does what is not done yet."""
    args = flags.FLAGS
    data_dir, out_dir = Path(args.data_dir), Path(args.out_dir)
    more = tuple(shlex.split(args.train_flags))
    trainings = [
        Training(Path(name).stem, out_dir / Path(name).stem, (f"--flagfile={_path(name)}", *more))
        for name in args.flagfiles
    ]
    configs = [_config(training) for training in trainings]  # before anything is downloaded
    for line in _announcement(data_dir, trainings, configs):
        print(line, flush=True)
    _do("quickdraw_tfrecords", *_convert_arguments(data_dir))
    for training in trainings:
        if not training.is_done:
            print(f"\n{training.name}", flush=True)
            where = (f"--data_dir={data_dir}", f"--run_dir={training.run_dir}")
            _do("trainer", *training.arguments, *training.begun, *where)
    print(f"\n{_conclude(trainings, out_dir / 'index.html')}")


def _path(flagfile: str) -> Path:
    """A flagfile's, by its name or path."""
    own = FLAGFILES / f"{flagfile}.flags"
    if not own.exists() and not Path(flagfile).is_file():
        raise UsageError(f"--flagfiles={flagfile}: neither a file nor a flagfile of the trainer")
    return own if own.exists() else Path(flagfile)


def _config(training: Training) -> Config:
    """The settings of a run."""
    values = flags.FlagValues()
    setting_flags.define_flags(Config, values)
    try:
        values(["trainer", "--data_dir=unused", "--run_dir=unused", *training.arguments])
    except flags.Error as error:
        raise UsageError(f"{training.name}: {error}") from error
    config = setting_flags.from_flags(Config, values)
    config.check()
    return config


def _announcement(
    data_dir: Path, trainings: Sequence[Training], configs: Sequence[Config]
) -> Iterator[str]:
    """What is going to be done, and how long that will take, as far as is known."""
    converter = setting_flags.from_flags(ConvertConfig)
    source = setting_flags.from_flags(SourceConfig)
    classes = len(class_names.parse_classes(source.classes) or class_names.quickdraw_class_names())
    per_class = converter.per_class or _LARGEST_CLASS
    size = f"{classes * per_class * _PIXELS / 1e9:.2f} GB"
    yield (
        f"to download: {size}, {per_class:,} drawings of {classes} classes from {source.base_url}, "
        f"less what is in {data_dir}; on disk it is as much again as a data set"
    )
    left = [pair for pair in zip(trainings, configs, strict=True) if not pair[0].is_done]
    if not left:
        return
    found = gpu_checks.run("devices")
    device = ", ".join(found["gpus"]) or "the CPU"
    yield f"to train on {device}, at most, by a few steps of each that are tried now:"
    train = classes * per_class * (1 - converter.test_fraction)
    total_secs = 0.0
    for training, config in left:
        try:
            secs = config.epochs * train * _drawing_secs(config, found)
        except gpu_checks.JobError as error:
            yield f"  {training.name}: {config.epochs} epochs; not tried: {error}"
            continue
        total_secs += secs
        yield f"  {training.name}: {config.epochs} epochs in {_duration(secs)}"
    yield f"together {_duration(total_secs)}; stop whenever you like, the same command goes on"


def _drawing_secs(config: Config, found: gpu_checks.Result) -> float:
    """How long a drawing takes in training, by a trial on the device that was found.

    Raises:
      JobError: The trial failed.
    """
    is_gpu = bool(found["gpus"])
    settings = {name: value for name, value in vars(config).items() if name not in _NOT_TRIED}
    arguments = {
        "settings": settings,
        "policy": found["precision"] if config.precision == "auto" else config.precision,
        "xla": is_gpu,
        "count": 2,
        "timed": 200 if is_gpu else 3,
    }
    return float(gpu_checks.run("steps", arguments)["ms"]) / 1e3 / config.batch_size


def _duration(secs: float) -> str:
    if secs < 120:
        return f"{secs:.0f} s"
    return f"{secs / 60:.0f} min" if secs < 7200 else f"{secs / 3600:.1f} h"


def _convert_arguments(data_dir: Path) -> list[str]:
    """Where to, and what was given of the converter's flags."""
    names = {
        field.name
        for settings in (SourceConfig, ConvertConfig)
        for field in dataclasses.fields(settings)
    }
    given = [flags.FLAGS[name].serialize() for name in sorted(names) if flags.FLAGS[name].present]
    return ["--source=download", f"--data_dir={data_dir}", *given]


def _do(module: str, *arguments: str) -> None:
    """Runs a command of the project, which resumes by itself.

    Raises:
      DataError: It failed; it has said why.
    """
    code = subprocess.run([sys.executable, "-m", module, *arguments]).returncode
    if code:
        raise DataError(f"{module} ended with exit code {code}; the same command goes on")


def _conclude(trainings: Sequence[Training], path: Path) -> str:
    """Writes the page, and gives the line to share."""
    from trainer.report import findings, page  # import TensorFlow: not before it is needed
    from trainer.results import comparison

    opened = {training.name: runs.open_run(training.run_dir) for training in trainings}
    compared = comparison.gather(opened, "test")
    with atomic_write(path) as file:
        file.write(page.render_comparison(compared, published=findings.STUDY).encode())
    results = [
        f"{candidate.name} {candidate.results.metrics.top1:.4f} "
        f"in {_duration(sum(row['seconds'] for row in candidate.run.history()))}"
        for candidate in compared.candidates
    ]
    run = next(iter(opened.values()))
    drawings = f"{len(run.class_names)} classes, {run.num_examples['test']:,} test drawings"
    return (
        f"compared in {path}\nto share: quickdraw-tfrecords {__version__} on {run.devices}, "
        f"{drawings}, top-1: {', '.join(results)} (the study of 2019: {findings.STUDY['top1']})"
    )


if __name__ == "__main__":
    setting_flags.define_flags(SourceConfig)
    setting_flags.define_flags(ConvertConfig)
    flags.FLAGS.set_default("source", "download")
    flags.DEFINE_string("data_dir", "data/study", "Folder of the data set.")
    flags.DEFINE_string("out_dir", "runs/study", "Folder of the runs, and of the page.")
    flags.DEFINE_list("flagfiles", list(_FLAGFILES), "What to train, in this order.")
    flags.DEFINE_string("train_flags", "", "More flags for each training.")
    cli.run(main)
