"""A trained model that another learns from."""

import keras

from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.files import crc32c
from quickdraw_tfrecords.base.stores import Location
from quickdraw_tfrecords.reading.dataset import DatasetInfo
from trainer.run_directory import runs


def load(
    run_dir: Location | None, info: DatasetInfo, policy: str
) -> tuple[keras.Model, str] | tuple[None, None]:
    """The model of a run at its best checkpoint, and the CRC32C of that; None if none is named.

    Args:
      run_dir: What --teacher names.
      info: The data set that the teacher is asked about.
      policy: The dtype policy to compute with.

    Raises:
      UsageError: There is no such run, or it knows other classes or another side.
      DataError: It is damaged.
    """
    if not run_dir:
        return None, None
    if not runs.exists(run_dir):
        raise UsageError(f"--teacher={run_dir}: holds no {runs.FILE_NAME}; name a run directory")
    run = runs.open_run(run_dir)
    if (run.class_names, run.side) != (info.class_names, info.side):
        raise UsageError(
            f"--teacher={run_dir}: was trained on {len(run.class_names)} classes at {run.side} "
            f"pixels, must be on those of {info.directory}: {info.num_classes} at {info.side}"
        )
    return run.load_model(policy), f"{crc32c(run.checkpoint().read_bytes()):08x}"
