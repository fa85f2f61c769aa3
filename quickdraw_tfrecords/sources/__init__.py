"""Where drawings come from. One file a source, all behind `Source`.

A source is opened in the parent process, checked there, and pickled to the worker
processes, which only call `read`; so no source may need TensorFlow to read.
"""

from typing import Any, Protocol

import numpy as np


class Source(Protocol):
    """Drawings by class and row.

    Attributes:
      class_names: The classes, in label order: that of TFDS' `quickdraw_bitmap`,
        then any other name in alphabetical order. A data set of TFDS keeps its own.
      counts: How many drawings there are of each class, parallel to `class_names`.
      side: Height and width of a drawing in pixels.
    """

    class_names: tuple[str, ...]
    counts: tuple[int, ...]
    side: int

    def read(self, label: int, rows: np.ndarray) -> np.ndarray:
        """Reads drawings of one class.

        Args:
          label: Index into `class_names`.
          rows: int64[n], ascending, each in [0, counts[label]).

        Returns:
          uint8[n, side * side], row-major, ink high on 0.

        Raises:
          DataError: A drawing cannot be read; names the file and the row.
        """
        ...

    def source_rows(self, label: int, rows: np.ndarray) -> np.ndarray:
        """The rows' numbers in the original of the source, ascending, int64[n].

        They are those of `read`, unless the source holds a part of its original only.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """JSON-able facts for the manifest: kind, files, sizes, checksums.

        Equal descriptions mean equal drawings, so a conversion may be resumed.
        """
        ...
