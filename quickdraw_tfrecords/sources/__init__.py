"""Where drawings come from. One module per source, all behind the protocol `Source`.

A source is opened and checked in the parent process, then pickled and sent to the worker
processes, which only call `read`. So no source may need TensorFlow to read.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Source(Protocol):
    """Drawings by class and row."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in label order: that of TFDS' `quickdraw_bitmap`, then alphabetical.

        A data set of TFDS keeps its own order.
        """
        ...

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of drawings of each class, parallel to `class_names`."""
        ...

    @property
    def side(self) -> int:
        """Height and width of a drawing in pixels."""
        ...

    def read(self, label: int, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
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

    def source_rows(self, label: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where rows of a class are in the original, as the records state it.

        Row 5 of a file of which every line is a drawing is its row 5. But it is line 7 where
        two lines before it were skipped, and row 90,000 of Google's file where only a part of
        that was downloaded.

        Args:
          label: Index into `class_names`.
          rows: int64[n], ascending, as for `read`.

        Returns:
          int64[n], ascending.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """JSON-able facts for the manifest: kind, files, sizes, checksums.

        Equal descriptions mean equal drawings; a stopped conversion resumes only with its own. A
        source that reads only what is wanted of a file has no checksum of it. It gives its
        `FileVersion` under the key `version`, for which a finished manifest has checksums of
        the records.
        """
        ...
