"""Compares the trainer's custom loop with Keras' `fit`, side by side in one run.

    python -m tools.benchmark_train --data_dir=data
    python -m tools.benchmark_train --data_dir=data --model=compact_cnn --steps=10 --json

Both train the same model on the same batches with Adam, and keep loss, top-1 and top-3; `fit`
in float32, as it is by default. A round is an epoch of so many steps of each, so that what
disturbs the machine disturbs both alike; figures are medians over rounds, and ratios are
taken within a round. Each round also multiplies large matrices in the precision of the custom
loop: what share of that rate its dense and convolution layers reach is how near the step is
to the limit of the machine.
"""

import dataclasses
import json
import os
import statistics
from pathlib import Path
from typing import Any

from absl import flags
from tqdm import tqdm

from quickdraw_tfrecords import cli
from trainer import flags as trainer_flags
from trainer import models

TINY = "tiny"


@dataclasses.dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
      model: Name of a model of the trainer, or "tiny": one dense layer.
      precision: Value of --precision for the custom loop; `fit` has float32.
      batch_size: Drawings in a step.
      steps: Steps in a round.
      bar: What the project promises the ratio to be on a CPU, if anything.
    """

    model: str
    precision: str
    batch_size: int
    steps: int
    bar: float | None


CASES = (
    Case("study_cnn", "float32", batch_size=1024, steps=4, bar=1.05),
    Case("study_cnn", "auto", batch_size=1024, steps=4, bar=1.5),
    Case(TINY, "float32", batch_size=64, steps=2000, bar=2.0),
)


def main() -> None:
    """Compares as the flags say."""
    args = flags.FLAGS
    cases = choose_cases(args.model, batch_size=args.batch_size, steps=args.steps)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    results = benchmark(args.data_dir, cases, args.rounds)
    print(json.dumps(results, indent=2) if args.json else text(results))


def choose_cases(model: str | None, *, batch_size: int | None, steps: int | None) -> list[Case]:
    """The project's cases, or those of one model; with other sizes if these are given.

    Raises:
      UsageError: There is no such model.
    """
    cases = [case for case in CASES if model in (None, case.model)]
    if not cases:
        models.get(model)
        cases = [dataclasses.replace(case, model=model) for case in CASES if case.model != TINY]
    given = {"batch_size": batch_size, "steps": steps}
    changes = {name: value for name, value in given.items() if value is not None}
    if model not in (None, *(case.model for case in CASES)) or changes:
        changes["bar"] = None  # it is a promise for these models and sizes only
    return [dataclasses.replace(case, **changes) for case in cases]


def benchmark(data_dir: str | Path, cases: list[Case], rounds: int) -> list[dict[str, Any]]:
    """Runs all cases; returns what `text` prints, a plain JSON object for each.

    Raises:
      UsageError: The training split is smaller than a batch.
      DataError: There is no data set, or it is damaged.
    """
    return [_compare(data_dir, case, rounds) for case in tqdm(cases, desc="cases")]


def _compare(data_dir: str | Path, case: Case, rounds: int) -> dict[str, Any]:
    from tools import train_contenders  # imports TensorFlow

    contenders = train_contenders
    loop = contenders.CustomLoop(data_dir, case.model, case.batch_size, case.precision)
    fit = contenders.KerasFit(data_dir, case.model, case.batch_size)
    first_secs = [side.run(1).secs for side in (loop, fit)]
    turns = [
        (loop.run(case.steps), fit.run(case.steps), contenders.matmul_rate(loop.policy))
        for _ in tqdm(range(rounds), desc=f"{case.model} in {loop.policy}", leave=False)
    ]
    loop_secs, fit_secs = ([turn[side].secs for turn in turns] for side in (0, 1))
    examples = case.batch_size * case.steps
    compile_secs = [
        first - statistics.median(secs) / case.steps
        for first, secs in zip(first_secs, (loop_secs, fit_secs), strict=True)
    ]
    ratios = [fit / loop for loop, fit in zip(loop_secs, fit_secs, strict=True)]
    flops = examples * contenders.training_flops(loop.model)
    return {
        **dataclasses.asdict(case),
        "policy": loop.policy,
        "loop_examples_per_sec": examples / statistics.median(loop_secs),
        "fit_examples_per_sec": examples / statistics.median(fit_secs),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "loop_compile_secs": compile_secs[0],
        "fit_compile_secs": compile_secs[1],
        "input_share": statistics.median(loop.input_secs / loop.secs for loop, *_ in turns),
        "matmul_flops_per_sec": statistics.median(rate for *_, rate in turns),
        "matmul_share": statistics.median(flops / loop.secs / rate for loop, _, rate in turns),
    }
