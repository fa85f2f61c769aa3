"""Trains: `python -m trainer` is `quickdraw train`."""

from quickdraw_tfrecords.base import cli
from trainer.commands import train

if __name__ == "__main__":
    train.define_flags()
    cli.run(train.main, flagfiles=train.FLAGFILES)
