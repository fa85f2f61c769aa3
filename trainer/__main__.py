"""The trainer.

python -m trainer --flagfile=trainer/flagfiles/study_2019.flags --data_dir=data --run_dir=runs/1
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before the first import of TensorFlow

from quickdraw_tfrecords.base import cli
from trainer import flags


def main() -> None:
    """Trains as the flags say."""
    config = flags.config_from_flags()
    from trainer import session  # imports TensorFlow: only once the flags are known to be good

    session.run(config)


if __name__ == "__main__":
    cli.run(main)
