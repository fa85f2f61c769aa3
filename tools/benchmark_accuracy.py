"""Compares how accurate runs get, and how soon: Keras' `fit` and this trainer's flagfiles.

    python -m tools.benchmark_accuracy --data_dir=data --seeds=3 --png=accuracy.png
    python -m tools.benchmark_accuracy --data_dir=data --quick --contenders=fit,fast
    python -m tools.benchmark_accuracy --data_dir=data --contenders='fast,fast --optimizer=adamw'

Every run is a process of its own, from nothing to its test result, one after another, on
otherwise idle cores if the times are to mean anything. The contenders:

- fit: `study_cnn` by Keras' fit in float32, with ModelCheckpoint, ReduceLROnPlateau and
  EarlyStopping, as a user writes it;
- fit_tuned: the same in the precision that the trainer would choose, 25 steps per call;
- fit_fast: network and recipe of the flagfile fast by Keras' fit, with Keras' layers, tuned so
  too: what the recipe gives, without what the trainer does;
- each flagfile by name (or a file of your own) by `python -m trainer`.

Any of them may be given flags of its own, to see what one of them does. A comma within such a
flag needs quotes: 'fast,"fast --train_sides=20,28"'.

All of them read the batches of this project's reader. The test split is tested once per run,
with the weights that were best in validation. "To fit's top-1" is the time to the end of the
first epoch whose validation top-1 is at least the mean, over seeds, of fit's best.

Each run's result is kept in --out_dir, so the same command goes on with a sitting that was
interrupted, and with more --seeds adds to it; the table says if there was more than one sitting.
"""

import datetime
from pathlib import Path

from absl import flags
from tqdm import tqdm

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base import cli
from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.stores import Location, locate
from tools import accuracy_report, accuracy_trial
from tools.accuracy_trial import Contender, Trial
from trainer.commands.train import FLAGFILES

_FIT = "tools.accuracy_fit"
_PEERS = {
    "fit": Contender("fit", "Keras fit, study_cnn, float32", _FIT, ("--flagfile=study_2019",)),
    "fit_tuned": Contender(
        "fit_tuned", "Keras fit, study_cnn, tuned", _FIT, ("--flagfile=study_2019", "--tuned")
    ),
    "fit_fast": Contender(
        "fit_fast", "Keras fit, network and recipe of fast", _FIT, ("--flagfile=fast", "--tuned")
    ),
}
_FLAGFILES = ("study_2019", "compact", "fast", "balanced", "best")


def main() -> None:
    """Compares as the flags say."""
    args = flags.FLAGS
    qt.open_dataset(args.data_dir)  # refuses what is none, before hours are spent
    contenders = [contender(name) for name in args.contenders]
    seeds = 1 if args.quick else args.seeds
    trials = sit(contenders, seeds, data_dir=locate(args.data_dir), out_dir=Path(args.out_dir))
    print(accuracy_report.text(contenders, trials))
    if args.png:
        accuracy_report.chart(contenders, trials, Path(args.png))
    accuracy_trial.require_success(trials)


def contender(text: str) -> Contender:
    """A contender by its name or that of a flagfile, with the flags after it if there are some.

    Raises:
      UsageError: There is none of that name.
    """
    name, *more = text.split()
    if name in _PEERS:
        found = _PEERS[name]
    else:
        comes_along = (FLAGFILES / f"{name}.flags").exists()
        if not comes_along and not Path(name).is_file():
            known = [*_PEERS, *sorted(path.stem for path in FLAGFILES.glob("*.flags"))]
            raise UsageError(f"--contenders={name}: must be of {', '.join(known)}, or a flagfile")
        stem = name if comes_along else Path(name).stem
        found = Contender(stem, f"quickdraw train, {stem}", "trainer", (f"--flagfile={name}",))
    return Contender(
        " ".join([found.name, *more]).replace("/", "_"),  # also a folder's name
        " ".join([found.title, *more]),
        found.module,
        (*found.arguments, *more),
    )


def sit(
    contenders: list[Contender], seeds: int, *, data_dir: Location, out_dir: Path
) -> list[Trial]:
    """Runs what has not been run yet, all contenders of a seed before any of the next."""
    sitting = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    trials = []
    turns = [(seed, each) for seed in range(seeds) for each in contenders]
    for seed, each in tqdm(turns, unit="run"):
        folder = out_dir / f"{each.name}-{seed}"
        trial = accuracy_trial.find(folder) or accuracy_trial.run(
            each, seed, data_dir=data_dir, folder=folder, sitting=sitting
        )
        tqdm.write(accuracy_report.line(each, trial))
        trials.append(trial)
    return trials


if __name__ == "__main__":
    flags.DEFINE_string("data_dir", None, "Folder of the data set.", required=True)
    flags.DEFINE_string("out_dir", "runs/accuracy", "Where runs and their results are kept.")
    flags.DEFINE_integer("seeds", 3, "Runs of each contender.", lower_bound=1)
    flags.DEFINE_bool("quick", False, "One run of each.")
    flags.DEFINE_list("contenders", [*_PEERS, *_FLAGFILES], "Who takes part, in this order.")
    flags.DEFINE_string("png", None, "File to draw accuracy against time to.")
    cli.run(main)
