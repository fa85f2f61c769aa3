"""Compares runs: how good each is, how sure that is, and what differs.

    quickdraw compare --run_dirs=runs/1,runs/2,runs/3 --html=compare.html
    quickdraw compare --run_dirs='runs/lr-*'      # or a folder of runs: --run_dirs=runs

Metrics have 95 % intervals: where they would lie with other test drawings of the same kind
(Wilson's interval of an accuracy, the standard error of the loss). Runs that were tested on
the same drawings are also compared drawing by drawing, which tells much smaller differences
apart: McNemar's test of the first guesses. Runs that have not been evaluated yet are first.
"""

from pathlib import Path

from absl import flags

from quickdraw_tfrecords.base import cli
from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.files import atomic_write
from quickdraw_tfrecords.base.stores import Location
from trainer.run_directory import finding


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_list(
        "run_dirs",
        None,
        "Directories of the runs, folders of them, or patterns, with commas.",
        required=True,
    )
    flags.DEFINE_string("split", "test", "Split to compare on.")
    flags.DEFINE_string("html", None, "File to write a page to, with curves.")


def main() -> None:
    """Compares as the flags say."""
    args = flags.FLAGS
    run_dirs = finding.find(args.run_dirs, "--run_dirs=")
    if len(run_dirs) < 2:
        raise UsageError(
            f"--run_dirs={','.join(args.run_dirs)}: must name two run directories or more"
        )
    opened = [finding.open_whole(run_dir, args.split) for run_dir in run_dirs]
    from trainer.results import comparison, comparison_tables  # import TensorFlow

    compared = comparison.gather(dict(zip(_names(run_dirs), opened, strict=True)), args.split)
    for run in opened:
        run.publish()
    print(comparison_tables.to_text(compared))
    if args.html:
        from trainer.report import page

        with atomic_write(Path(args.html)) as file:
            file.write(page.render_comparison(compared).encode())
        print(f"\nwith curves: {args.html}")


def _names(run_dirs: list[Location]) -> list[str]:
    """What the runs are called: the last parts of their paths, if those differ."""
    names = [(path.resolve() if isinstance(path, Path) else path).name for path in run_dirs]
    return names if len(set(names)) == len(names) else list(map(str, run_dirs))


if __name__ == "__main__":
    define_flags()
    cli.run(main)
