"""What a training run is told: its settings, with or without flags.

    config = Config(data_dir="data", run_dir="runs/1", epochs=10)
    config.check()

The flags of `quickdraw train` are made from the fields below.
"""

import dataclasses
from pathlib import Path
from typing import Literal

from quickdraw_tfrecords.base import settings
from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.settings import REQUIRED, setting
from quickdraw_tfrecords.base.stores import Location
from quickdraw_tfrecords.reading.dataset import DatasetInfo, open_dataset
from quickdraw_tfrecords.reading.local_cache import LOCAL_CACHE_GIB
from quickdraw_tfrecords.reading.remote_shards import READ_AHEAD_MIB
from trainer import models

# All of Keras' but those that wrap others, ScheduleFreeAdamW, which has weights of its own to
# evaluate with, and Adafactor, which divides 0 by 0 where all gradients of a row are zero.
# Of muon there is more than Keras has: see `trainer.training.muon`.
# A list, because asking Keras takes ten seconds.
OPTIMIZERS = (
    "adadelta", "adagrad", "adam", "adamax", "adamw", "ftrl", "lamb", "lion",
    "muon", "nadam", "rmsprop", "sgd",
)  # fmt: skip
# A list, because asking `trainer.training` imports TensorFlow.
AUGMENTATIONS = (
    "shift", "rotate", "zoom", "flip", "warp", "stroke", "cutout", "mixup", "cutmix",
)  # fmt: skip

