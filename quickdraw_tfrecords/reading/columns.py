"""What is read of drawings, as columns: pixels, labels, and where they are wanted source rows."""

import numpy as np

# uint8[n, side * side], int32[n] and, the third if there is one, int64[n].
Columns = tuple[np.ndarray, ...]

_DTYPES = (np.uint8, np.int32, np.int64)


def count_columns(*, with_source_row: bool) -> int:
    """How many columns that is."""
    return 3 if with_source_row else 2


def empty_columns(n: int, num_columns: int, images: np.ndarray) -> Columns:
    """Columns to fill with n drawings.

    Args:
      n: How many.
      num_columns: 2, or with source rows 3.
      images: The first of them, uint8[n, side * side].
    """
    return (images, *(np.empty(n, dtype) for dtype in _DTYPES[1:num_columns]))


def as_items(column: np.ndarray) -> np.ndarray:
    """A column with one item per drawing: NumPy moves an item faster than a row of a matrix."""
    return column if column.ndim == 1 else column.view(f"V{column.shape[1]}")[:, 0]
