"""Commands around the data set and the trainer, each `python -m tools.NAME`."""

from quickdraw_tfrecords.base import startup

startup.prepare(__name__)
