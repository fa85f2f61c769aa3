"""The parts of a run, made by `trainer.session` and put to work by `trainer.training.loop`."""

import dataclasses
from collections.abc import Callable

import keras

from trainer.run_directory.run_log import RunLog
from trainer.run_directory.runs import TrainedRun
from trainer.training.batches import Batches
from trainer.training.evaluation import Evaluator
from trainer.training.precision import LossScale
from trainer.training.profiling import StepProfiler
from trainer.training.state import RunState
from trainer.training.steps import TrainSteps


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a run works with.

    Attributes:
      model: What is trained.
      optimizer: What changes its weights.
      loss_scale: Its dynamic loss scaling.
      batches: The batches of each split.
      train_steps: The compiled training steps.
      evaluator: The compiled evaluation.
      state: What is saved and restored.
      log: What the run leaves for people.
      facts: What is remembered of the run.
      profiler: Profiles some steps.
      agree: Gives all workers the same value, made of those they call it with.
    """

    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    loss_scale: LossScale
    batches: Batches
    train_steps: TrainSteps
    evaluator: Evaluator
    state: RunState
    log: RunLog
    facts: TrainedRun
    profiler: StepProfiler
    agree: Callable[[float], float]
