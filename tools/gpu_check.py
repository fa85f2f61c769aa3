"""Checks in under five minutes that training does on a GPU what it does on a CPU.

    python -m tools.gpu_check
    python -m tools.gpu_check --forecast_python=jax-env/bin/python

It looks where TensorFlow places operations, takes steps in every precision, with XLA and
without, and compares them with a CPU's; goes through an epoch held on the GPU; trains twice, and
once more with an interruption, which must give the same bits; tries several GPUs where there are;
and times steps, beside the forecast of `tools.gpu_forecast` where JAX is there to make one. It
ends with a table to paste into an issue, and with exit code 1 if anything differs by more than
it may. Without a GPU it checks what applies.
"""

import sys
import tempfile
from collections.abc import Iterator

from absl import flags

from quickdraw_tfrecords.base import cli
from quickdraw_tfrecords.base.errors import DataError
from tools import gpu_checks
from tools.gpu_checks import JobError, Result, Row


def main() -> None:
    """Checks, and prints the table.

    Raises:
      DataError: Something failed.
    """
    try:
        found = gpu_checks.run("devices")
    except JobError as error:
        raise DataError(f"the devices cannot be listed: {error}") from error
    rows = list(_with_progress(found))
    print(table(found, rows))
    failed = [row.name for row in rows if row.verdict == "failed"]
    if failed:
        raise DataError(f"failed: {', '.join(failed)}; please send us the table above")


def _with_progress(found: Result) -> Iterator[Row]:
    """All rows, each printed as it comes."""
    with tempfile.TemporaryDirectory() as folder:
        for name, check in gpu_checks.checks(found, folder, flags.FLAGS.forecast_python):
            try:
                rows = list(check())
            except JobError as failure:
                rows = [Row(name, "failed", str(failure))]
            for row in rows:
                print(f"{row.verdict:<8} {row.name}: {row.detail}", file=sys.stderr)
                yield row


def table(found: Result, rows: list[Row]) -> str:
    """What to paste into an issue, in Markdown."""
    card = ", ".join(found["gpus"]) or found["problem"] or "no GPU"
    head = f"{card}; TensorFlow {found['tensorflow']}, CUDA {found['cuda']}"
    lines = [f"| {row.name} | {row.verdict} | {row.detail} |" for row in rows]
    return "\n".join([head, "", "| check | verdict | found |", "| --- | --- | --- |", *lines])


if __name__ == "__main__":
    flags.DEFINE_string("forecast_python", None, "The Python that has JAX, for the forecast.")
    cli.run(main)
