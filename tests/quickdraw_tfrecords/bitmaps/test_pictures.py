"""Tests of quickdraw_tfrecords.bitmaps.pictures; the rasterizer and Pillow are oracles."""

import contextlib
import io
import struct
import subprocess
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.bitmaps import pictures, rasterization

# A house with a door, in the simplified form.
HOUSE = [
    [[40, 40, 210, 210, 40], [255, 110, 110, 255, 255]],
    [[0, 125, 250], [120, 0, 118]],
    [[100, 100, 140, 140], [255, 190, 190, 255]],
]


@pytest.fixture(scope="module")
def bitmap() -> np.ndarray:
    return rasterization.rasterize([HOUSE], 28).reshape(28, 28)


def picture(
    *, scale: float = 2.0, width: int = 32, ink="black", paper="white", mode="RGB", margin=90
) -> Image.Image:
    """The house drawn by Pillow: lines of `width` pixels, `margin` around."""
    size = round(255 * scale) + 2 * margin
    image = Image.new(mode, (size + 60, size), paper)
    pen = ImageDraw.Draw(image)
    for xs, ys in HOUSE:
        xy = [(x * scale + margin, y * scale + margin) for x, y in zip(xs, ys, strict=True)]
        pen.line(xy, fill=ink, width=width, joint="curve")
        for x, y in (xy[0], xy[-1]):
            pen.circle((x, y), width / 2, fill=ink)
    return image


def distance(left: np.ndarray, right: np.ndarray) -> float:
    """Mean difference of two bitmaps, as a share of the second's ink."""
    return np.abs(left.astype(float) - right).sum() / right.sum()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1"])
@pytest.mark.parametrize("is_dark", [True, False])
def test_a_picture_of_a_bitmap_is_taken_pixel_for_pixel(bitmap, mode, is_dark):
    expected = np.where(bitmap > 127, 255, 0).astype(np.uint8) if mode == "1" else bitmap
    image = Image.fromarray(expected if is_dark else 255 - expected).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    np.testing.assert_array_equal(pictures.to_bitmap(Image.open(buffer), 28), expected)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ink": "white", "paper": "black"},
        {"ink": "navy", "paper": "#ffe9c0"},
        {"ink": "yellow", "paper": "#203040"},
        {"ink": 255, "paper": 0, "mode": "L"},
        {"ink": (0, 0, 0, 255), "paper": (0, 0, 0, 0), "mode": "RGBA"},
        {"ink": (255, 255, 255, 255), "paper": (255, 255, 255, 0), "mode": "RGBA"},
        {"ink": (30, 0, 0, 200), "paper": (255, 255, 255, 255), "mode": "RGBA"},
        {"ink": 0, "paper": 65535, "mode": "I;16"},
        {"scale": 5, "width": 80, "margin": 400},
        {"scale": 0.5, "width": 8, "margin": 3},
        {"width": 6},
        {"width": 3},
    ],
    ids=str,
)
def test_a_picture_becomes_what_its_strokes_would(bitmap, options):
    found = pictures.to_bitmap(picture(**options), 28)
    assert distance(found, bitmap) < 0.3
    assert distance(np.roll(found, 3, axis=1), bitmap) > 0.8  # which is what a shift costs


def test_jpeg_noise_is_not_ink(bitmap):
    buffer = io.BytesIO()
    picture().save(buffer, "JPEG", quality=35)
    found = pictures.to_bitmap(Image.open(buffer), 28)
    assert distance(found, bitmap) < 0.2
    assert (found[0] == 0).all()


def test_the_orientation_in_exif_is_heeded(bitmap):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise
    buffer = io.BytesIO()
    picture().rotate(90, expand=True).save(buffer, "JPEG", exif=exif)
    assert distance(pictures.to_bitmap(Image.open(buffer), 28), bitmap) < 0.2


@settings(max_examples=25, deadline=None)
@given(
    st.integers(30, 200), st.integers(30, 200), st.integers(0, 100), st.integers(0, 100),
    st.sampled_from([28, 64]),
)  # fmt: skip
def test_ink_is_centered_and_keeps_its_proportions(width, height, left, top, side):
    image = Image.new("L", (width + left + 7, height + top + 11), 255)
    ImageDraw.Draw(image).rectangle((left, top, left + width - 1, top + height - 1), fill=0)
    found = pictures.to_bitmap(image, side) / 255
    across, down = found.max(axis=0), found.max(axis=1)
    longer = 272 / 304 * side  # the published extent of the longer side, half a line around
    scale = longer / max(width, height)
    assert across.sum() == pytest.approx(width * scale, abs=1.1)
    assert down.sum() == pytest.approx(height * scale, abs=1.1)
    for profile in (across, down):
        center = (profile * (np.arange(side) + 0.5)).sum() / profile.sum()
        assert center == pytest.approx(side / 2, abs=0.6)


@pytest.mark.parametrize(
    "image",
    [
        Image.new("L", (50, 40), 255),
        Image.new("RGB", (28, 28), "black"),
        Image.new("RGBA", (60, 60), (9, 9, 9, 0)),
        Image.new("L", (1, 1), 77),
        ImageOps.expand(Image.new("L", (20, 20), 235), 30, 250),
    ],
)
def test_a_blank_picture_is_blank(image):
    found = pictures.to_bitmap(image, 28)
    assert found.shape == (28, 28)
    assert not found.any()


def saved(image: Image.Image, form: str) -> io.BytesIO:
    buffer = io.BytesIO()
    image.save(buffer, form)
    buffer.seek(0)
    return buffer


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_file_is_read_as_its_image(form):
    image = picture()
    expected = pictures.to_bitmap(Image.open(saved(image, form)), 28)
    np.testing.assert_array_equal(pictures.read_picture(saved(image, form), 28), expected)


@pytest.mark.parametrize("form", ["EPS", "PDF", "GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO"])
def test_other_formats_are_not_opened(monkeypatch, form):
    """For an EPS file, Pillow would start Ghostscript."""
    monkeypatch.setattr(subprocess, "Popen", pytest.fail)
    with pytest.raises(DataError, match="it is not a PNG or JPEG file"):
        pictures.read_picture(saved(picture(), form), 28)


@pytest.mark.filterwarnings("error")
def test_a_picture_too_large_is_refused_before_it_is_decoded():
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 8_850, 1, 0, 0, 0, 0)
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
    rest = struct.pack(">II", zlib.crc32(chunk), 99) + b"IDAT"
    file = io.BytesIO(header + rest)
    with pytest.raises(DataError, match=r"it has 20,000 x 8,850 pixels.* 40,000,000 at most"):
        pictures.read_picture(file, 28)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), form=st.sampled_from(["PNG", "JPEG"]))
def test_a_damaged_file_is_a_picture_or_an_error(data, form):
    content = bytearray(saved(picture(scale=0.1, margin=5, width=3), form).getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DataError):
        assert pictures.read_picture(io.BytesIO(content), 28).shape == (28, 28)
