"""TensorBoard's files: removing events, and what it shows beside curves."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import keras
import tensorflow as tf
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import summary as custom_scalars

_REPORT = "report"


def drop_points(directory: Path, is_unwanted: Callable[[int, str], bool]) -> None:
    """Removes points from TensorBoard's files, which will be written again.

    TensorBoard can hide them, once it is told that a session starts anew; other programs that
    read its files cannot.

    Args:
      directory: One entry of TensorBoard's list of runs.
      is_unwanted: Called with a point's step and tag, or for a graph with 0 and "".
    """
    for path in directory.glob("events.out.tfevents.*"):
        events = list(_read_events(path))
        kept = [
            event
            for event in events
            if event.WhichOneof("what") == "file_version"
            or not is_unwanted(event.step, "".join(value.tag for value in event.summary.value))
        ]
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
    """Shows the report's pictures, in place of those that are there.

    Args:
      directory: One entry of TensorBoard's list of runs.
      pictures: PNG files by name.
      step: The step they belong to.
    """
    drop_points(directory, lambda _, tag: tag.startswith(f"{_REPORT}/"))
    with tf.summary.create_file_writer(str(directory)).as_default(step=step):
        for name, png in pictures.items():
            tf.summary.image(f"{_REPORT}/{name}", tf.io.decode_png(png, channels=3)[tf.newaxis])


def write_graph(model: keras.Model) -> None:
    """Shows a model from image to logits, in the writer and at the step that are the default."""
    images = [tf.TensorSpec(tensor.shape, tensor.dtype, "image") for tensor in model.inputs]
    logits = tf.function(lambda *images: model(*images, training=False), autograph=False)
    tf.summary.graph(logits.get_concrete_function(*images).graph)


def write_layout(metrics: Iterable[str], splits: Iterable[str]) -> None:
    """Draws the curves of a metric in one chart, in the tab Custom Scalars; writes as above."""
    charts = [
        layout_pb2.Chart(
            title=metric,
            multiline=layout_pb2.MultilineChartContent(tag=[f"{metric}/{s}" for s in splits]),
        )
        for metric in metrics
    ]
    category = layout_pb2.Category(title=" and ".join(splits), chart=charts)
    summary = custom_scalars.pb(layout_pb2.Layout(category=[category]))
    tf.summary.experimental.write_raw_pb(tf.constant(summary.SerializeToString()))
