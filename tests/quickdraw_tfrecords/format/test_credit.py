"""Whose drawings are: Google's are Google's, others' are others', and unknown is unknown."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.commands import verify
from quickdraw_tfrecords.format import credit
from quickdraw_tfrecords.format.manifest import Manifest, read_manifest, write_manifest
from quickdraw_tfrecords.sources.image_folder import ImageFolderSource
from quickdraw_tfrecords.sources.tfds import TfdsSource
from quickdraw_tfrecords.writing import converter
from quickdraw_tfrecords.writing.config import ConvertConfig

CONFIG = ConvertConfig(per_class=None, validation_fraction=0.5, test_fraction=0.4)


def request(kind: str, *class_names: str, **others: object) -> dict[str, object]:
    return {"source": {"kind": kind}, "class_names": class_names, **others}


@pytest.mark.parametrize("kind", ["download", "npz", "numpy_bitmap", "strokes"])
def test_googles_files_are_google_s_and_of_other_classes_they_are_not(kind):
    assert credit.credit_of(request(kind, "cat", "The Mona Lisa")) == credit.GOOGLE
    assert credit.credit_of(request(kind, "cat", "my own class")) == credit.Credit()
    assert "Google, Inc., under CC BY 4.0" in str(credit.GOOGLE)


@pytest.mark.parametrize("kind", ["image_folder", "strokes", "tfds"])
def test_a_user_says_whose_his_drawings_are(kind):
    found = credit.credit_of(request(kind, "cat", license="CC0, by Ann"))
    assert found == credit.Credit(license="CC0, by Ann")
    assert str(found) == "Drawings: CC0, by Ann."
    found = credit.credit_of(request(kind, "cat", citation="Ann, 2026"))
    assert (found.license, found.citation) == (None, "Ann, 2026")
    assert str(found) == "Please cite: Ann, 2026"


def test_of_pictures_nothing_is_known():
    found = credit.credit_of(request("image_folder", "cat"))
    assert str(found) == ""
    assert "Google" not in repr(found)


def test_google_s_drawings_of_tfds_have_google_s_license():
    found = credit.of_tfds({"name": "quickdraw_bitmap", "citation": "@article{\n  Ha}"})
    assert found.license == credit.GOOGLE.license
    assert str(found).endswith("Please cite: @article{ Ha}")
    assert credit.of_tfds({"name": "mnist"}).license is None


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("cat", "dog"):
        (folder / name).mkdir()
        for number in range(10):
            image = np.full((28, 28), 255, np.uint8)
            image[number : number + 9, 4:20] = 0
            Image.fromarray(image).save(folder / name / f"{number}.png")
    return folder


def convert(source, directory: Path, pool, config: ConvertConfig = CONFIG) -> Path:
    return converter.convert(source, directory, config, pool=pool)


def test_what_is_written_is_what_was_said(pictures, tmp_path, pool):
    source = ImageFolderSource.open(pictures)
    plain = convert(source, tmp_path / "plain", pool)
    info = tfds.builder_from_directory(plain).info
    assert (info.redistribution_info.license, info.citation) == ("", "")
    assert "Google" not in info.description
    assert not (plain / "LICENSE").exists()
    config = dataclasses.replace(CONFIG, license="CC0, by Ann", citation="Ann, 2026")
    own = convert(source, tmp_path / "own", pool, config)
    info = tfds.builder_from_directory(own).info
    assert (info.redistribution_info.license, info.citation) == ("CC0, by Ann", "Ann, 2026")
    assert (own / "LICENSE").read_text() == "CC0, by Ann"
    for directory in (plain, own):
        verify.verify(directory)
    # And it goes on, with the next conversion.
    again = convert(TfdsSource.open(own), tmp_path / "again", pool)
    assert credit.credit_of(read_manifest(again).request).license == "CC0, by Ann"
    assert tfds.builder_from_directory(again).info.citation == "Ann, 2026"


def test_a_manifest_with_another_kind_of_license_is_refused(pictures, tmp_path, pool):
    directory = convert(ImageFolderSource.open(pictures), tmp_path, pool)
    manifest = read_manifest(directory)
    write_manifest(
        directory,
        Manifest(manifest.request | {"license": ["CC0"]}, manifest.layout, manifest.splits),
    )
    with pytest.raises(DataError, match=r"request\.license .*must be text"):
        read_manifest(directory)
