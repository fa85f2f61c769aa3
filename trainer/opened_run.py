"""A run as its users open it: its curves, its guesses, and how good they are."""

import functools
import os

import numpy as np
from numpy.typing import NDArray

from quickdraw_tfrecords.base.stores import locate
from trainer.config import Config
from trainer.results import split_results
from trainer.results.split_results import Results
from trainer.run_directory import choices, runs
from trainer.serving.classifier import Classifier


class OpenedRun:
    """A run directory, see `trainer.open_run`.

    Of a run in an object store the weights are those that were the best when it was opened.

    Attributes:
      config: The run's settings, with nothing left to be decided.
      class_names: The classes in label order.
      side: Height and width of a drawing in pixels.
    """

    def __init__(
        self, run_dir: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None = None
    ) -> None:
        needed = choices.to_use(choices.HISTORY)
        moved = locate(data_dir) if data_dir else None
        self._run = runs.open_run(locate(run_dir), moved, choose=needed)
        self.config: Config = self._run.config
        self.class_names = self._run.class_names
        self.side = self._run.side

    def __repr__(self) -> str:
        return f"<run {self._run.where}: {self.config.model}, {len(self.class_names)} classes>"

    def history(self) -> list[dict[str, float]]:
        """The rows of history.csv, one per epoch; none if no epoch was finished.

        Raises:
          DataError: The file is damaged.
        """
        return self._run.history()

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities of the classes, by the weights that were the best when first asked.

        Args:
          images: uint8[n, side, side] or uint8[n, side, side, 1], ink high on 0.

        Returns:
          float32[n, classes]; each row sums to 1.

        Raises:
          UsageError: The images are of another shape or dtype, or the run has no checkpoint yet.
          DataError: The checkpoint is damaged.
        """
        return self._classifier(images)

    def evaluate(self, split: str = "test") -> Results:
        """Metrics and predictions on a split of the run's data set.

        They are kept in the run directory, so only the first call for some weights takes long.

        Raises:
          UsageError: The data set has no such split, or the run no checkpoint yet.
          DataError: The checkpoint or the data set is damaged, or no longer there.
        """
        self._run.pull(f"evaluation/{split}/")
        results = split_results.find(self._run, split)
        self._run.publish()
        return results

    @functools.cached_property
    def _classifier(self) -> Classifier:
        return Classifier.of(self._run)
