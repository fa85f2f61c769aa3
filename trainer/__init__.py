"""One training run."""

from quickdraw_tfrecords import startup

startup.quiet_interrupts(__name__)
