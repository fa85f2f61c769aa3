"""Writes the page: the sketchpad's own, with a model and what runs it instead of a server."""

import json
import shutil
from importlib import resources
from pathlib import Path

import jinja2
import numpy as np
from numpy.typing import NDArray

from trainer.serving import formats, sketchpad
from trainer.serving.classifier import Classifier
from trainer.serving.formats import Predict
from trainer.serving.web import runtime

MODEL = "model.onnx"
_FILES = (
    "icon.svg",
    "model.js",
    "outline.js",
    "rasterization.js",
    "simplification.js",
    "sketchpad.css",
    "sketchpad.js",
)


def write(
    classifier: Classifier,
    images: NDArray[np.uint8],
    path: Path,
    *,
    title: str,
    credit: str,
    runtime_dir: Path | None,
) -> None:
    """Writes a folder that any static host serves; see `Format.write`.

    Args:
      classifier: What guesses.
      images: Not used: nothing is scaled by them.
      path: The folder.
      title: The run's name, for the heading.
      credit: Whose drawings it was trained on.
      runtime_dir: See `runtime.write`.

    Raises:
      UsageError: A package that this needs is not installed.
      DataError: What runs the model cannot be had.
    """
    path.mkdir()
    runtime.write(path / "runtime", runtime_dir)
    formats.write_onnx(classifier, images, path / MODEL)
    about = {"classes": classifier.class_names, "side": classifier.side}
    (path / "model.json").write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")
    static = resources.files(sketchpad) / "static"
    for name in _FILES:
        with resources.as_file(static / name) as file:
            shutil.copyfile(file, path / name)
    page = _template().render(
        in_browser=True,
        folder="",
        run=title,
        class_names=sorted(classifier.class_names, key=str.casefold),
        credit=credit,
    )
    (path / "index.html").write_text(page, encoding="utf-8")


def load(path: Path) -> Predict:
    """See `Format.load`: the model of the page, run in Python."""
    return formats.load_onnx(path / MODEL)


def _template() -> jinja2.Template:
    loader = jinja2.PackageLoader("trainer.serving.sketchpad")
    environment = jinja2.Environment(loader=loader, autoescape=True)
    return environment.get_template("index.html")
