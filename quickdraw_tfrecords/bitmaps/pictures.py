"""From a picture file's image to a drawing of the published form.

    to_bitmap(Image.open("cat.png"), side=28)     # uint8[28, 28], ink high on 0

Any size, any colours, dark on light or light on dark, transparent or not. The drawing is
cropped to its ink, fitted and centred as Google's bitmaps are.
"""

import functools

import numpy as np
from PIL import Image, ImageOps

# The published proportions (googlecreativelab/quickdraw-dataset#19): a drawing fits a box of
# 256, its line is 16 wide, and outside the line there is a padding of 16.
_EXTENT, _LINE_WIDTH, _PADDING = 256, 16, 16
_PAGE = _EXTENT + _LINE_WIDTH + 2 * _PADDING

_LEAST_CONTRAST = 32  # of 255: an image without more is blank
_FAINTEST = 1 / 8  # of the strongest ink: what is fainter is paper, or JPEG's noise
_BODY = 1 / 4  # of the strongest ink: what is stronger is fitted

_FILTER = Image.Resampling.HAMMING


def to_bitmap(image: Image.Image, side: int) -> np.ndarray:
    """The drawing on an image, as Google's bitmaps have theirs.

    The paper is what is most of the image's border, the ink what differs from it. An image
    of side x side pixels on wholly black or white paper is taken pixel for pixel, turned to
    ink on 0. Any other is cropped to its ink, which is fitted into the page, and lines
    thinner than Google's are thickened. A photograph with shadows on its paper is beyond this.

    Args:
      image: Of any mode and size; an orientation in its EXIF data is heeded.
      side: Height and width of the drawing in pixels.

    Returns:
      uint8[side, side], ink high on 0; all 0 if nothing differs from the paper.
    """
    levels = _levels(ImageOps.exif_transpose(image))
    paper = np.median(np.concatenate([levels[0], levels[-1], levels[:, 0], levels[:, -1]]))
    sign = 1 if levels.max() - paper > paper - levels.min() else -1
    ink = np.maximum(sign * (levels - paper), 0)
    if ink.shape == (side, side) and paper in (0, 255):
        return ink.round().astype(np.uint8)
    if ink.max() < _LEAST_CONTRAST:
        return np.zeros((side, side), np.uint8)
    ink /= ink.max()
    ink[ink < _FAINTEST] = 0
    return (_fit(ink, side) * 255).round().astype(np.uint8)


def _levels(image: Image.Image) -> np.ndarray:
    """The luminance, float32[height, width] in [0, 255]."""
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip
        return np.asarray(image, np.float32) / 257
    if not image.has_transparency_data:
        return np.asarray(image.convert("L"), np.float32)
    grey, alpha = np.moveaxis(np.asarray(image.convert("RGBA").convert("LA"), np.float32), 2, 0)
    # What is transparent is paper, so it must differ from the ink: light to dark ink.
    paper = 255 if (grey * alpha).sum() < 128 * alpha.sum() else 0
    return paper + (grey - paper) * (alpha / 255)


def _fit(ink: np.ndarray, side: int) -> np.ndarray:
    """Crops float32[height, width] to its ink, fits it into the page, and scales that.

    Returns:
      float32[side, side] in [0, 1].
    """
    body = ink > _BODY
    (top, bottom), (left, right) = (np.flatnonzero(body.any(axis))[[0, -1]] for axis in (1, 0))
    y, x = (top + bottom + 1) / 2, (left + right + 1) / 2
    inked = max(bottom - top, right - left) + 1
    # The middles of the outermost lines are what fits the box; of a blot there are none.
    extent = inked - min(_line_width(body), inked * _LINE_WIDTH / (_EXTENT + _LINE_WIDTH))
    reach = extent * _PAGE / _EXTENT / 2
    # A crop beyond the image's edges is filled up with 0.
    x0, y0, x1, y1 = (
        int(np.floor(v)) for v in (x - reach, y - reach, x + reach + 1, y + reach + 1)
    )
    box = (x - reach - x0, y - reach - y0, x + reach - x0, y + reach - y0)
    cropped = Image.fromarray(ink).crop((x0, y0, x1, y1))
    page = _thicken(np.asarray(cropped.resize((_PAGE, _PAGE), _FILTER, box=box)))
    return np.clip(Image.fromarray(page).resize((side, side), _FILTER), 0, 1)


def _thicken(page: np.ndarray) -> np.ndarray:
    """Makes lines that are thinner than Google's as thick as those, with a round brush."""
    page = page / page.max()  # a line that is thin on a large image has become faint
    radius = max(0, round((_LINE_WIDTH - _line_width(page > _BODY)) / 2))
    padded, steps = np.pad(page, radius), range(2 * radius + 1)
    brush = [(y, x) for y in steps for x in steps if np.hypot(y - radius, x - radius) <= radius]
    moved = (padded[y : y + _PAGE, x : x + _PAGE] for y, x in brush)
    return functools.reduce(np.maximum, moved)


def _line_width(body: np.ndarray) -> float:
    """Roughly how wide the lines of bool[height, width] are: area to half of perimeter."""
    padded = np.pad(body, 1)
    edges = sum(np.count_nonzero(np.diff(padded, axis=axis)) for axis in (0, 1))
    return body.sum() / (edges * np.pi / 4 / 2)  # pi / 4: steps are longer than what they follow