_DATA = "data"
_MODEL = "model"
_OPTIMIZATION = "optimization"
_SCHEDULE = "learning rate and stopping"
_DEVICES = "input and devices"
_CHECKPOINTS = "checkpoints"
_DIAGNOSTICS = "logs and diagnostics"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of a run; paths and URLs may be given as strings."""

    data_dir: Location = setting(
        REQUIRED, "Data set, as given to the converter: a folder or its URL.", group=_DATA
    )
    run_dir: Location = setting(
        REQUIRED, "Where checkpoints, curves and results go: a folder or its URL.", group=_DATA
    )
    train_split: str = setting(
        "train", "What to train on: train, or a slice of it, such as train[:10%].", group=_DATA
    )
    augment: tuple[str, ...] = setting(
        (), "Random changes to drawings.", group=_DATA, choices=AUGMENTATIONS
    )
    flip_classes: tuple[str, ...] = setting(
        (),
        "Classes that mean the same when mirrored, for --augment=flip and --tta; by default "
        "those of Quick, Draw! without digits or letters.",
        group=_DATA,
    )
    train_sides: tuple[int, ...] = setting(
        (),
        "Sides that drawings are made smaller to, for equal parts of the epochs, the last being "
        "their own: 16,20,24,28.",
        group=_DATA,
        minimum=4,
    )
    cache: Literal["auto", "memory", "device", "none"] = setting(
        "auto",
        "Where the training split is held: in memory, on the device, or streamed.",
        group=_DATA,
    )
    read_ahead_mib: float = setting(
        READ_AHEAD_MIB,
        "MiB of a data set in an object store that may be on their way.",
        group=_DATA,
        minimum=1,
    )
    local_cache_dir: Path | None = setting(
        None, "Folder on a local disk for copies of shards in an object store.", group=_DATA
    )
    local_cache_gib: float = setting(
        LOCAL_CACHE_GIB, "GiB that the copies may take.", group=_DATA, above=0
    )

    model: str = setting(
        "compact_cnn",
        "Model of trainer/models, by name; or a module of yours, as package.module.",
        group=_MODEL,
    )
    dropout: float | None = setting(
        None, "Dropout rate; by default the model's own.", group=_MODEL, minimum=0, maximum=0.99
    )
    tta: Literal["none", "flip"] = setting(
        "none",
        "Test-time augmentation: flip averages what is said of a drawing and of its mirror image, "
        "of classes that may be flipped.",
        group=_MODEL,
    )

    epochs: int = setting(
        30, "Passes over the training split, at most.", group=_OPTIMIZATION, minimum=1
    )
    batch_size: int = setting(
        1024, "Drawings in a step, over all devices.", group=_OPTIMIZATION, minimum=1
    )
    optimizer: str = setting("adam", "Optimizer of Keras.", group=_OPTIMIZATION, choices=OPTIMIZERS)
    learning_rate: float = setting(
        1e-3, "Initial or peak learning rate.", group=_OPTIMIZATION, above=0
    )
    weight_decay: float | None = setting(
        None,
        "Decoupled weight decay, of all but biases and normalization; by default Keras' own.",
        group=_OPTIMIZATION,
        minimum=0,
    )
    label_smoothing: float = setting(
        0.0, "Probability taken from the true class.", group=_OPTIMIZATION, minimum=0, maximum=0.999
    )
    teacher: Location | None = setting(
        None, "Run directory of a trained model to learn from, too.", group=_OPTIMIZATION
    )
    teacher_share: float = setting(
        0.5,
        "How much its probabilities count beside the labels.",
        group=_OPTIMIZATION,
        minimum=0,
        maximum=1,
    )
    ema: float = setting(
        0.0,
        "Momentum, after a warm-up, of averaged weights, used for evaluation; 0: none.",
        group=_OPTIMIZATION,
        minimum=0,
        below=1,
    )
    seed: int = setting(
        0,
        "Decides weights, order, dropout and augmentation.",
        group=_OPTIMIZATION,
        minimum=0,
        maximum=2**31 - 1,
    )
    init_from: Location | None = setting(
        None, "Checkpoint or run directory to take initial weights from.", group=_OPTIMIZATION
    )

    schedule: Literal["plateau", "constant", "cosine", "warmup_cosine", "one_cycle"] = setting(
        "plateau", "How the learning rate changes.", group=_SCHEDULE
    )
    warmup_epochs: float = setting(
        1.0, "Length of the warm-up of warmup_cosine and one_cycle.", group=_SCHEDULE, minimum=0
    )
    monitor: Literal["validation_loss", "validation_top1", "validation_top3"] = setting(
        "validation_loss",
        "Metric that plateau, early stopping and the best checkpoint go by.",
        group=_SCHEDULE,
    )
    plateau_factor: float = setting(
        0.1, "What a plateau multiplies the learning rate by.", group=_SCHEDULE, above=0, below=1
    )
    plateau_patience: int = setting(
        5, "Epochs without improvement that make a plateau.", group=_SCHEDULE, minimum=0
    )
    plateau_min_delta: float = setting(
        1e-4, "Least change that counts as an improvement.", group=_SCHEDULE, minimum=0
    )
    plateau_cooldown: int = setting(
        0, "Epochs after a reduction that do not count.", group=_SCHEDULE, minimum=0
    )
    min_learning_rate: float = setting(
        0.0, "A plateau lowers the learning rate no further.", group=_SCHEDULE, minimum=0
    )
    early_stopping_patience: int = setting(
        6, "Epochs without improvement before the run ends; -1: never.", group=_SCHEDULE, minimum=-1
    )
    early_stopping_min_delta: float = setting(
        0.0, "Least change that counts as an improvement.", group=_SCHEDULE, minimum=0
    )

    precision: Literal["auto", "float32", "mixed_float16", "mixed_bfloat16"] = setting(
        "auto",
        "Arithmetic of the layers; variables, loss and softmax are float32.",
        group=_DEVICES,
    )
    strategy: Literal["auto", "one_device", "mirrored", "multi_worker"] = setting(
        "auto", "Devices to train on; multi_worker is configured by TF_CONFIG.", group=_DEVICES
    )
    jit_compile: Literal["auto", "true", "false"] = setting(
        "auto", "Compile the step with XLA.", group=_DEVICES
    )
    deterministic: bool = setting(
        False, "Same seed, same bits; may be slower on a GPU.", group=_DEVICES
    )
    steps_per_loop: int | None = setting(
        None,
        "Steps per call from Python, at most; by default about a second's worth.",
        group=_DEVICES,
        minimum=1,
    )

    gpu_memory_growth: bool = setting(
        False, "Take a GPU's memory as it is needed, not at once.", group=_DEVICES
    )

    resume: Literal["auto", "never", "must"] = setting(
        "auto", "Resume from the latest checkpoint.", group=_CHECKPOINTS
    )
    checkpoint_every_secs: float = setting(
        300.0,
        "Seconds between checkpoints within an epoch; 0: none.",
        group=_CHECKPOINTS,
        minimum=0,
    )
    checkpoint_every_steps: int = setting(
        0, "Steps between checkpoints within an epoch; 0: none.", group=_CHECKPOINTS, minimum=0
    )
    keep: int = setting(
        2, "Checkpoints to keep, of the latest and of the best.", group=_CHECKPOINTS, minimum=1
    )

    log_every_secs: float = setting(
        10.0,
        "Seconds between points of TensorBoard's curves within an epoch; 0: at its end only.",
        group=_DIAGNOSTICS,
        minimum=0,
    )
    report: bool = setting(True, "Make the report at the end.", group=_DIAGNOSTICS)
    histograms: bool = setting(False, "Histograms of the weights each epoch.", group=_DIAGNOSTICS)
    profile_steps: tuple[int, ...] = setting(
        (), "First and last step to profile for TensorBoard.", group=_DIAGNOSTICS
    )
    check_numerics: bool = setting(
        False, "Stop at the first op that gives NaN or inf; slow.", group=_DIAGNOSTICS
    )

    def __post_init__(self) -> None:
        settings.normalize(self)

    @property
    def mode(self) -> Literal["min", "max"]:
        """Whether a lower or a higher value of the monitored metric is better."""
        return "min" if self.monitor.endswith("loss") else "max"

    def check(self) -> None:
        """Checks what can be told without looking at the disk or the devices.

        Raises:
          UsageError: A value is impossible, or two contradict each other.
        """
        settings.check(self)
        models.check_name(self.model)
        if self.train_split.partition("[")[0] != "train":
            raise UsageError(
                f"--train_split={self.train_split}: must be train, or a slice of it, such as "
                "train[:10%]; the other splits are to validate and to test"
            )
        self._check_schedule()
        self._check_profile_steps()
        if self.train_sides and self.early_stopping_patience >= 0:
            raise UsageError(
                "--train_sides: a run that stops early would end at a side that is not the "
                "drawings' own: add --early_stopping_patience=-1"
            )
        if self.init_from and self.resume == "must":
            raise UsageError("--init_from and --resume=must contradict each other: drop one")
        if self.cache == "device" and self.strategy in ("mirrored", "multi_worker"):
            raise UsageError(
                f"--cache=device holds the split on one device, --strategy={self.strategy} has "
                "several: use --cache=memory"
            )
        if self.check_numerics and self.jit_compile == "true":
            raise UsageError("--check_numerics cannot see into XLA: drop --jit_compile=true")

    def open_dataset(self, data_dir: Location | None = None) -> DatasetInfo:
        """Opens the data set, or the one that it has been moved to.

        Raises:
          UsageError, DataError: As `quickdraw_tfrecords.open_dataset`.
        """
        return open_dataset(
            data_dir or self.data_dir,
            read_ahead_mib=self.read_ahead_mib,
            local_cache_dir=self.local_cache_dir,
            local_cache_gib=self.local_cache_gib,
        )

    def with_decided(self, **choices: str) -> "Config":
        """The same settings with what was `auto` decided."""
        return dataclasses.replace(self, **choices)  # type: ignore[arg-type]  # str of a Literal

    def to_flagfile(self) -> str:
        """What repeats the run: all but where it goes, and how it was started.

        Without those, the flagfile of a run neither resumes that run nor replaces it: it needs
        a `--run_dir` of its own. Paths are absolute, so that it works from any folder.
        """
        portable = dataclasses.replace(
            self,
            data_dir=self.data_dir.absolute(),
            local_cache_dir=self.local_cache_dir and self.local_cache_dir.absolute(),
            init_from=self.init_from and self.init_from.absolute(),
            teacher=self.teacher and self.teacher.absolute(),
        )
        return settings.to_flagfile(portable, exclude=("run_dir", "resume"))

    def _check_schedule(self) -> None:
        if self.schedule == "plateau" and self.min_learning_rate > self.learning_rate:
            raise UsageError(
                f"--min_learning_rate={self.min_learning_rate}: must not be above "
                f"--learning_rate={self.learning_rate}"
            )
        has_warmup = self.schedule in ("warmup_cosine", "one_cycle")
        if has_warmup and self.warmup_epochs >= self.epochs:
            raise UsageError(
                f"--warmup_epochs={self.warmup_epochs}: must be below --epochs={self.epochs}"
            )

    def _check_profile_steps(self) -> None:
        steps = self.profile_steps
        if steps and (len(steps) != 2 or not 0 < steps[0] <= steps[1]):
            raise UsageError(
                f"--profile_steps={','.join(map(str, steps))}: must be first,last with "
                "0 < first <= last"
            )
