"""Compares the trainer's custom loop with Keras' `fit`, side by side in one run.

    python -m tools.benchmark_train --data_dir=data
    python -m tools.benchmark_train --data_dir=data --model=compact_cnn --steps=10 --json

Both train the same model on the same batches with Adam, and keep loss, top-1 and top-3; `fit`
in float32, as it does by default, and with Keras' own dropout. A round is an epoch of so many
steps of each, so that what disturbs the machine disturbs both alike; figures are medians over
rounds, and ratios are taken within a round. Each round also multiplies large matrices in the
precision of the custom loop: the share of that rate which its dense and convolution layers
reach tells how near the step is to the limit of the machine.
"""

import dataclasses
import json
import statistics
from pathlib import Path
from typing import Any

from absl import flags
from tqdm import tqdm

from quickdraw_tfrecords.base import cli, setting_flags
from quickdraw_tfrecords.base.errors import UsageError
from trainer import models
from trainer.config import Config

_FLAGS_OF_TRAINER = ("data_dir", "model", "batch_size")


@dataclasses.dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
      model: A model of the trainer, by name, or "tiny": one dense layer.
      precision: As --precision of the trainer, for the custom loop.
      batch_size: Drawings in a step.
      steps: Steps in a round.
    """

    model: str
    precision: str
    batch_size: int
    steps: int


# What the project promises of the ratio on a CPU; for "auto", where that is bfloat16.
BARS = {
    Case("study_cnn", "float32", batch_size=1024, steps=8): 1.05,
    Case("study_cnn", "auto", batch_size=1024, steps=8): 1.5,
    Case("tiny", "float32", batch_size=64, steps=2000): 2.0,
}


def main() -> None:
    """Compares as the flags say."""
    args = flags.FLAGS
    for field in dataclasses.fields(Config):
        if args[field.name].present and field.name not in _FLAGS_OF_TRAINER:
            raise UsageError(f"--{field.name}: is the trainer's; the benchmark has it fixed")
    cases = choose_cases(args.model, batch_size=args.batch_size, steps=args.steps)
    results = benchmark(args.data_dir, cases, args.rounds)
    print(json.dumps(results, indent=2) if args.json else text(results))


def choose_cases(
    model: str | None, *, batch_size: int | None = None, steps: int | None = None
) -> list[Case]:
    """The cases that have bars, or those of one model; of other sizes where they are given.

    Raises:
      UsageError: There is no such model.
    """
    like = model
    if model and model not in {case.model for case in BARS}:
        models.get(model)  # raises if there is none
        like = "study_cnn"
    return [
        dataclasses.replace(
            case,
            model=model or case.model,
            batch_size=batch_size or case.batch_size,
            steps=steps or case.steps,
        )
        for case in BARS
        if like in (None, case.model)
    ]


def benchmark(data_dir: str | Path, cases: list[Case], rounds: int) -> list[dict[str, Any]]:
    """Runs cases; returns what `text` prints, a plain JSON object for each.

    Raises:
      UsageError: The training split is smaller than a batch.
      DataError: There is no data set, or it is damaged.
    """
    from tools import train_contenders  # imports TensorFlow
    from trainer.training import precision

    results = []
    for case in cases:
        loop = train_contenders.CustomLoop(data_dir, case.model, case.batch_size, case.precision)
        fit = train_contenders.KerasFit(data_dir, case.model, case.batch_size)
        first_secs = {"loop": loop.run(1).secs, "fit": fit.run(1).secs}
        turns = []
        for _ in tqdm(range(rounds), desc=f"{case.model}, {loop.policy}", unit="round"):
            trials = {"loop": loop.run(case.steps), "fit": fit.run(case.steps)}
            matmul = precision.matmul_rate(loop.policy, side=4096, secs=0.5)
            turns.append({**trials, "matmul": matmul})
        flops = train_contenders.training_flops(loop.model)
        results.append(summarize(case, loop.policy, first_secs, turns, flops))
    return results


def summarize(
    case: Case,
    policy: str,
    first_secs: dict[str, float],
    turns: list[dict[str, Any]],
    flops: int,
) -> dict[str, Any]:
    """Medians over rounds.

    Args:
      case: What was compared.
      policy: Precision of the custom loop.
      first_secs: How long the first step of each side took, which compiles.
      turns: By name the trials of both sides in a round, and the rate of products in it.
      flops: Floating-point operations of a step for one drawing.
    """
    examples = case.batch_size * case.steps
    ratios = [turn["fit"].secs / turn["loop"].secs for turn in turns]
    result = {**dataclasses.asdict(case), "policy": policy}
    for side, first in first_secs.items():
        secs = statistics.median(turn[side].secs for turn in turns)
        result[f"{side}_examples_per_sec"] = examples / secs
        result[f"{side}_compile_secs"] = first - secs / case.steps
    keeps_promise = policy == "mixed_bfloat16" or case.precision != "auto"
    return result | {
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "bar": BARS.get(case) if keeps_promise else None,
        "input_share": statistics.median(
            turn["loop"].input_secs / turn["loop"].secs for turn in turns
        ),
        "matmul_flops_per_sec": statistics.median(turn["matmul"] for turn in turns),
        "matmul_share": statistics.median(
            flops * examples / turn["loop"].secs / turn["matmul"] for turn in turns
        ),
    }


def text(results: list[dict[str, Any]]) -> str:
    """The results as a table."""
    return "\n".join([_ROW.format(*_COLUMNS), *(_ROW.format(*_cells(row)) for row in results)])


def _cells(row: dict[str, Any]) -> list[str]:
    bar, verdict = row["bar"], ""
    if bar:
        verdict = f"at least {bar:g}: {'met' if row['ratio'] >= bar else 'missed'}"
    return [
        f"{row['model']}, {row['policy']}, batch {row['batch_size']}",
        f"{row['loop_examples_per_sec']:,.0f}",
        f"{row['fit_examples_per_sec']:,.0f}",
        f"{row['ratio']:.2f}",
        f"{row['matmul_share']:.2f}",
        f"{row['input_share']:.2%}",
        f"{row['loop_compile_secs']:.1f} / {row['fit_compile_secs']:.1f}",
        verdict,
    ]


_ROW = "{:<40}{:>10}{:>10}{:>8}{:>11}{:>12}{:>17}  {}"
_COLUMNS = (
    "case", "loop ex/s", "fit ex/s", "ratio", "of matmul", "input wait", "compile s", "",
)  # fmt: skip

if __name__ == "__main__":
    setting_flags.define_flags(Config)
    flags.mark_flag_as_required("data_dir")
    for name in ("model", "batch_size"):
        flags.FLAGS.set_default(name, None)
    flags.DEFINE_integer("steps", None, "Steps in a round; by default as the case has.", 1)
    flags.DEFINE_integer("rounds", 7, "Rounds of each case.", 1)
    flags.DEFINE_bool("json", False, "Print JSON instead of a table.")
    cli.run(main)
