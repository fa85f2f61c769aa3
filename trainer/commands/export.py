"""Exports a trained run to a format that other programs run.

    quickdraw export --run_dir=runs/1 --format=saved_model|tflite|onnx

What is written to <run_dir>/export takes uint8 images, gives probabilities and has the class
names inside. It is run before it appears there, beside the model, on drawings of the test
split: unless both name the same class, or an int8 model is nearly as often right, the command
fails and leaves what was there.
"""

from absl import flags, logging

from quickdraw_tfrecords.base import cli
from trainer.commands import run_flags


def define_flags() -> None:
    """Defines the flags of this command."""
    run_flags.define(data_dir=True, tta=True)
    flags.DEFINE_enum("format", "saved_model", ["saved_model", "tflite", "onnx"], "What to write.")


def main() -> None:
    """Exports as the flags say."""
    logging.set_verbosity(logging.WARNING)  # TensorFlow and tf2onnx log each of their steps
    from trainer.serving import exporter  # imports TensorFlow

    exporter.export(run_flags.open_run(), flags.FLAGS.format)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
