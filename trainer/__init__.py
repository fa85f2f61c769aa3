"""One training run."""

from quickdraw_tfrecords.base import startup

startup.quiet_interrupts(__name__)
