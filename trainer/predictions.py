"""What a model says of every drawing of a split, kept so that nobody need ask it twice."""

import dataclasses

import numpy as np

TOP = 5


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Parallel to the drawings of a split in the order on disk.

    Attributes:
      labels: int32[n], the true class.
      source_rows: int64[n], the drawing's row in its class's source; -1 if not known.
      classes: int32[n, TOP], the most probable classes, best first; -1 beyond the last class.
      probabilities: float32[n, TOP], theirs; 0 beyond the last class.
      losses: float32[n], the cross-entropy of each drawing.
    """

    labels: np.ndarray
    source_rows: np.ndarray
    classes: np.ndarray
    probabilities: np.ndarray
    losses: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)
