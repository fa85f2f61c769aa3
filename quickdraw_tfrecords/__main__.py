"""The converter: `python -m quickdraw_tfrecords` is `quickdraw convert`."""

from quickdraw_tfrecords.base import cli
from quickdraw_tfrecords.commands import convert

if __name__ == "__main__":
    convert.define_flags()
    cli.run(convert.main)
