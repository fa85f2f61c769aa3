"""Looks at every drawing of a data set for what spoils a training or its test.

    quickdraw audit --data_dir=data --png=worst.png
    quickdraw audit --data_dir=data --json > audit.json

Drawings with no ink, hardly any, or too much; drawings that are the same, pixel for pixel, in
one class or in two; and those of the validation and test splits that an earlier split has as
well. Nothing is changed: the converter's --drop leaves such drawings out.
"""

import json
from typing import Any

import numpy as np
from absl import flags

from quickdraw_tfrecords.audit import findings, sheet
from quickdraw_tfrecords.audit.catalogue import Catalogue
from quickdraw_tfrecords.audit.findings import MEANINGS, Findings, Twins
from quickdraw_tfrecords.base import cli
from quickdraw_tfrecords.base.stores import locate
from quickdraw_tfrecords.bitmaps import quality
from quickdraw_tfrecords.format import manifest as manifests


def define_flags() -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("data_dir", None, "Folder of the data set, or its URL.", required=True)
    flags.DEFINE_bool("json", False, "Print JSON, with every drawing found, instead of tables.")
    flags.DEFINE_string("png", None, "File to draw the worst to.")
    flags.DEFINE_integer("worst", 24, "How many of each kind to draw.", 1)


def main() -> None:
    """Audits as the flags say."""
    args = flags.FLAGS
    directory = manifests.find_directory(locate(args.data_dir))
    catalogue = Catalogue.read(directory, manifests.read_manifest(directory))
    found = findings.find(catalogue)
    print(json.dumps(to_json(catalogue, found)) if args.json else describe(catalogue, found))
    if args.png:
        sheet.draw(catalogue, found, limit=args.worst).save(args.png, format="PNG")


def describe(catalogue: Catalogue, found: Findings) -> str:
    """What was found, as a text of several lines: in all, across splits, and by class."""
    total, classes = len(catalogue), len(catalogue.manifest.class_names)
    lines = [f"{catalogue.directory}: {total:,} drawings of {classes} classes", ""]
    for kind, meaning in MEANINGS.items():
        count = int(found.masks[kind].sum())
        lines.append(f"{kind:<14}{count:>11,}{count / total:>10.4%}  {meaning}")
    lines += ["", f"{'the same in two splits':<34}{'same class':>12}{'another class':>15}"]
    for (split, earlier), counts in found.seen.items():
        lines.append(f"{f'{split}, seen in {earlier}':<34}{counts[0]:>12,}{counts[1]:>15,}")
    return "\n".join([*lines, "", *_class_lines(catalogue, found)])


def _class_lines(catalogue: Catalogue, found: Findings) -> list[str]:
    names = catalogue.manifest.class_names
    counts = _by_class(catalogue, found)
    rows = [label for label in range(len(names)) if any(counts[kind][label] for kind in MEANINGS)]
    width = max(map(len, names))
    lines = [f"{'class':<{width}}" + "".join(f"{column:>14}" for column in counts)]
    for label in rows:
        cells = "".join(f"{of_class[label]:>14,}" for of_class in counts.values())
        lines.append(f"{names[label]:<{width}}{cells}")
    return [*lines, f"nothing of the kind in {len(names) - len(rows)} of {len(names)} classes"]


def _by_class(catalogue: Catalogue, found: Findings) -> dict[str, list[int]]:
    """The drawings of each class: all, and of each kind."""
    columns = {"drawings": np.ones(len(catalogue), bool), **found.masks}
    classes = len(catalogue.manifest.class_names)
    return {
        name: np.bincount(catalogue.labels[mask], minlength=classes).tolist()
        for name, mask in columns.items()
    }


def to_json(catalogue: Catalogue, found: Findings) -> dict[str, Any]:
    """The same, and every drawing that it speaks of, as JSON values."""
    counts = _by_class(catalogue, found)
    return {
        "directory": str(catalogue.directory),
        "drawings": len(catalogue),
        "thresholds": {"nearly_blank": quality.NEARLY_BLANK, "overfull": quality.OVERFULL},
        "counts": {kind: sum(counts[kind]) for kind in MEANINGS},
        "seen": [
            {"split": split, "in": earlier, "same_class": same, "another_class": other}
            for (split, earlier), (same, other) in found.seen.items()
        ],
        "classes": {
            name: {column: of_class[label] for column, of_class in counts.items()}
            for label, name in enumerate(catalogue.manifest.class_names)
        },
        "found": {
            kind: [catalogue.entry(int(index)) for index in np.flatnonzero(found.masks[kind])]
            for kind in ("blank", "nearly_blank", "overfull")
        },
        "twins": _twins(catalogue, found.twins),
    }


def _twins(catalogue: Catalogue, twins: Twins) -> list[list[dict[str, Any]]]:
    """The drawings of each group."""
    groups: list[list[dict[str, Any]]] = [[] for _ in range(twins.groups.max(initial=-1) + 1)]
    for group, index in zip(twins.groups, twins.members, strict=True):
        groups[group].append(catalogue.entry(index))
    return groups


if __name__ == "__main__":
    define_flags()
    cli.run(main)
