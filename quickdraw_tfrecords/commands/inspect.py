"""Says what a data set holds, and draws some drawings of every class on a contact sheet.

quickdraw inspect --data_dir=data --png=contact.png
"""

import math
from collections.abc import Mapping

import numpy as np
from absl import flags
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from quickdraw_tfrecords.base import cli
from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.stores import Location, locate
from quickdraw_tfrecords.format import manifest as manifests
from quickdraw_tfrecords.format import shards
from quickdraw_tfrecords.format.manifest import Manifest

_GAP = 4  # pixels between drawings, and around them
_PAPER, _INK = 255, 0


def define_flags() -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("data_dir", None, "Folder of the data set, or its URL.", required=True)
    flags.DEFINE_string("png", None, "File to write a contact sheet to.")
    flags.DEFINE_string("split", "train", "Split of the drawings on the sheet.")
    flags.DEFINE_integer("drawings_per_class", 10, "Drawings of each class on the sheet.", 1)


def main() -> None:
    """Inspects as the flags say."""
    args = flags.FLAGS
    directory = manifests.find_directory(locate(args.data_dir))
    manifest = manifests.read_manifest(directory)
    if args.split not in manifest.splits:
        raise UsageError(f"--split={args.split}: must be one of {', '.join(manifest.splits)}")
    print(directory)
    print(describe(manifest))
    if args.png:
        drawings = first_drawings(directory, manifest, args.split, args.drawings_per_class)
        contact_sheet(drawings, manifest.layout.side).save(args.png, format="PNG")
        print(f"\nthe first drawings of each class in {args.split} are in {args.png}")


def describe(manifest: Manifest) -> str:
    """What a data set holds, as a text of several lines."""
    request, layout = manifest.request, manifest.layout
    source = request["source"]
    drawings = dict(zip(manifest.class_names, request["drawings"], strict=True))
    smallest = min(drawings, key=lambda name: drawings[name])
    largest = max(drawings, key=lambda name: drawings[name])
    facts = {
        "source": source.get("note", source["kind"]),
        "seed": request["seed"],
        "fractions": f"test {request['test_fraction']} of all, "
        f"validation {request['validation_fraction']} of the others",
        "images": f"{layout.side} x {layout.side}, uint8",
        "record": f"{layout.stride} bytes",
        "classes": len(drawings),
        "smallest": f"{smallest} ({drawings[smallest]:,})",
        "largest": f"{largest} ({drawings[largest]:,})",
    }
    if dropped := request.get("drop"):
        facts["dropped"] = ", ".join(f"{sum(n):,} {kind}" for kind, n in dropped.items())
    return "\n".join(
        [*(f"{name:<11}{value}" for name, value in facts.items()), "", _table(manifest)]
    )


def _table(manifest: Manifest) -> str:
    rows = [("split", "shards", "drawings", "MiB")]
    for name, infos in [*manifest.splits.items(), ("total", manifest.shards)]:
        records, size = (sum(getattr(i, what) for i in infos) for what in ("records", "bytes"))
        rows.append((name, f"{len(infos)}", f"{records:,}", f"{size / 2**20:,.1f}"))
    return "\n".join("{:<11}{:>7}{:>12}{:>10}".format(*row) for row in rows)


def first_drawings(
    directory: Location, manifest: Manifest, split: str, count: int
) -> dict[str, np.ndarray]:
    """The first drawings of each class of a split, in the order on disk.

    Reads shards, each checked, until there are enough: usually one.

    Returns:
      By class name, uint8[n, side, side], where n is `count` or all that there are.

    Raises:
      DataError: A shard is missing or damaged; names it.
    """
    layout = manifest.layout
    found: dict[str, list[np.ndarray]] = {name: [] for name in manifest.class_names}
    for shard in manifest.splits[split]:
        matrix = shards.read_shard(directory, shard)
        labels, images = layout.labels(matrix), layout.images(matrix)
        for label, drawings in enumerate(found.values()):
            wanted = np.flatnonzero(labels == label)[: count - len(drawings)]
            drawings.extend(images[wanted].reshape(-1, layout.side, layout.side))
        if all(len(drawings) == count for drawings in found.values()):
            break
    return {name: np.array(drawings) for name, drawings in found.items()}


def contact_sheet(drawings: Mapping[str, np.ndarray], side: int) -> Image.Image:
    """A row of name and drawings for each class, in as many columns as make it square.

    Args:
      drawings: By class name, uint8[n, side, side], ink high on 0.
      side: Height and width of a drawing in pixels.
    """
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), max(11, side // 2))
    cell = side + _GAP
    text_width = math.ceil(max(map(font.getlength, drawings))) + cell
    width = text_width + cell * max(map(len, drawings.values()))
    columns = max(1, round(math.sqrt(len(drawings) * cell / width)))
    rows = math.ceil(len(drawings) / columns)
    sheet = Image.new("L", (columns * width + _GAP, rows * cell + _GAP), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for index, (name, images) in enumerate(drawings.items()):
        column, row = divmod(index, rows)
        x, y = _GAP + column * width, _GAP + row * cell
        end = (x + text_width - 2 * _GAP, y + side / 2)
        pen.text(end, name, fill=_INK, font=font, anchor="rm")
        for place, image in enumerate(images):
            sheet.paste(Image.fromarray(_PAPER - image), (x + text_width + place * cell, y))
    return sheet


if __name__ == "__main__":
    define_flags()
    cli.run(main)
