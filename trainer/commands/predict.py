"""Says what a trained run sees in drawings.

    quickdraw predict --run_dir=runs/1 cat.png photo.jpg
    quickdraw predict --run_dir=runs/1 --json --top=3 cat.npy cat.ndjson

A file is a picture (any size, colours and format that Pillow reads), a `.npy` of bitmaps, or
an `.ndjson` of strokes, simplified or raw. One that cannot be read is one line on stderr, and
the others are done all the same; the exit code is then 1.
"""

import dataclasses
import itertools
import json
import os
import sys
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from absl import flags
from PIL import Image, UnidentifiedImageError

from quickdraw_tfrecords.base import cli
from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.bitmaps import pictures, polylines, rasterization

_BATCH_SIZE = 1024


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A drawing of a file.

    Attributes:
      file: The file's name as it was given.
      row: Which drawing of the file, from 0; None if a file of its kind has but one.
      bitmap: uint8[side, side], ink high on 0.
    """

    file: str
    row: int | None
    bitmap: np.ndarray


def main(files: Sequence[str]) -> None:
    """Predicts as the flags say."""
    args = flags.FLAGS
    if not files:
        raise UsageError("name the files to look at, as in: --run_dir=runs/1 cat.png")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from trainer.serving import classifier as classifiers  # imports TensorFlow

    classifier = classifiers.Classifier.open(Path(args.run_dir))
    failures = []
    drawings = read_files(files, classifier.side, failures)
    while batch := list(itertools.islice(drawings, _BATCH_SIZE)):
        probabilities = classifier(np.stack([drawing.bitmap for drawing in batch]))
        for drawing, row in zip(batch, probabilities, strict=True):
            best = classifiers.best(row, classifier.class_names, args.top)
            print(to_json(drawing, best) if args.json else to_text(drawing, best))
    if failures:
        sys.exit(1)


def read_files(files: Iterable[str], side: int, failures: list[str]) -> Iterator[Drawing]:
    """The drawings of files, as bitmaps.

    Args:
      files: Their names.
      side: Height and width of a bitmap in pixels.
      failures: Takes the line that is printed for each file that cannot be read to its end.
    """
    for file in files:
        try:
            yield from _read_file(file, side)
        except (DataError, OSError) as error:
            is_ours = isinstance(error, DataError)
            failures.append(f"error: {error if is_ours else cli.describe_os_error(error)}")
            print(failures[-1], file=sys.stderr)


def _read_file(file: str, side: int) -> Iterator[Drawing]:
    path = Path(file)
    if path.suffix not in _READERS_OF_ROWS:
        yield Drawing(file, None, read_picture(path, side))
        return
    for row, bitmap in enumerate(_READERS_OF_ROWS[path.suffix](path, side)):
        yield Drawing(file, row, bitmap)


def read_picture(path: Path, side: int) -> np.ndarray:
    """The drawing on a picture, uint8[side, side].

    Raises:
      DataError: The file is no picture, or is damaged, or nothing is on it.
      OSError: It cannot be opened.
    """
    with open(path, "rb") as file:
        try:
            with Image.open(file) as image:
                bitmap = pictures.to_bitmap(image, side)
        except UnidentifiedImageError:
            raise DataError(f"{path}: not a picture, and not called .npy or .ndjson") from None
        except Exception as error:  # Pillow lets through whatever its decoders raise
            raise DataError(f"{path}: not a picture that can be read ({error})") from None
    if not bitmap.any():
        raise DataError(f"{path}: is blank, nothing on it differs from its paper")
    return bitmap


def read_bitmaps(path: Path, side: int) -> np.ndarray:
    """The bitmaps of a `.npy` file, uint8[n, side, side], mapped and not read.

    The array may be flat, as Google's are, uint8[n, side * side]; be one bitmap,
    uint8[side, side]; or have a last axis of 1.

    Raises:
      DataError: It is no such file, or is damaged.
      OSError: It cannot be opened.
    """
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, TypeError, SyntaxError, tokenize.TokenError) as error:
        raise DataError(f"{path}: not a whole .npy file of bitmaps ({error})") from None
    if array.dtype != np.uint8:
        raise DataError(f"{path}: dtype is {array.dtype}, must be uint8")
    single = (side, side)
    if array.shape != single and array.shape[1:] not in {(side * side,), single, (*single, 1)}:
        raise DataError(
            f"{path}: shape is {array.shape}, must be (drawings, {side * side}) or "
            f"(drawings, {side}, {side}), for the run's drawings are {side} x {side}"
        )
    return array.reshape(-1, side, side)


def read_strokes(path: Path, side: int) -> Iterator[np.ndarray]:
    """The drawings of an `.ndjson` file, each as uint8[side, side].

    Raises:
      DataError: A line is no drawing; says which, and what is wrong. Or cairo is missing.
      OSError: The file cannot be read.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                drawing = rasterization.parse(line)["drawing"]
                polylines.check(drawing)
                is_raw = len(drawing[0]) == 3  # x, y and the time, which simplified ones lack
                bitmaps = rasterization.rasterize([drawing], side, raw=is_raw)
            except DataError as error:
                raise DataError(f"{path}: line {number}: {error}") from None
            yield bitmaps.reshape(side, side)


_READERS_OF_ROWS = {".npy": read_bitmaps, ".ndjson": read_strokes}


def to_text(drawing: Drawing, best: Sequence[tuple[str, float]]) -> str:
    """A picture's classes below each other, those of a row in one line."""
    if drawing.row is None:
        lines = [f"{probability:>8.1%}  {name}" for name, probability in best]
        return "\n".join([drawing.file, *lines])
    guesses = ", ".join(f"{name} {probability:.1%}" for name, probability in best)
    return f"{drawing.file}[{drawing.row}]  {guesses}"


def to_json(drawing: Drawing, best: Sequence[tuple[str, float]]) -> str:
    """An object of one line: file, row (null for a picture) and predictions, best first."""
    predictions = [{"class": name, "probability": probability} for name, probability in best]
    facts = {"file": drawing.file, "row": drawing.row, "predictions": predictions}
    return json.dumps(facts, ensure_ascii=False)


if __name__ == "__main__":
    flags.DEFINE_string("run_dir", None, "Run directory of the trainer.", required=True)
    flags.DEFINE_integer("top", 5, "How many classes to print of each drawing.", 1)
    flags.DEFINE_bool("json", False, "Print one JSON object a drawing.")
    cli.run(main)
