"""Makes the report of a run: one page that opens in any browser, with no network.

    quickdraw report --run_dir=runs/1

Writes <run_dir>/report/index.html, and shows its pictures in TensorBoard. Evaluates the run
on the test split, unless that has been done.
"""

import os
from pathlib import Path

from absl import flags

from quickdraw_tfrecords.base import cli


def main() -> None:
    """Reports as the flags say."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from trainer.report import page
    from trainer.run_directory import runs

    args = flags.FLAGS
    data_dir = Path(args.data_dir) if args.data_dir else None
    print(page.make(runs.open_run(Path(args.run_dir), data_dir)))


if __name__ == "__main__":
    flags.DEFINE_string("run_dir", None, "Directory of the run.", required=True)
    flags.DEFINE_string("data_dir", None, "Where the run's data set is, if it has moved.")
    cli.run(main)
