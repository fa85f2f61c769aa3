"""Writes the page, and shows its pictures in TensorBoard."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.files import atomic_write, delete_leftovers
from trainer.report import facts, figures, findings
from trainer.report.findings import Gallery
from trainer.results import split_results as found_results
from trainer.results.comparison import Comparison
from trainer.results.split_results import Results
from trainer.run_directory import checkpoints, event_files
from trainer.run_directory.runs import TrainedRun


def make(run: TrainedRun, *, in_tensorboard: bool = True) -> Path:
    """Makes <run_dir>/report/index.html; evaluates the run if that has not been done.

    For a run without any checkpoint, the page shows what there is.

    Args:
      run: The run.
      in_tensorboard: Whether to show the pictures there, too. While a trainer adds to the curves,
        none may: TensorBoard follows the newest file of a run, and looks at no older one again.

    Returns:
      The page.

    Raises:
      DataError: A checkpoint or the data set is damaged, or no longer there.
    """
    info = run.open_dataset()
    shown = facts.describe_run(run, info)
    results = _results(run)
    if results:
        gallery = findings.gather_gallery(run, info, results)
        shown |= findings.describe_results(run, info, results, gallery)
        if in_tensorboard:
            _show_in_tensorboard(run, results, gallery)
    path = run.out_dir / "report" / "index.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    delete_leftovers(path.parent)
    with atomic_write(path) as file:
        file.write(render("report.html", shown).encode())
    return path


def render_comparison(compared: Comparison, published: Mapping[str, float] | None = None) -> str:
    """The page of `quickdraw compare`.

    Args:
      compared: The runs.
      published: What the study of 2019 has stated of its own, to be shown beside them.
    """
    histories = {candidate.name: candidate.run.history() for candidate in compared.candidates}
    curves = figures.compared_curves({name: rows for name, rows in histories.items() if rows})
    shown = {
        **vars(compared),
        "published": published,
        "theme": figures.theme(),
        "curves": {name: figures.to_svg(figure) for name, figure in curves.items()},
    }
    return render("comparison.html", shown)


def render(template: str, shown: Mapping[str, Any]) -> str:
    """Fills in a template of this package."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # class names are anybody's text
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,  # a name that is missing is an error, not a blank
    )
    return environment.get_template(template).render(shown)


def _results(run: TrainedRun) -> Results | None:
    try:
        run.checkpoint()
    except UsageError:
        return None
    return found_results.find(run, "test")


def _show_in_tensorboard(run: TrainedRun, results: Results, gallery: Gallery) -> None:
    metrics = results.metrics
    drawn = {
        "confusion_matrix": figures.confusion_matrix(metrics.confusion, run.class_names),
        "random_guesses": figures.guesses(gallery.random),
        "calibration": figures.calibration(metrics.calibration),
    }
    pictures = {name: figures.to_png(figure) for name, figure in drawn.items()}
    step = checkpoints.step_of(run.checkpoint())
    event_files.write_pictures(run.out_dir / "tensorboard", pictures, step=step)
