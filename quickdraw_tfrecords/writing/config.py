"""How to convert: the settings of a conversion, and the flags made from them."""

import dataclasses

from quickdraw_tfrecords.base.settings import setting
from quickdraw_tfrecords.bitmaps import quality
from quickdraw_tfrecords.writing.planning import MAX_SHARDS


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """How to convert. The same source and settings give the same bytes."""

    per_class: int | None = setting(
        6450, "Drawings to take of each class, or 'all'.", group="data set", minimum=1, none="all"
    )
    allow_fewer: bool = setting(
        False, "Take all there are of a class with fewer drawings.", group="data set"
    )
    test_fraction: float = setting(
        0.2, "Fraction of the drawings in the test split.", group="data set", above=0, below=1
    )
    validation_fraction: float = setting(
        0.1,
        "Fraction of the others in the validation split.",
        group="data set",
        above=0,
        below=1,
    )
    seed: int = setting(
        0,
        "Decides which drawings are taken, their split and their order.",
        group="data set",
        minimum=0,
        maximum=2**32 - 1,
    )
    drop: tuple[str, ...] = setting(
        (),
        "Kinds of drawing to skip, and take others instead. "
        + "; ".join(f"{kind}: {meaning}" for kind, meaning in quality.MEANINGS.items()),
        group="data set",
        choices=tuple(quality.MEANINGS),
    )
    license: str | None = setting(
        None,
        "License of the drawings and whose they are, if they are your own: CC0, by Ann.",
        group="data set",
    )
    citation: str | None = setting(
        None, "What to cite for the drawings, if they are your own.", group="data set"
    )
    shards: int | None = setting(
        None,
        "Shards of the training split; by default as many as --shard_mib gives.",
        group="writing",
        minimum=1,
        maximum=MAX_SHARDS,
    )
    shard_mib: float = setting(
        20, "Size of a shard in MiB, where --shards is not given.", group="writing", minimum=0.001
    )
    overwrite: bool = setting(
        False, "Replace what another conversion left in --data_dir.", group="writing"
    )

    @property
    def dropped_kinds(self) -> tuple[str, ...]:
        """`drop` in the order of `quality.MEANINGS`: a drawing counts as the first that fits."""
        return tuple(kind for kind in quality.MEANINGS if kind in self.drop)
