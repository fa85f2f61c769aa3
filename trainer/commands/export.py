"""Exports a trained run to a format that other programs run.

    quickdraw export --run_dir=runs/1 --format=saved_model|keras|tflite|onnx|web

What is written to <run_dir>/export takes uint8 images, gives probabilities and has the class
names inside. It is run before it appears there, beside the model, on drawings of the test
split: unless both name the same class, or an int8 model is nearly as often right, the command
fails and leaves what was there.
"""

from pathlib import Path

from absl import flags, logging

from quickdraw_tfrecords.base import cli
from quickdraw_tfrecords.base.errors import UsageError
from trainer.commands import run_flags


def define_flags() -> None:
    """Defines the flags of this command."""
    run_flags.define(data_dir=True, tta=True)
    formats = ["saved_model", "keras", "tflite", "onnx", "web"]
    flags.DEFINE_enum("format", "saved_model", formats, "What to write.")
    meaning = (
        "Of --format=web: a folder with the npm package onnxruntime-web; by default npm gets it."
    )
    flags.DEFINE_string("runtime_dir", None, meaning)


def main() -> None:
    """Exports as the flags say."""
    logging.set_verbosity(logging.WARNING)  # TensorFlow and tf2onnx log each of their steps
    args = flags.FLAGS
    if args.runtime_dir and args.format != "web":
        raise UsageError("--runtime_dir is of --format=web only")
    runtime_dir = Path(args.runtime_dir) if args.runtime_dir else None
    run = run_flags.open_run()
    from trainer.serving import exporter  # imports TensorFlow: only once the flags are good

    exporter.export(run, args.format, runtime_dir=runtime_dir)
    run.publish()


if __name__ == "__main__":
    define_flags()
    cli.run(main)
