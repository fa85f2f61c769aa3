"""The converter: `python -m quickdraw_tfrecords` is `quickdraw convert`."""

if __name__ == "__main__":  # and not in worker processes, which import this module, too
    from quickdraw_tfrecords.base import cli
    from quickdraw_tfrecords.commands import convert

    convert.define_flags()
    cli.run(convert.main)
