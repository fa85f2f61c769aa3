"""From a picture to a drawing in the form that Google published.

    >>> picture = Image.new("RGB", (640, 480), "white")
    >>> picture.paste("navy", (300, 100, 340, 400))
    >>> to_bitmap(picture, side=28).shape            # uint8, ink high on 0
    (28, 28)

A picture may have any size and any colors, be dark on light or light on dark, and be
transparent or not. Its drawing is cropped to its ink, fitted and centered as in Google's bitmaps.
"""

import functools
import warnings
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.bitmaps.page import EXTENT, LINE_WIDTH, PAGE_SIZE

FORMATS = ("PNG", "JPEG")
MAX_PIXELS = 40_000_000  # more than a scanned page of 600 dots per inch has

_LEAST_CONTRAST = 32  # of 255: an image with less is blank
_FAINTEST = 1 / 8  # of the strongest ink: anything fainter is paper, or JPEG's noise
_BODY = 1 / 4  # of the strongest ink: anything stronger belongs to the drawing's extent

_FILTER = Image.Resampling.HAMMING


def read_picture(file: BinaryIO, side: int) -> NDArray[np.uint8]:
    """Reads a picture file and turns it into a bitmap.

    Args:
      file: A PNG or JPEG file, at its beginning.
      side: As for `to_bitmap`.

    Returns:
      As `to_bitmap` does.

    Raises:
      DataError: It is not such a file, is damaged or too large; says what is wrong, not where.
    """
    try:
        # Pillow goes by the content, and would start Ghostscript for a .png that is PostScript.
        with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
            opened = Image.open(file, formats=FORMATS)  # reads the size, and no pixels
        with opened as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(
                    f"it has {image.width:,} x {image.height:,} pixels, of which a picture must "
                    f"have {MAX_PIXELS:,} at most; make it smaller"
                )
            return to_bitmap(image, side)
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"it is not a {' or '.join(FORMATS)} file") from None
    except Exception as error:  # Pillow does not wrap what its decoders raise
        raise DataError(str(error) or type(error).__name__) from None


def to_bitmap(image: Image.Image, side: int) -> NDArray[np.uint8]:
    """Turns the drawing on an image into a bitmap like Google's.

    The paper is the median of the image's border; the ink is whatever differs from it. An image
    of side x side pixels on pure black or white paper is taken pixel for pixel, as ink on 0. Any
    other is cropped to its ink and fitted to the page, and lines thinner than Google's are
    thickened. A photograph with shadows on its paper is beyond this.

    Args:
      image: Any mode and size; an orientation in its EXIF data is applied.
      side: Height and width of the drawing in pixels.

    Returns:
      uint8[side, side], ink high on 0; all 0 if nothing differs from the paper.
    """
    levels = _levels(ImageOps.exif_transpose(image))
    paper = np.median(np.concatenate([levels[0], levels[-1], levels[:, 0], levels[:, -1]]))
    sign = 1 if levels.max() - paper > paper - levels.min() else -1
    # In place: the levels of the largest picture are 160 MB.
    ink = levels
    ink -= paper
    ink *= sign
    np.maximum(ink, 0, out=ink)
    if ink.shape == (side, side) and paper in (0, 255):
        return np.rint(ink).astype(np.uint8)
    if ink.max() < _LEAST_CONTRAST:
        return np.zeros((side, side), np.uint8)
    ink /= ink.max()
    ink[ink < _FAINTEST] = 0
    return np.rint(_fit(ink, side) * 255).astype(np.uint8)


def _levels(image: Image.Image) -> NDArray[np.float32]:
    """The luminance, float32[height, width] in [0, 255]."""
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip
        return np.array(image, np.float32) / np.float32(257)
    if not image.has_transparency_data:
        return np.array(image.convert("L"), np.float32)
    gray, alpha = np.moveaxis(np.asarray(image.convert("RGBA").convert("LA"), np.float32), 2, 0)
    # Transparent pixels are paper, so paper must differ from the ink: light under dark ink.
    paper = 255 if (gray * alpha).sum() < 128 * alpha.sum() else 0
    return np.asarray(paper + (gray - paper) * (alpha / 255), np.float32)


def _fit(ink: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Crops float32[height, width] to its ink, fits that to the page, and scales the page.

    Returns:
      float32[side, side] in [0, 1].
    """
    body = ink > _BODY
    (top, bottom), (left, right) = (np.flatnonzero(body.any(axis))[[0, -1]] for axis in (1, 0))
    y, x = (top + bottom + 1) / 2, (left + right + 1) / 2
    inked = max(bottom - top, right - left) + 1
    # The box holds the middles of the outermost lines. A blot has none: assume Google's width.
    extent = inked - min(_line_width(body), inked * LINE_WIDTH / (EXTENT + LINE_WIDTH))
    reach = extent * PAGE_SIZE / EXTENT / 2
    # Pillow fills a crop beyond the image's edges with 0. It crops to whole pixels only, so crop
    # generously first and let `resize` cut the exact box.
    x0, y0, x1, y1 = (
        int(np.floor(v)) for v in (x - reach, y - reach, x + reach + 1, y + reach + 1)
    )
    box = (x - reach - x0, y - reach - y0, x + reach - x0, y + reach - y0)
    cropped = Image.fromarray(ink).crop((x0, y0, x1, y1))
    page = _thicken(np.asarray(cropped.resize((PAGE_SIZE, PAGE_SIZE), _FILTER, box=box)))
    scaled = np.asarray(Image.fromarray(page).resize((side, side), _FILTER))
    bounded: NDArray[np.float32] = np.clip(scaled, 0, 1)
    return bounded


def _thicken(page: NDArray[np.float32]) -> NDArray[np.float32]:
    """Makes lines that are thinner than Google's as thick as those, with a round brush."""
    page = page / page.max()  # a thin line on a large image fades when it is scaled down
    radius = max(0, round((LINE_WIDTH - _line_width(page > _BODY)) / 2))
    padded, steps = np.pad(page, radius), range(2 * radius + 1)
    brush = [(y, x) for y in steps for x in steps if np.hypot(y - radius, x - radius) <= radius]
    moved = (padded[y : y + PAGE_SIZE, x : x + PAGE_SIZE] for y, x in brush)
    return functools.reduce(np.maximum, moved)


def _line_width(body: NDArray[np.bool_]) -> float:
    """Roughly how wide the lines of bool[height, width] are: area over half the perimeter."""
    padded = np.pad(body, 1)
    edges = sum(np.count_nonzero(np.diff(padded, axis=axis)) for axis in (0, 1))
    # A staircase of pixels is 4 / pi times as long, on average, as the outline it follows.
    return float(body.sum() / (edges * np.pi / 4 / 2))
