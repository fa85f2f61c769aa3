"""What a conversion is to do: worked out before a byte is written."""

import functools
from concurrent import futures
from typing import Any, NamedTuple

import numpy as np

from quickdraw_tfrecords.base import settings
from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.format import validation
from quickdraw_tfrecords.format.records import MAX_SIDE, RecordLayout, varint_width
from quickdraw_tfrecords.sources import Source
from quickdraw_tfrecords.writing import filtering, planning
from quickdraw_tfrecords.writing.config import ConvertConfig
from quickdraw_tfrecords.writing.dealing import Deal
from quickdraw_tfrecords.writing.planning import Selection


class Plan(NamedTuple):
    """A conversion.

    Attributes:
      request: What the manifest is to say of it. The same request gives the same bytes.
      selection: Which drawings are taken.
      deal: Which shard each goes to.
      layout: How they are encoded.
    """

    request: dict[str, Any]
    selection: Selection
    deal: Deal
    layout: RecordLayout


def make_plan(source: Source, config: ConvertConfig, pool: futures.Executor) -> Plan:
    """Plans a conversion; with `drop`, this reads the drawings.

    Raises:
      UsageError: The request cannot be met.
      DataError: A drawing cannot be read.
    """
    settings.check(config)
    if source.side > MAX_SIDE:
        raise UsageError(
            f"the source's drawings have {source.side:,} pixels a side, at most {MAX_SIDE:,} may be"
        )
    selection, dropped = _select(source, config, pool)
    drawings = planning.split_counts(
        source.class_names,
        selection.takes,
        test_fraction=config.test_fraction,
        validation_fraction=config.validation_fraction,
    )
    layout = validation.make_layout(
        source.side, varint_width(len(source.class_names) - 1), varint_width(_max_row(source))
    )
    counts = planning.shard_counts(
        {split: sum(of_class) for split, of_class in drawings.items()},
        stride=layout.stride,
        shards=config.shards,
        shard_mib=config.shard_mib,
    )
    request = {
        "source": source.describe(),
        "class_names": list(source.class_names),
        "drawings": list(selection.takes),
        "test_fraction": config.test_fraction,
        "validation_fraction": config.validation_fraction,
        "shards": counts,
        "seed": config.seed,
        "planning": planning.VERSION,
    }
    if config.drop:
        request["drop"] = dropped
    for name in ("license", "citation"):
        if text := getattr(config, name):
            request[name] = text
    deal = Deal(source.class_names, drawings, counts, config.seed)
    return Plan(request, selection, deal, layout)


def _select(
    source: Source, config: ConvertConfig, pool: futures.Executor
) -> tuple[Selection, dict[str, list[int]]]:
    """What is to be converted, and how many drawings of each class were dropped."""
    how_many = functools.partial(
        planning.how_many,
        source.class_names,
        per_class=config.per_class,
        allow_fewer=config.allow_fewer,
    )
    takes = how_many(source.counts)
    selection = Selection(source.class_names, source.counts, tuple(takes), config.seed)
    if not config.drop:
        return selection, {}
    selection, dropped = filtering.select(source, selection, drop=config.dropped_kinds, pool=pool)
    how_many(selection.takes, what="drawings left after --drop")
    return selection, dropped


def _max_row(source: Source) -> int:
    last = (
        source.source_rows(label, np.array([count - 1]))[0]
        for label, count in enumerate(source.counts)
    )
    return int(max(last))
