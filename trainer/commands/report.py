"""Makes the report of a run: one page that opens in any browser, with no network.

    quickdraw report --run_dir=runs/1

Writes <run_dir>/report/index.html, and shows its pictures in TensorBoard, unless the run is still
being trained. Evaluates the run on the test split, unless that has been done.
"""

from quickdraw_tfrecords.base import cli, locks
from trainer.commands import run_flags
from trainer.run_directory import choices


def define_flags() -> None:
    """Defines the flags of this command."""
    run_flags.define(data_dir=True)


def main() -> None:
    """Reports as the flags say."""
    run = run_flags.open_run(None, *choices.LISTED, "evaluation/test/", "tensorboard/")
    from trainer.report import page  # imports TensorFlow: only once the flags are good

    is_training = run.out_dir == run.directory and locks.is_held(run.directory)
    path = page.make(run, in_tensorboard=not is_training)
    run.publish()
    print(run.shown(path))
    if is_training:
        print("TensorBoard will have its pictures when the run has ended; it is being trained")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
