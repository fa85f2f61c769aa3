"""Which drawings of the test split to show, and what the model says of each."""

import base64
import dataclasses
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainer.report.confusions import ConfusedPair
from trainer.results.predictions import Predictions

_GUESSES = 3


@dataclasses.dataclass(frozen=True)
class Guess:
    """One of a model's guesses.

    Attributes:
      name: The class.
      probability: In [0, 1].
      is_right: Whether it is the drawing's class.
    """

    name: str
    probability: float
    is_right: bool


@dataclasses.dataclass(frozen=True)
class Example:
    """A drawing with the model's best guesses.

    Attributes:
      name: Its class.
      source_row: Its row in the source; -1 if not known.
      guesses: The most probable first.
      image: uint8[side, side], ink high on 0.
    """

    name: str
    source_row: int
    guesses: tuple[Guess, ...]
    image: NDArray[np.uint8]

    @property
    def is_right(self) -> bool:
        """Whether the first guess is."""
        return self.guesses[0].is_right

    @property
    def src(self) -> str:
        """The drawing, dark on light, as the address of an image."""
        file = io.BytesIO()
        # 16 grays halve the page, which holds hundreds of drawings, and look the same.
        Image.fromarray(255 - self.image).quantize(16).save(file, "PNG", optimize=True)
        return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def describe(
    predictions: Predictions, class_names: Sequence[str], position: int, image: NDArray[np.uint8]
) -> Example:
    """The drawing at a position of the split."""
    label = predictions.labels[position]
    guesses = zip(predictions.classes[position], predictions.probabilities[position], strict=True)
    return Example(
        name=class_names[label],
        source_row=int(predictions.source_rows[position]),
        guesses=tuple(
            Guess(class_names[guess], float(probability), bool(guess == label))
            for guess, probability in list(guesses)[:_GUESSES]
            if guess >= 0
        ),
        image=image,
    )


def at_random(predictions: Predictions, limit: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Positions of some drawings, each as likely as any other; int64[<= limit]."""
    count = len(predictions)
    return np.random.default_rng(seed).choice(count, min(limit, count), replace=False)


def confident_mistakes(predictions: Predictions, limit: int) -> NDArray[np.int64]:
    """Positions of the mistakes that the model was most sure of, surest first."""
    wrong = np.flatnonzero(predictions.classes[:, 0] != predictions.labels)
    return _surest(predictions, wrong, limit)


def taken_for(predictions: Predictions, label: int, guess: int, limit: int) -> NDArray[np.int64]:
    """Positions of drawings of one class that were taken for another, surest first."""
    found = np.flatnonzero((predictions.labels == label) & (predictions.classes[:, 0] == guess))
    return _surest(predictions, found, limit)


def of_pair(
    predictions: Predictions, pair: ConfusedPair, limit: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of drawings of either class that were taken for the other.

    For a class that never was, drawings that were recognized.
    """
    back = pair.first if pair.backward else pair.second
    return (
        taken_for(predictions, pair.first, pair.second, limit),
        taken_for(predictions, pair.second, back, limit),
    )


def _surest(
    predictions: Predictions, positions: NDArray[np.int64], limit: int
) -> NDArray[np.int64]:
    # Stable, so that the same run always shows the same drawings.
    order = np.argsort(-predictions.probabilities[positions, 0], kind="stable")
    surest: NDArray[np.int64] = positions[order[:limit]]
    return surest
