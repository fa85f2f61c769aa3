"""What a sweep may choose from: a file with an entry for each flag, in TOML or JSON.

    learning_rate = { low = 1e-4, high = 1e-2, log = true }
    batch_size = { low = 64, high = 512, step = 64 }
    optimizer = ["adam", "adamw", "lamb"]
    augment = ["", "shift", "shift,rotate"]

A range is of whole numbers where the flag is one. A choice is written as after `--flag=`.
"""

import dataclasses
import difflib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna import distributions
from optuna.distributions import BaseDistribution

from quickdraw_tfrecords.base import settings
from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.files import open_regular
from quickdraw_tfrecords.base.settings import Setting
from trainer.config import Config

Params = Mapping[str, Any]

# What a sweep decides itself, or what is the same for all that are compared.
_FIXED = ("data_dir", "run_dir", "monitor", "resume")
_RANGE_KEYS = ("low", "high", "step", "log")


def read(path: Path, base: Config) -> dict[str, BaseDistribution]:
    """Reads a space.

    Args:
      path: The file.
      base: The settings of which some will be replaced.

    Returns:
      What each of these is drawn from, by the setting's name.

    Raises:
      UsageError: The file is no space; names the entry.
    """
    entries = _parse(path)
    known = {one.name: one for one in settings.settings_of(Config) if one.name not in _FIXED}
    space = {}
    for name, entry in entries.items():
        try:
            if name not in known:
                raise UsageError(_unknown(name, list(known)))
            space[name] = _distribution(entry, known[name])
            for value in _extremes(space[name]):
                _check(base, known[name], value)
        except (UsageError, ValueError) as error:
            raise UsageError(f"--space={path}: {name}: {error}") from None
    return space


def apply(base: Config, params: Params) -> Config:
    """The settings with the values that were drawn.

    Raises:
      UsageError: They contradict each other.
    """
    known = {one.name: one for one in settings.settings_of(Config)}
    values = {name: _value(known[name], value) for name, value in params.items()}
    config = dataclasses.replace(base, **values)
    config.check()
    return config


def _parse(path: Path) -> dict[str, Any]:
    try:
        with open_regular(path) as file:
            text = file.read().decode()
        entries = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"--space={path}: {error.strerror}") from None
    except ValueError as error:  # of both parsers, and of what is no text
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise UsageError(f"--space={path}: not {kind}: {error}") from None
    if not isinstance(entries, dict) or not entries:
        raise UsageError(f"--space={path}: must have an entry for each flag to be tried")
    return entries


def _unknown(name: str, known: list[str]) -> str:
    if name in _FIXED:
        return "the sweep needs it to be the same for all trials"
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"is no flag of quickdraw train{hint}"


def _distribution(entry: Any, one: Setting) -> BaseDistribution:
    if isinstance(entry, list):
        if not entry or len(set(map(str, entry))) < len(entry):
            raise UsageError("a list must hold choices, each once")
        return distributions.CategoricalDistribution([_to_text(value, one) for value in entry])
    if isinstance(entry, dict):
        return _range(entry, one)
    raise UsageError(
        f"is {entry!r}, must be a range, such as {{low = 1, high = 9}}, or a list of choices"
    )


def _range(entry: dict[str, Any], one: Setting) -> BaseDistribution:
    if one.type not in (int, float) or one.is_tuple:
        raise UsageError("is no number, so it needs a list of choices")
    if unknown := entry.keys() - set(_RANGE_KEYS):
        raise UsageError(f"{min(unknown)!r}: a range has {', '.join(_RANGE_KEYS)}")
    log, step = entry.get("log", False), entry.get("step")
    if not isinstance(log, bool):
        raise UsageError(f"log={log!r} must be true or false")
    for key in ("low", "high", *(["step"] if "step" in entry else [])):
        value, wanted = entry.get(key), (int,) if one.type is int else (int, float)
        if not isinstance(value, wanted) or isinstance(value, bool):
            number = "a whole number" if one.type is int else "a number"
            raise UsageError(f"{key}={value!r} must be {number}")
    low, high = entry["low"], entry["high"]
    if low >= high:
        raise UsageError(f"low={low} must be below high={high}")
    if log and (low <= 0 or step is not None):
        raise UsageError("log = true needs low above 0, and no step")
    if one.type is int:
        return distributions.IntDistribution(low, high, log=log, step=step or 1)
    return distributions.FloatDistribution(low, high, log=log, step=step)


def _to_text(value: Any, one: Setting) -> str:
    """A choice as after `--flag=`; TOML and JSON have numbers and truth values of their own."""
    if isinstance(value, list) and one.is_tuple:
        return one.to_text(value)
    if value is None or isinstance(value, list | dict):
        raise UsageError(f"{value!r} must be a text, a number, or true or false")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _extremes(distribution: BaseDistribution) -> tuple[Any, ...]:
    if isinstance(distribution, distributions.CategoricalDistribution):
        return tuple(distribution.choices)
    return (distribution.low, distribution.high)  # type: ignore[attr-defined]  # a range has both


def _check(base: Config, one: Setting, value: Any) -> None:
    """Raises UsageError or ValueError for a value that its setting cannot have."""
    config = dataclasses.replace(base, **{one.name: _value(one, value)})
    settings.check(config)


def _value(one: Setting, value: Any) -> Any:
    if one.type is bool and isinstance(value, str):
        if value not in ("true", "false"):
            raise UsageError(f"--{one.name}={value}: must be true or false")
        return value == "true"
    return one.from_text(value) if isinstance(value, str) else value
