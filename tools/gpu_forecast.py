"""Forecasts how fast a GPU trains, on a machine that need not have one.

    python -m tools.gpu_forecast --gpu=h100 --flagfile=study_2019
    python -m tools.gpu_forecast --gpu=t4 --model=compact_cnn --batch_size=4096

The very training step that the flags make is compiled for that GPU, by the compiler of JAX,
which is TensorFlow's too, and its operations are timed by what they move and compute. What is
printed is a forecast, within about a fifth of what an H100 was measured at; other cards have not
been measured. JAX lives in an environment of its own: with Python 3.12 or newer,

    python3.12 -m venv jax-env && jax-env/bin/pip install 'jax[cuda13]>=0.11,<0.13'

and --python=jax-env/bin/python. It takes no GPU to install it.
"""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from quickdraw_tfrecords.base import cli, setting_flags
from quickdraw_tfrecords.base.errors import DataError, UsageError
from tools import gpu_roofline
from tools.gpu_roofline import CARDS, Card, Operation
from trainer.commands.train import FLAGFILES
from trainer.config import Config

COMPILER = Path(__file__).with_name("gpu_compiler.py")
JAX_REQUIREMENT = "jax[cuda13]>=0.11,<0.13"
# A CPU can try no kernels, and Triton's are chosen by trying.
_XLA_FLAGS = "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"
_DEAREST = 10
# Going forward is a third of a step.
_VALIDATION_SHARE = 1 / 3


@dataclasses.dataclass(frozen=True)
class Split:
    """What a run trains on; by default the study's: 345 classes of 6,450 drawings."""

    side: int = 28
    classes: int = 345
    train: int = 1_602_180
    validation: int = 178_020


@dataclasses.dataclass(frozen=True)
class Forecast:
    """A step as compiled for a card.

    Attributes:
      card: The card.
      policy: The precision.
      operations: What it launches.
      temporary_bytes: Memory that a step takes for what it does not keep.
      argument_bytes: Memory of weights, optimizer and a batch.
    """

    card: Card
    policy: str
    operations: Sequence[Operation]
    temporary_bytes: int
    argument_bytes: int

    @property
    def step_secs(self) -> float:
        """How long a step takes."""
        return sum(gpu_roofline.secs(operation, self.card) for operation in self.operations)

    def count(self, kind: str) -> int:
        """How many operations of a kind there are."""
        return sum(operation.kind == kind for operation in self.operations)


def main() -> None:
    """Forecasts as the flags say."""
    card = CARDS[flags.FLAGS.gpu]
    config = setting_flags.from_flags(Config)
    config.check()
    policy = card.precision if config.precision == "auto" else config.precision
    if policy == "mixed_bfloat16" and "bf16" not in card.rates:
        raise UsageError(f"--precision={policy}: {card.name} has no bfloat16: use mixed_float16")
    python = find_python(flags.FLAGS.python)
    split = _split() if flags.FLAGS["data_dir"].present else Split()
    print(text(forecast(config, card, policy, split, python), config, split))


def find_python(given: str | None) -> str:
    """The Python that has JAX.

    Raises:
      UsageError: None has; says what to install.
    """
    if given:
        return given
    if importlib.util.find_spec("jax") and importlib.util.find_spec("jax_cuda13_plugin"):
        return sys.executable
    raise UsageError(
        "this needs JAX for CUDA, with Python 3.12 or newer: python3.12 -m venv jax-env && "
        f"jax-env/bin/pip install '{JAX_REQUIREMENT}', then --python=jax-env/bin/python"
    )


