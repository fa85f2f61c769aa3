"""JSON from outside, taken apart without trusting it.

    manifest = JsonValue.parse(text, "data/manifest.json", remedy="restore it from a copy")
    name = manifest["splits"]["train"].elements()[0]["name"].text()

Whatever is not as asked for is one `DataError` that names the file, the place in it, the value
and the requirement: `data/manifest.json: splits.train[0].name is 3, must be text; restore ...`.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from quickdraw_tfrecords.base.errors import DataError

MAX_WHOLE = 2**63 - 1

_MAX_SHOWN = 60  # characters of a value in an error


@dataclasses.dataclass(frozen=True)
class JsonValue:
    """A value in a JSON file.

    Attributes:
      value: The value itself, of which nothing is known yet.
      file: What to call the file in an error.
      remedy: What to do about an error.
      place: Where the value is in the file, as `splits.train[0].name`; empty for all of it.
    """

    value: Any
    file: str
    remedy: str
    place: str = ""

    @classmethod
    def parse(cls, text: bytes | str, file: str, *, remedy: str) -> "JsonValue":
        """Parses a JSON file.

        Raises:
          DataError: It is not JSON, or an object in it has a key twice.
        """
        try:
            value = json.loads(text, object_pairs_hook=_without_repeated_keys)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{file}: not JSON: {error!s:.200}; {remedy}") from None
        return cls(value, file, remedy)

    def __getitem__(self, key: str) -> "JsonValue":
        fields = self.fields()
        if key not in fields:
            raise self.error(f"must have the key {key!r}", found="")
        return fields[key]

    def fields(self) -> dict[str, "JsonValue"]:
        """The values of an object by key."""
        if not isinstance(self.value, dict):
            raise self.error("must be an object")
        return {
            key: self._part(value, f"{self.place}.{key!s:.40}".lstrip("."))
            for key, value in self.value.items()
        }

    def elements(self) -> list["JsonValue"]:
        """The values of a list."""
        if not isinstance(self.value, list):
            raise self.error("must be a list")
        return [self._part(value, f"{self.place}[{i}]") for i, value in enumerate(self.value)]

    def whole(self, least: int = 0, most: int = MAX_WHOLE) -> int:
        """A whole number in a range."""
        value: Any = self.value
        if type(value) is not int or value < least:
            raise self.error(f"must be whole, from {least} on")
        if value > most:
            raise self.error(f"must be whole, up to {most}")
        return int(value)

    def wholes(self, length: int, least: int = 0, most: int = MAX_WHOLE) -> Sequence[int]:
        """A list of whole numbers in a range; fast, for there may be millions."""
        values = self.value
        if not isinstance(values, list) or len(values) != length:
            raise self.error(f"must be a list of {length:,} whole numbers")
        # A bool is an int in Python, so ask for the very type.
        if not (set(map(type, values)) <= {int} and least <= min(values, default=least)):
            raise self.error(f"must be whole, from {least} on")
        if max(values, default=least) > most:
            raise self.error(f"must be whole, up to {most}")
        return values

    def number(self, least: float, most: float) -> float:
        """A number in a range."""
        value = self.value
        # NaN is within no range.
        if type(value) not in (int, float) or not least <= value <= most:
            raise self.error(f"must be a number from {least} to {most}")
        return float(value)

    def any_number(self) -> float:
        """A number of 64 bits, which may be infinite or NaN."""
        value: Any = self.value
        if type(value) is not float and (type(value) is not int or abs(value) > 2**64):
            raise self.error("must be a number")
        return float(value)

    def text(self) -> str:
        """A string."""
        if not isinstance(self.value, str):
            raise self.error("must be text")
        return self.value

    def flag(self) -> bool:
        """True or false."""
        if not isinstance(self.value, bool):
            raise self.error("must be true or false")
        return self.value

    def require(self, wanted: Any) -> None:
        """Requires a value; for long lists and objects the error shows where it differs."""
        if isinstance(wanted, dict) and isinstance(self.value, dict):
            if unknown := self.value.keys() - wanted.keys():
                raise self.error(f"must not have the key {min(unknown)!s:.40}", found="")
            for key, value in wanted.items():
                self[key].require(value)
        elif isinstance(wanted, list) and isinstance(self.value, list):
            if len(self.value) != len(wanted):
                raise self.error(
                    f"must be {len(wanted):,}", found=f"has length {len(self.value):,}"
                )
            for found, value in zip(self.elements(), wanted, strict=True):
                found.require(value)
        elif type(self.value) is not type(wanted) or self.value != wanted:
            raise self.error(f"must be {_brief(wanted)}")

    def error(self, requirement: str, found: str | None = None) -> DataError:
        """The error for this value.

        Args:
          requirement: "must be ...".
          found: What it is instead, if that is not best said by the value itself.
        """
        found = f"is {_brief(self.value)}," if found is None else found
        facts = " ".join(part for part in (self.place, found, requirement) if part)
        return DataError(f"{self.file}: {facts}; {self.remedy}")

    def _part(self, value: Any, place: str) -> "JsonValue":
        return JsonValue(value, self.file, self.remedy, place)


def _without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; Python's parser would silently take the last of equal keys."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a key is there twice")
    return fields


def _brief(value: Any) -> str:
    """A value, shortened before it is turned to text: it may be as large as the file."""
    if isinstance(value, int) and value.bit_length() > 64:
        return "a number beyond 64 bits"
    if isinstance(value, str):
        value = value[:_MAX_SHOWN]
    elif isinstance(value, list) and len(value) > 4:
        return f"a list of {len(value):,}"
    elif isinstance(value, dict):
        return f"an object of {len(value):,} keys"
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
