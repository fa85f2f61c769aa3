"""The README.md of an export directory: how to run what is there."""

import fnmatch
from collections.abc import Collection
from pathlib import Path

import jinja2

from quickdraw_tfrecords.base.files import atomic_write
from trainer.serving.classifier import Classifier

# The file by which an export is found.
_SECTIONS = {
    "keras": "model.keras",
    "saved_model": "saved_model/*/saved_model.pb",
    "tflite": "model.tflite",
    "onnx": "model.onnx",
    "web": "web/index.html",
}


def write(directory: Path, names: Collection[str], classifier: Classifier) -> None:
    """Writes the README with a section for each export.

    Args:
      directory: Where the exports are, or will be.
      names: All their files.
      classifier: What they were made from.
    """
    loader = jinja2.PackageLoader("trainer.serving")
    environment = jinja2.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True)
    found = {key for key, pattern in _SECTIONS.items() if fnmatch.filter(names, pattern)}
    text = environment.get_template("readme.md").render(
        found=found,
        name=classifier.model.name,
        side=classifier.side,
        classes=len(classifier.class_names),
    )
    with atomic_write(directory / "README.md") as file:
        file.write(text.encode())
