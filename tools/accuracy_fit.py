"""A run of Keras' `fit`, as the peer of a run of the trainer: from nothing to a test result.

    python -m tools.accuracy_fit --flagfile=study_2019 --data_dir=data --run_dir=runs/fit

It builds the network of the flags with Keras' own layers, trains it by `fit` with the recipe of
the flags and Keras' callbacks, on batches of this project's reader, and tests the best weights.
What comes of it is in <run_dir>/result.json. --tuned is what a user would try who wants it fast:
the precision that the trainer would choose, and several steps per call.
"""

import json
from pathlib import Path

from absl import flags

from quickdraw_tfrecords.base import cli, setting_flags
from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.files import atomic_write
from trainer.commands.train import FLAGFILES
from trainer.config import Config

RESULT = "result.json"

# What the recipes here do without, and Keras' `fit` has no word for.
_UNKNOWN = {"ema": 0.0, "augment": (), "tta": "none", "teacher": None}


def main() -> None:
    """Trains and tests as the flags say."""
    config = setting_flags.from_flags(Config)
    config.check()
    for name, value in _UNKNOWN.items():
        if getattr(config, name) != value:
            raise UsageError(f"--{name}: Keras' fit does not do this here: drop the flag")
    run_dir = Path(str(config.run_dir))
    run_dir.mkdir(parents=True, exist_ok=True)
    from tools import keras_fit  # with TensorFlow, which takes seconds

    result = keras_fit.fit(config, tuned=flags.FLAGS.tuned)
    with atomic_write(run_dir / RESULT) as file:
        file.write(json.dumps(result).encode())


if __name__ == "__main__":
    setting_flags.define_flags(Config)
    flags.DEFINE_bool("tuned", False, "The trainer's precision, and several steps per call.")
    cli.run(main, flagfiles=FLAGFILES)
