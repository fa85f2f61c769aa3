"""Prints what a trained run sees in drawings.

    quickdraw predict --run_dir=runs/1 cat.png photo.jpg
    quickdraw predict --run_dir=runs/1 --json --top=3 cat.npy cat.ndjson

A file is a picture (PNG or JPEG, of any size and colors), a `.npy` of bitmaps, or an `.ndjson` of
strokes, simplified or raw. One that cannot be read is one line on stderr, and
the others are processed all the same; the exit code is then 1.
"""

import itertools
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from quickdraw_tfrecords.base import cli
from quickdraw_tfrecords.base.errors import UsageError
from trainer.commands import run_flags

if TYPE_CHECKING:
    from trainer.serving.drawing_files import Drawing

_BATCH_SIZE = 1024


def define_flags() -> None:
    """Defines the flags of this command."""
    run_flags.define()
    flags.DEFINE_integer("top", 5, "How many classes to print for each drawing.", 1)
    flags.DEFINE_bool("json", False, "Print one JSON object per drawing.")


def main(files: Sequence[str]) -> None:
    """Predicts as the flags say."""
    args = flags.FLAGS
    if not files:
        raise UsageError("name the files to look at, as in: --run_dir=runs/1 cat.png")
    from trainer.serving import classifier as classifiers  # imports TensorFlow
    from trainer.serving import drawing_files

    classifier = classifiers.Classifier.of(run_flags.open_run())
    failures: list[str] = []

    def warn(line: str) -> None:
        print("error:", line, file=sys.stderr)
        failures.append(line)

    drawings = drawing_files.read_all(files, classifier.side, warn)
    while batch := list(itertools.islice(drawings, _BATCH_SIZE)):
        probabilities = classifier(np.stack([drawing.bitmap for drawing in batch]))
        for drawing, row in zip(batch, probabilities, strict=True):
            best = classifiers.best(row, classifier.class_names, args.top)
            print(to_json(drawing, best) if args.json else to_text(drawing, best))
    if failures:
        sys.exit(1)


def to_text(drawing: "Drawing", best: Sequence[tuple[str, float]]) -> str:
    """The classes of a picture on a line each, those of a row on one line."""
    if drawing.row is None:
        lines = [f"{probability:>8.1%}  {name}" for name, probability in best]
        return "\n".join([drawing.file, *lines])
    guesses = ", ".join(f"{name} {probability:.1%}" for name, probability in best)
    return f"{drawing.file}[{drawing.row}]  {guesses}"


def to_json(drawing: "Drawing", best: Sequence[tuple[str, float]]) -> str:
    """An object of one line: file, row (null for a picture) and predictions, best first."""
    predictions = [{"class": name, "probability": probability} for name, probability in best]
    facts = {"file": drawing.file, "row": drawing.row, "predictions": predictions}
    return json.dumps(facts, ensure_ascii=False)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
