"""Evaluates a run's best weights, once for all commands: the others read its results.

    quickdraw evaluate --run_dir=runs/1 --split=test

Prints loss, top-1, top-3 and top-5 accuracy, expected calibration error and the table of
classes, and leaves them in <run_dir>/evaluation/<split>/: report.txt, classes.csv,
metrics.json, confusion.npy, and predictions.npz with the first five guesses of every drawing.
"""

from absl import flags

from quickdraw_tfrecords.base import cli
from trainer.commands import run_flags


def define_flags() -> None:
    """Defines the flags of this command."""
    run_flags.define(data_dir=True)
    flags.DEFINE_string("split", "test", "Split to evaluate on.")


def main() -> None:
    """Evaluates as the flags say."""
    from trainer.results import split_results

    run = run_flags.open_run()
    results = split_results.evaluate(run, flags.FLAGS.split)
    print(split_results.to_text(results, run.class_names))


if __name__ == "__main__":
    define_flags()
    cli.run(main)
