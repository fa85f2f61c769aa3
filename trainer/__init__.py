"""One training run."""

from quickdraw_tfrecords.base import startup

startup.prepare(__name__)
