"""Quick, Draw! drawings on disk, as TFRecords that are read at the speed of memory.

import quickdraw_tfrecords as qt

info = qt.open_dataset("data")
dataset = qt.load(info, "train", batch_size=1024, shuffle=True, seed=0, epoch=0)
# tf.data.Dataset of (uint8[1024, 28, 28, 1], int32[1024])
batches = qt.batches(info, "train", batch_size=1024, shuffle=True)  # the same in NumPy
images, labels = qt.arrays(info, "test")  # the whole split
"""

from typing import TYPE_CHECKING, Any

from quickdraw_tfrecords.base import startup
from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.version import __version__

startup.prepare(__name__)

if TYPE_CHECKING:
    from quickdraw_tfrecords.reading.batches import arrays, batches
    from quickdraw_tfrecords.reading.dataset import DatasetInfo, open_dataset
    from quickdraw_tfrecords.reading.loading import load

__all__ = [
    "DataError",
    "DatasetInfo",
    "UsageError",
    "__version__",
    "arrays",
    "batches",
    "load",
    "open_dataset",
]

# Imported when they are first used: `load` needs TensorFlow, which takes seconds to import.
_HOMES = {
    "DatasetInfo": "dataset",
    "arrays": "batches",
    "batches": "batches",
    "load": "loading",
    "open_dataset": "dataset",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module = importlib.import_module(f"{__name__}.reading.{_HOMES[name]}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return __all__