def forecast(config: Config, card: Card, policy: str, split: Split, python: str) -> Forecast:
    """Exports the step, and has it compiled.

    Raises:
      DataError: JAX cannot compile it; says why.
    """
    from tools import gpu_program  # imports TensorFlow

    train_steps = gpu_program.make_steps(config, policy, side=split.side, classes=split.classes)
    program = gpu_program.export(train_steps, batch_size=config.batch_size, side=split.side)
    options = {"xla_gpu_deterministic_ops": True} if config.deterministic else {}
    with tempfile.TemporaryDirectory() as folder:
        program.write(Path(folder))
        _compile(python, folder, card.config(), json.dumps(options))
        facts = json.loads(Path(folder, "compiled.json").read_text())
        hlo = Path(folder, "step.hlo").read_text()
    return Forecast(
        card=card,
        policy=policy,
        operations=gpu_roofline.operations(hlo),
        temporary_bytes=facts["temporary_bytes"],
        argument_bytes=facts["argument_bytes"],
    )


def _compile(python: str, *arguments: str) -> None:
    environment = os.environ | {"XLA_FLAGS": _XLA_FLAGS, "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1"}
    command = [python, str(COMPILER), *arguments]
    try:
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
    except OSError as error:
        raise UsageError(f"--python={python}: {error.strerror}") from error
    if result.returncode:
        reason = (result.stderr.strip() or "no message").splitlines()[-1]
        raise DataError(f"{python} could not compile the step, with {JAX_REQUIREMENT}: {reason}")


def text(found: Forecast, config: Config, split: Split) -> str:
    """What is printed."""
    operations, card = found.operations, found.card
    moved = sum(operation.moved_bytes for operation in operations)
    flops = sum(operation.flops for operation in operations)
    epoch_secs = found.step_secs * (
        split.train // config.batch_size + _VALIDATION_SHARE * split.validation / config.batch_size
    )
    lines = [
        f"{card.name}, {config.model}, {found.policy}, batch {config.batch_size}: a forecast, "
        "compiled for this card and not run on it",
        f"launches {len(operations)}, sorts {found.count('sort')}, "
        f"scatters {found.count('scatter')}",
        f"moved {moved / 1e9:.2f} GB, computed {flops / 1e9:.0f} GFLOP",
        f"memory {found.temporary_bytes / 1e6:.0f} MB for a step, and "
        f"{found.argument_bytes / 1e6:.0f} MB for weights, optimizer and a batch",
        f"step {found.step_secs * 1e3:.2f} ms, bound by {gpu_roofline.bound(operations, card)}: "
        f"{config.batch_size / found.step_secs:,.0f} drawings/s, which the input has to give",
        f"{config.epochs} epochs {_duration(config.epochs * epoch_secs)}, validation included",
        "",
        f"{'ms':>7}{'MB':>8}{'GFLOP':>8}  what takes longest",
        *map(_row, *_dearest(operations, card)),
    ]
    return "\n".join(lines)


def _dearest(operations: Sequence[Operation], card: Card) -> tuple[list[float], list[Operation]]:
    """The operations that take longest, with their times in seconds."""
    times = {id(operation): gpu_roofline.secs(operation, card) for operation in operations}
    dearest = sorted(operations, key=lambda operation: -times[id(operation)])[:_DEAREST]
    return [times[id(operation)] for operation in dearest], dearest


def _row(secs: float, operation: Operation) -> str:
    return (
        f"{secs * 1e3:7.3f}{operation.moved_bytes / 1e6:8.0f}{operation.flops / 1e9:8.1f}  "
        f"{operation.kind} {operation.name}"
    )


def _duration(secs: float) -> str:
    if secs < 120:
        return f"{secs:.0f} s"
    return f"{secs / 60:.0f} min" if secs < 7200 else f"{secs / 3600:.1f} h"


def _split() -> Split:
    """That of the data set that is named."""
    import quickdraw_tfrecords as qt

    info = qt.open_dataset(flags.FLAGS.data_dir)
    examples = info.num_examples
    return Split(info.side, len(info.class_names), examples["train"], examples["validation"])


if __name__ == "__main__":
    setting_flags.define_flags(Config)
    for name in ("data_dir", "run_dir"):
        flags.FLAGS.set_default(name, "unused")
    flags.DEFINE_enum("gpu", "h100", list(CARDS), "The card.")
    flags.DEFINE_string("python", None, "The Python that has JAX; by default this one.")
    cli.run(main, flagfiles=FLAGFILES)
