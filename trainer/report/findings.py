"""What the page shows of results: metrics, and drawings with what the model says of them."""

import base64
import dataclasses
import io
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from quickdraw_tfrecords.base.class_names import quickdraw_class_names
from quickdraw_tfrecords.reading import drawings
from quickdraw_tfrecords.reading.dataset import DatasetInfo
from trainer.report import confusions, examples, facts, figures
from trainer.report.confusions import ConfusedPair
from trainer.report.examples import Example
from trainer.results.metrics import Metrics
from trainer.results.split_results import Results
from trainer.run_directory.runs import TrainedRun

# The figures of the study of 2019, and the drawings that it had.
STUDY = {"loss": 1.156, "top1": 0.719, "top3": 0.869}
_STUDY_EXAMPLES = {"train": 1_602_180, "validation": 178_020, "test": 445_050}

_RANDOM, _MISTAKES, _PAIRS, _DRAWINGS_OF_PAIR = 24, 12, 12, 6
_BLOCKS, _BLOCK_CLASSES = 4, 8
_NAMES = {
    "loss": "Loss",
    "top1": "Top-1 accuracy",
    "top3": "Top-3 accuracy",
    "top5": "Top-5 accuracy",
    "expected_calibration_error": "Calibration error",
}
_MATRIX_PIXELS = 640


@dataclasses.dataclass(frozen=True)
class Gallery:
    """The drawings that the page shows.

    Attributes:
      random: Some of the split, each as likely as any other.
      mistakes: The most confident ones.
      pairs: The most confused, with drawings of either class.
    """

    random: list[Example]
    mistakes: list[Example]
    pairs: list[tuple[ConfusedPair, list[Example], list[Example]]]


def gather_gallery(run: TrainedRun, info: DatasetInfo, results: Results) -> Gallery:
    """Chooses drawings, and reads them in one go.

    Raises:
      DataError: A shard is missing or damaged; names it.
    """
    found = results.predictions
    pairs = confusions.most_confused_pairs(results.metrics.confusion, _PAIRS)
    positions = [
        examples.at_random(found, _RANDOM),
        examples.confident_mistakes(found, _MISTAKES),
        *itertools.chain.from_iterable(
            examples.of_pair(found, pair, _DRAWINGS_OF_PAIR) for pair in pairs
        ),
    ]
    images = iter(drawings.read_at(info, results.split, np.concatenate(positions)))
    random, mistakes, *of_pairs = (
        [examples.describe(found, run.class_names, place, next(images)) for place in places]
        for places in positions
    )
    return Gallery(random, mistakes, list(zip(pairs, of_pairs[::2], of_pairs[1::2], strict=True)))


def describe_results(
    run: TrainedRun, info: DatasetInfo, results: Results, gallery: Gallery
) -> dict[str, Any]:
    """What is shown of results."""
    metrics = results.metrics
    comparison = _compare_to_study(run, info)
    study = STUDY if comparison else {}
    order = confusions.order_by_confusion(metrics.confusion)
    return {
        "weights": results.weights,
        "comparison": comparison,
        "results": {
            "count": metrics.count,
            "metrics": [
                {"name": _NAMES[name], "value": value, "study": study.get(name)}
                for name, value in metrics.headline().items()
            ],
            "random": gallery.random,
            "mistakes": gallery.mistakes,
            "pairs": [_describe_pair(run.class_names, *pair) for pair in gallery.pairs],
            "blocks": list(_describe_blocks(metrics, run.class_names)),
            "classes": _describe_classes(metrics, run.class_names),
            "averages": [metrics.macro_average, metrics.weighted_average],
            "calibration": figures.to_svg(figures.calibration(metrics.calibration)),
            "calibration_error": metrics.calibration.error,
        },
        "matrix": _describe_matrix(metrics.confusion, run.class_names, order),
    }


def _compare_to_study(run: TrainedRun, info: DatasetInfo) -> dict[str, Any] | None:
    """What to say of the study's figures; None where they are of other things altogether."""
    if set(run.class_names) != set(quickdraw_class_names()) or facts.is_synthetic(info):
        return None
    is_same = dict(run.num_examples) == _STUDY_EXAMPLES
    if is_same:
        text = (
            "The study of 2019 had as many drawings of the same classes, split in the same way; "
            "which drawings they were is not known."
        )
    else:
        text = (
            "The study’s figures are on other data: 445,050 drawings of the same classes, after "
            "training on 1,602,180. They are no measure of this run."
        )
    return {"is_same": is_same, "text": text}


def _describe_pair(
    class_names: Sequence[str], pair: ConfusedPair, forward: list[Example], backward: list[Example]
) -> dict[str, Any]:
    return {
        "first": class_names[pair.first],
        "second": class_names[pair.second],
        "forward": pair.forward,
        "backward": pair.backward,
        "forward_examples": forward,
        "backward_examples": backward,
    }


def _describe_blocks(metrics: Metrics, class_names: Sequence[str]) -> Iterator[dict[str, Any]]:
    confusion = metrics.confusion
    if len(class_names) <= _BLOCK_CLASSES:
        return  # the matrix itself is as small
    blocks = confusions.most_confused_blocks(confusion, limit=_BLOCKS, size=_BLOCK_CLASSES)
    for block in blocks:
        cells = confusion[np.ix_(block, block)]
        shares = cells / np.maximum(confusion[block].sum(axis=1, keepdims=True), 1)
        names = [class_names[label] for label in block]
        yield {
            "names": names,
            "mistakes": int(cells.sum() - np.trace(cells)),
            "rows": [
                (name, [{"count": int(count), "strength": _strength(s)} for count, s in row])
                for name, row in zip(names, np.stack([cells, shares], -1), strict=True)
            ],
        }


def _strength(share: float) -> int:
    """How strong the color of a cell is, in percent; text on it stays readable."""
    return round(55 * float(np.sqrt(share)))


def _describe_classes(metrics: Metrics, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of the table, the worst recognized classes first."""
    mistakes = metrics.confusion - np.diag(np.diag(metrics.confusion))
    most = mistakes.argmax(axis=1)
    rows = [
        {
            **dataclasses.asdict(row),
            "taken_for": class_names[guess] if mistakes[label, guess] else None,
        }
        for label, (row, guess) in enumerate(zip(metrics.classes, most, strict=True))
    ]
    return sorted(rows, key=lambda row: (row["recall"] is None, row["recall"], row["name"]))


def _describe_matrix(
    confusion: NDArray[np.int64], class_names: Sequence[str], order: NDArray[np.int64]
) -> dict[str, Any]:
    ordered = confusion[np.ix_(order, order)]
    return {
        "names": [class_names[label] for label in order],
        "rows": [
            {int(column): int(row[column]) for column in np.flatnonzero(row)} for row in ordered
        ],
        "cell": int(np.clip(_MATRIX_PIXELS // len(order), 2, 28)),
        "src": [_draw_matrix(ordered, theme) for theme in (0, 1)],
    }


def _draw_matrix(confusion: NDArray[np.int64], theme: int) -> str:
    """The address of an image with a pixel for each cell, for light (0) or dark (1) pages."""
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    pixels = np.empty([*confusion.shape, 4], np.uint8)
    pixels[..., :3] = _color("second", theme)
    pixels[np.diag_indices(len(confusion))] = [*_color("accent", theme), 0]
    pixels[..., 3] = np.round(15 * np.sqrt(shares)) * 17  # in 16 steps, which take little space
    file = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _color(name: str, theme: int) -> tuple[int, ...]:
    return tuple(bytes.fromhex(figures.PALETTE[name][theme].removeprefix("#")))
