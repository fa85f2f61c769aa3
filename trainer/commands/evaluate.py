"""Evaluates a run's best weights, once for all: the other tools read what it leaves.

    quickdraw evaluate --run_dir=runs/1 --split=test

Prints loss, top-1, top-3 and top-5 accuracy, expected calibration error and the table of
classes, and leaves them in <run_dir>/evaluation/<split>/: report.txt, classes.csv,
metrics.json, confusion.npy, and predictions.npz with the first five guesses of every drawing.
"""

import os
from pathlib import Path

from absl import flags

from quickdraw_tfrecords.base import cli


def main() -> None:
    """Evaluates as the flags say."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from trainer.results import split_results
    from trainer.run_directory import runs

    args = flags.FLAGS
    data_dir = Path(args.data_dir) if args.data_dir else None
    run = runs.open_run(Path(args.run_dir), data_dir)
    print(split_results.to_text(split_results.evaluate(run, args.split), run.class_names))


if __name__ == "__main__":
    flags.DEFINE_string("run_dir", None, "Directory of the run.", required=True)
    flags.DEFINE_string("split", "test", "Split to evaluate on.")
    flags.DEFINE_string("data_dir", None, "Where the run's data set is, if it has moved.")
    cli.run(main)
