"""Whose the drawings of a data set are: what its manifest says of license and citation.

Google's own are credited to Google, those of a data set of TFDS as that says, and a user's own
as he says with `--license` and `--citation`, or not at all.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from quickdraw_tfrecords.base.class_names import quickdraw_class_names

_GOOGLE_FILES = ("download", "npz", "numpy_bitmap", "strokes")  # kinds of sources
_FORM = "Drawings, square and grayscale, ink high on 0."


@dataclasses.dataclass(frozen=True)
class Credit:
    """What is to be said wherever drawings are shown or passed on; None is not known.

    Attributes:
      description: What they are.
      license: The license, and whose.
      citation: The publication to cite.
      homepage: Where they are from.
    """

    description: str = _FORM
    license: str | None = None
    citation: str | None = None
    homepage: str | None = None

    def __str__(self) -> str:
        """One line, or nothing."""
        if self == SYNTHETIC:
            return "The drawings are synthetic, made by a procedure; none is Google's."
        terms = f"Drawings: {self.license.rstrip('.')}." if self.license else ""
        cited = f"Please cite: {' '.join(self.citation.split())}" if self.citation else ""
        return f"{terms} {cited}".strip()


GOOGLE = Credit(
    "Drawings of Google's Quick, Draw!, square and grayscale, ink high on 0.",
    license="the Quick, Draw! Dataset, made available by Google, Inc., under CC BY 4.0",
    homepage="https://quickdraw.withgoogle.com/data",
)
SYNTHETIC = Credit(
    "Synthetic drawings named after the classes of Quick, Draw!; there is no drawing of Google's."
)


def credit_of(request: Mapping[str, Any]) -> Credit:
    """The credit of what was converted.

    Args:
      request: See `Manifest.request`.
    """
    if "license" in request or "citation" in request:
        return Credit(license=request.get("license"), citation=request.get("citation"))
    source = request["source"]
    if source["kind"] == "synthetic":
        return SYNTHETIC
    if source["kind"] == "tfds":
        return of_tfds(source.get("credit", {}))
    # Files of the same form with classes of their own were drawn by somebody else.
    is_google = set(request["class_names"]) <= set(quickdraw_class_names())
    return GOOGLE if source["kind"] in _GOOGLE_FILES and is_google else Credit()


def of_tfds(stated: Mapping[str, str]) -> Credit:
    """The credit of a data set of TFDS.

    Args:
      stated: What it says of itself. TFDS gives no license of Google's drawings.
    """
    credit = Credit(
        f"Drawings of TFDS' {stated['name']}, square and grayscale." if "name" in stated else _FORM,
        stated.get("license"),
        stated.get("citation"),
        stated.get("homepage"),
    )
    if stated.get("name") != "quickdraw_bitmap":
        return credit
    return dataclasses.replace(credit, license=credit.license or GOOGLE.license)
