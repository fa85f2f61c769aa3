"""Makes the report of a run: one page that opens in any browser, with no network.

    quickdraw report --run_dir=runs/1

Writes <run_dir>/report/index.html, and shows its pictures in TensorBoard. Evaluates the run
on the test split, unless that has been done.
"""

from quickdraw_tfrecords.base import cli
from trainer.commands import run_flags


def define_flags() -> None:
    """Defines the flags of this command."""
    run_flags.define(data_dir=True)


def main() -> None:
    """Reports as the flags say."""
    run = run_flags.open_run()
    from trainer.report import page  # imports TensorFlow: only once the flags are good

    print(page.make(run))


if __name__ == "__main__":
    define_flags()
    cli.run(main)
