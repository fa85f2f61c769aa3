"""The README.md of an export directory: how to run what is there."""

from pathlib import Path

import jinja2

from quickdraw_tfrecords.base.files import atomic_write
from trainer.serving.classifier import Classifier

_SECTIONS = {
    "keras": "model.keras",
    "saved_model": "saved_model",
    "tflite": "model.tflite",
    "onnx": "model.onnx",
    "web": "web",
}


def write(directory: Path, classifier: Classifier) -> None:
    """Writes the README with a section for each export in the directory.

    Args:
      directory: With the exports.
      classifier: What they were made from.
    """
    loader = jinja2.PackageLoader("trainer.serving")
    environment = jinja2.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True)
    found = {key for key, name in _SECTIONS.items() if (directory / name).exists()}
    text = environment.get_template("readme.md").render(
        found=found,
        name=classifier.model.name,
        side=classifier.side,
        classes=len(classifier.class_names),
    )
    with atomic_write(directory / "README.md") as file:
        file.write(text.encode())
