"""What the page shows of every run, with or without results: training, data, versions."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.reading.dataset import DatasetInfo
from trainer import epochs, models
from trainer.report import figures
from trainer.run_directory.runs import TrainedRun


def describe_run(run: TrainedRun, info: DatasetInfo) -> dict[str, Any]:
    """What is shown of every run, with or without results."""
    history = run.history()
    best = epochs.best(history, run.config)
    return {
        "theme": figures.theme(),
        "run": run,
        "class_count": len(run.class_names),
        "history": history if best else [],
        **(_describe_training(run, history, best) if best else {}),
        "results": None,
        "flagfile": run.config.to_flagfile(),
        "dataset_facts": list(_dataset_facts(run, info)),
        "splits": [(split, f"{count:,}") for split, count in run.num_examples.items()],
        "version_facts": [
            ("trained on", run.devices),
            ("precision", run.precision),
            *run.versions.items(),
        ],
        "credit": str(info.credit),
        "layers": _layers(run),
    }


def reductions(run: TrainedRun, history: Sequence[Mapping[str, float]]) -> list[int]:
    """The epochs that began with a rate that a plateau had lowered."""
    if run.config.schedule != "plateau":
        return []
    return [
        int(row["epoch"])
        for before, row in itertools.pairwise(history)
        if row["learning_rate"] < before["learning_rate"]
    ]


def _describe_training(
    run: TrainedRun, history: list[dict[str, float]], best: Mapping[str, float]
) -> dict[str, Any]:
    epoch, lowered = int(best["epoch"]), reductions(run, history)
    curves = figures.learning_curves(history, best=epoch, reductions=lowered)
    seconds = sum(row["seconds"] for row in history)
    rate = np.median([row["examples_per_second"] for row in history])
    monitor = run.config.monitor
    text = (
        f"{len(history)} of at most {run.config.epochs} epochs, in {_duration(seconds)} of "
        f"training on {run.devices}, {rate:,.0f} drawings per second. The best is epoch {epoch}, "
        f"with a {monitor.replace('_', ' ').replace('top', 'top-')} of {best[monitor]:.4f}."
    )
    if smaller := _smaller_sides(run, len(history)):
        text += (
            f" Epochs 1 to {len(smaller)} were trained, and validated, on drawings made smaller: "
            f"{', '.join(map(str, dict.fromkeys(smaller)))} pixels a side."
        )
    if lowered:
        text += f" The learning rate was reduced before epoch {', '.join(map(str, lowered))}."
    return {
        "curves": {name: figures.to_svg(figure) for name, figure in curves.items()},
        "best_epoch": epoch,
        "training_text": text,
    }


def _smaller_sides(run: TrainedRun, count: int) -> list[int]:
    """The sides that the first epochs trained at, until the first at the drawings' own."""
    sides, total = run.config.train_sides, run.config.epochs
    found = [epochs.side_of_epoch(sides, epoch, total) or run.side for epoch in range(count)]
    return list(itertools.takewhile(lambda side: side != run.side, found))


def _layers(run: TrainedRun) -> list[tuple[str, str, str, int]]:
    """Name, kind, output shape and parameters of each layer; none if the model is not known."""
    try:
        build = models.get(run.config.model)
        model = build(side=run.side, num_classes=len(run.class_names), dropout=run.config.dropout)
    except UsageError:
        return []
    return [
        (layer.name, type(layer).__name__, _output_shape(layer), layer.count_params())
        for layer in model.layers
    ]


def _output_shape(layer: keras.Layer) -> str:
    """The shape of what it makes of one drawing; blank for a layer that is used more than once."""
    try:
        outputs = tree.flatten(layer.output)
    except (AttributeError, ValueError):
        return ""
    return ", ".join(" x ".join(map(str, tensor.shape[1:])) for tensor in outputs)


def _duration(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    if minutes < 2:
        return f"{seconds:.0f} seconds"
    return f"{minutes:.0f} minutes" if hours < 2 else f"{hours:.1f} hours"


def _dataset_facts(run: TrainedRun, info: DatasetInfo) -> Iterator[tuple[str, str]]:
    yield "directory", str(run.data_dir)
    yield "fingerprint", run.fingerprint
    yield "drawings", f"{run.side} x {run.side} pixels, {len(run.class_names)} classes"
    if not info.manifest:
        yield "source", "not known: another tool wrote the data set"
        return
    request = info.manifest.request
    source = request["source"]
    yield "source", source.get("note", source["kind"])
    yield "seed of the splits", str(request["seed"])
    yield (
        "splits",
        f"test {request['test_fraction']} of all, validation {request['validation_fraction']} of "
        "the others, stratified by class",
    )


def is_synthetic(info: DatasetInfo) -> bool:
    """Whether no drawing is Google's."""
    if not info.manifest:
        return False
    return bool(info.manifest.request["source"]["kind"] == "synthetic")
