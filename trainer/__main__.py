"""The trainer.

python -m trainer --flagfile=trainer/flagfiles/study_2019.flags --data_dir=data --run_dir=runs/1
"""

import os
import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C shows no traceback of the imports below
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before the first import of TensorFlow

from quickdraw_tfrecords import cli  # noqa: E402
from trainer import flags  # noqa: E402


def main() -> None:
    """Trains as the flags say."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config = flags.config_from_flags()
    from trainer import session  # imports TensorFlow: only once the flags are known to be good

    session.run(config)


if __name__ == "__main__":
    cli.run(main)
