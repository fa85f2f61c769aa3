"""Quick, Draw! drawings on disk, as TFRecords that are read at the speed of memory.

import quickdraw_tfrecords as qt

info = qt.open_dataset("data")
dataset = qt.load("data", split="train", batch_size=1024, shuffle=True, seed=0, epoch=0)
# tf.data.Dataset of (uint8[1024, 28, 28, 1], int32[1024])
"""

from typing import TYPE_CHECKING, Any

from quickdraw_tfrecords.base import startup
from quickdraw_tfrecords.base.errors import DataError, UsageError

startup.prepare(__name__)

if TYPE_CHECKING:
    from quickdraw_tfrecords.reading.dataset import DatasetInfo, load, open_dataset

__all__ = ["DataError", "DatasetInfo", "UsageError", "load", "open_dataset"]


def __getattr__(name: str) -> Any:
    # The reader needs TensorFlow, which takes seconds to import; the converter does without.
    if name in ("DatasetInfo", "load", "open_dataset"):
        from quickdraw_tfrecords.reading import dataset

        return getattr(dataset, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
