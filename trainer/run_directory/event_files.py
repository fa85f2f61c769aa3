"""TensorBoard's files: removing points, and showing pictures."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import tensorflow as tf


def drop_points(directory: Path, *, from_step: int) -> None:
    """Removes the points from a step on from TensorBoard's files: they will be written again.

    TensorBoard can hide them, once it is told that a session starts anew; other programs that
    read its files cannot.
    """
    for path in directory.glob("events.out.tfevents.*"):
        events = list(_read_events(path))
        kept = [event for event in events if event.step < from_step or not event.summary.value]
        if len(kept) == len(events):
            continue
        temporary = directory / f".{os.getpid()}.tmp"
        with tf.io.TFRecordWriter(str(temporary)) as file:
            for event in kept:
                file.write(event.SerializeToString())
        os.replace(temporary, path)


def _read_events(path: Path) -> Iterator[tf.compat.v1.Event]:
    with contextlib.suppress(tf.errors.DataLossError):  # a process was killed while it wrote
        for record in tf.data.TFRecordDataset(str(path)):
            yield tf.compat.v1.Event.FromString(record.numpy())


def write_pictures(directory: Path, pictures: Mapping[str, bytes], *, step: int) -> None:
    """Shows pictures, in place of those that are there.

    Args:
      directory: One entry of TensorBoard's list of runs.
      pictures: PNG files by tag.
      step: The step they belong to.
    """
    drop_points(directory, from_step=0)
    with tf.summary.create_file_writer(str(directory)).as_default(step=step):
        for tag, png in pictures.items():
            tf.summary.image(tag, tf.io.decode_png(png, channels=3)[tf.newaxis])
