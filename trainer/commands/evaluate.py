"""Evaluates a run's best weights, once for all commands: the others read its results.

    quickdraw evaluate --run_dir=runs/1 --split=test
    quickdraw evaluate --run_dirs=runs/1,runs/2,runs/3 --tta=flip

Prints loss, top-1, top-3 and top-5 accuracy, expected calibration error and the table of
classes, and leaves them in <run_dir>/evaluation/<split>/: report.txt, classes.csv,
metrics.json, confusion.npy, and predictions.npz with the first five guesses of every drawing.
Of several runs it prints the same for the mean of their probabilities, and leaves nothing.
"""

from absl import flags

from quickdraw_tfrecords.base import cli
from quickdraw_tfrecords.base.errors import UsageError
from trainer.commands import run_flags


def define_flags() -> None:
    """Defines the flags of this command."""
    run_flags.define(data_dir=True, tta=True, required=False)
    meaning = "In place of --run_dir: runs to average, with commas."
    flags.DEFINE_list("run_dirs", None, meaning, module_name="run")
    flags.DEFINE_string("split", "test", "Split to evaluate on.")


def main() -> None:
    """Evaluates as the flags say."""
    args = flags.FLAGS
    if bool(args.run_dir) == bool(args.run_dirs):
        raise UsageError("name a run with --run_dir, or several with --run_dirs, and not both")
    opened = [run_flags.open_run(run_dir) for run_dir in args.run_dirs or [args.run_dir]]
    from trainer.results import split_results  # imports TensorFlow: only once the flags are good

    if args.run_dirs:
        results = split_results.evaluate_together(opened, args.split)
    else:
        results = split_results.evaluate(opened[0], args.split)
        opened[0].publish()
    print(split_results.to_text(results, opened[0].class_names))


if __name__ == "__main__":
    define_flags()
    cli.run(main)
