"""Tries hostile input on every parser of what comes from outside.

    python -m tools.fuzz --secs=600
    python -m tools.fuzz --targets=npz,checkpoint --seed=7
    python -m tools.fuzz --targets=npz --replay=build/fuzz/npz-0123abcd

Each parser may refuse its input with a `DataError` or `UsageError` (the sketchpad: 4xx), and
must do so within seconds and in bounded memory. An input with which it does anything else is
saved and named, and the exit code is 1.
"""

import os
import sys
import time
from pathlib import Path

from absl import flags

from quickdraw_tfrecords.base import cli
from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.files import crc32c
from tools.fuzzing import runner

_FILES, _RUNS = "tools.fuzzing.files", "tools.fuzzing.run_directories"
_FOLDERS, _SERVICES = "tools.fuzzing.tfds_folders", "tools.fuzzing.services"

# By name, so that a target's process imports no more than it needs.
TARGETS = {
    "npy": f"{_FILES}:Npy",
    "npz": f"{_FILES}:Npz",
    "ndjson": f"{_FILES}:Ndjson",
    "picture": f"{_FILES}:Picture",
    "manifest": f"{_FILES}:Manifest",
    "checkpoint": f"{_RUNS}:Checkpoint",
    "run_facts": f"{_RUNS}:RunFacts",
    "tfds_records": f"{_FOLDERS}:TfdsRecords",
    "tfds_metadata": f"{_FOLDERS}:TfdsMetadata",
    "http": f"{_SERVICES}:HttpAnswer",
    "sketchpad": f"{_SERVICES}:SketchpadBody",
}


def define_flags() -> None:
    """Defines the tool's flags."""
    flags.DEFINE_float("secs", 60, "Seconds in all, shared by the targets.", 0)
    flags.DEFINE_list("targets", list(TARGETS), "Which parsers.")
    flags.DEFINE_string("seed", None, "Decides all inputs; by default, the time.")
    flags.DEFINE_string("out", "build/fuzz", "Folder for inputs that fail.")
    flags.DEFINE_string("replay", None, "Run the input in this file on the one target.")


def main() -> None:
    """Fuzzes as the flags say."""
    args = flags.FLAGS
    os.environ |= {"TQDM_DISABLE": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "ABSL_MIN_LOG_LEVEL": "3"}
    if unknown := set(args.targets) - TARGETS.keys():
        raise UsageError(f"--targets={min(unknown)}: must be some of {', '.join(TARGETS)}")
    if args.replay:
        for name in args.targets:
            runner.replay(TARGETS[name], Path(args.replay).read_bytes())
        return
    seed = args.seed or str(time.time_ns())
    print(f"--seed={seed}")
    failed = [
        name
        for name in args.targets
        if not _try(name, seed=seed, secs=args.secs / len(args.targets), out=Path(args.out))
    ]
    if failed:
        raise DataError(f"failed: {', '.join(failed)}")


def _try(name: str, *, seed: str, secs: float, out: Path) -> bool:
    """Runs a target and prints what came of it; true if nothing failed."""
    outcome = runner.run(TARGETS[name], seed=f"{seed}/{name}", secs=secs)
    print(f"{name:<14}{outcome.cases:>9,} inputs, {outcome.refused:>9,} refused", flush=True)
    if not outcome.failure:
        return True
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}-{crc32c(outcome.data):08x}"
    path.write_bytes(outcome.data)
    print(outcome.failure, file=sys.stderr)
    print(f"FAILED: python -m tools.fuzz --targets={name} --replay={path}", file=sys.stderr)
    return False


if __name__ == "__main__":
    define_flags()
    cli.run(main)
