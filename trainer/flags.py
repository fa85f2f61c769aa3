"""The trainer's flags, and the frozen `Config` they become. Nothing else reads FLAGS."""

import dataclasses
import math
from pathlib import Path

from absl import flags

from quickdraw_tfrecords.base.errors import UsageError

FLAGS = flags.FLAGS

# All of Keras' but those that wrap others, ScheduleFreeAdamW, which has weights of its own to
# evaluate with, and Adafactor, which divides 0 by 0 where all gradients of a row are zero.
# A list, because to ask Keras takes ten seconds.
OPTIMIZERS = (
    "adadelta", "adagrad", "adam", "adamax", "adamw", "ftrl", "lamb", "lion",
    "muon", "nadam", "rmsprop", "sgd",
)  # fmt: skip

flags.DEFINE_string("data_dir", None, "Data set, as given to the converter.")
flags.DEFINE_string("run_dir", None, "Where checkpoints, curves and results go.")
flags.DEFINE_string("model", "compact_cnn", "Model, by name; see trainer/models.")
flags.DEFINE_bool("print_model", False, "Print the model's layers and parameters and exit.")
flags.DEFINE_float("dropout", None, "Dropout rate; by default the model's own.", 0, 0.99)

flags.DEFINE_integer("epochs", 30, "Passes over the training split, at most.", 1)
flags.DEFINE_integer("batch_size", 1024, "Drawings in a step, over all devices.", 1)
flags.DEFINE_enum("optimizer", "adam", OPTIMIZERS, "Optimizer of Keras.")
flags.DEFINE_float("learning_rate", 1e-3, "Initial or peak learning rate.")
flags.DEFINE_float("weight_decay", None, "Decoupled weight decay; by default Keras' own.", 0)
flags.DEFINE_float("label_smoothing", 0.0, "Probability taken from the true class.", 0, 0.999)
flags.DEFINE_float("ema", 0.0, "Momentum of averaged weights, used for evaluation; 0: none.", 0, 1)
flags.DEFINE_enum(
    "schedule",
    "plateau",
    ["plateau", "constant", "cosine", "warmup_cosine"],
    "How the learning rate changes.",
)
flags.DEFINE_float("warmup_epochs", 1.0, "Length of the warm-up of warmup_cosine.", 0)

flags.DEFINE_enum(
    "monitor",
    "validation_loss",
    ["validation_loss", "validation_top1", "validation_top3"],
    "Metric that plateau, early stopping and the best checkpoint go by.",
)
flags.DEFINE_float("plateau_factor", 0.1, "What the learning rate is multiplied by.", 0, 1)
flags.DEFINE_integer("plateau_patience", 5, "Epochs without improvement before that.", 0)
flags.DEFINE_float("plateau_min_delta", 1e-4, "Least change that is an improvement.", 0)
flags.DEFINE_integer("plateau_cooldown", 0, "Epochs after a reduction that do not count.", 0)
flags.DEFINE_float("min_learning_rate", 0.0, "Plateau goes no lower.", 0)
flags.DEFINE_integer("early_stopping_patience", 6, "Epochs without improvement; -1: never.", -1)
flags.DEFINE_float("early_stopping_min_delta", 0.0, "Least change that is an improvement.", 0)

flags.DEFINE_list("augment", [], "Any of shift, rotate, zoom, flip, stroke, cutout.")
flags.DEFINE_enum(
    "cache",
    "auto",
    ["auto", "memory", "device", "none"],
    "Where the training split is held: in memory, on the device, or streamed.",
)
flags.DEFINE_integer("seed", 0, "Decides weights, order, dropout and augmentation.", 0, 2**31 - 1)
flags.DEFINE_bool("deterministic", False, "Same seed, same bits; may be slower on a GPU.")
flags.DEFINE_enum(
    "precision",
    "auto",
    ["auto", "float32", "mixed_float16", "mixed_bfloat16"],
    "Arithmetic of the layers; variables, loss and softmax are float32.",
)
flags.DEFINE_enum("jit_compile", "auto", ["auto", "true", "false"], "Compile the step with XLA.")
flags.DEFINE_enum(
    "strategy",
    "auto",
    ["auto", "one_device", "mirrored", "multi_worker"],
    "Devices to train on; multi_worker is configured by TF_CONFIG.",
)
flags.DEFINE_integer("steps_per_loop", 25, "Steps per call from Python, at most.", 1)

flags.DEFINE_enum("resume", "auto", ["auto", "never", "must"], "Go on from the latest checkpoint.")
flags.DEFINE_string("init_from", None, "Checkpoint or run directory to take initial weights from.")
flags.DEFINE_integer("checkpoint_every_steps", 0, "Also within an epoch; 0: at its end only.", 0)
flags.DEFINE_integer("keep", 2, "Checkpoints to keep, of the latest and of the best.", 1)
flags.DEFINE_list("profile_steps", [], "First and last step to profile for TensorBoard.")
flags.DEFINE_bool("histograms", False, "Histograms of the weights each epoch.")
flags.DEFINE_bool("report", True, "Make the report at the end.")
flags.DEFINE_bool("check_numerics", False, "Stop at the first op that gives NaN or inf; slow.")


@dataclasses.dataclass(frozen=True)
class Config:
    """The flags of the same names, checked; paths are paths."""

    data_dir: Path | None
    run_dir: Path | None
    model: str
    print_model: bool
    dropout: float | None
    epochs: int
    batch_size: int
    optimizer: str
    learning_rate: float
    weight_decay: float | None
    label_smoothing: float
    ema: float
    schedule: str
    warmup_epochs: float
    monitor: str
    plateau_factor: float
    plateau_patience: int
    plateau_min_delta: float
    plateau_cooldown: int
    min_learning_rate: float
    early_stopping_patience: int
    early_stopping_min_delta: float
    augment: tuple[str, ...]
    cache: str
    seed: int
    deterministic: bool
    precision: str
    jit_compile: str
    strategy: str
    steps_per_loop: int
    resume: str
    init_from: Path | None
    checkpoint_every_steps: int
    keep: int
    profile_steps: tuple[int, ...]
    histograms: bool
    report: bool
    check_numerics: bool

    @property
    def mode(self) -> str:
        """Whether a lower or a higher value of the monitored metric is better."""
        return "min" if self.monitor.endswith("loss") else "max"


def config_from_flags() -> Config:
    """The parsed flags as a `Config`.

    Raises:
      UsageError: A value is impossible, or two contradict each other.
    """
    values = {field.name: FLAGS[field.name].value for field in dataclasses.fields(Config)}
    for name in ("data_dir", "run_dir", "init_from"):
        values[name] = Path(values[name]) if values[name] else None
    values["augment"] = tuple(values["augment"])
    try:
        values["profile_steps"] = tuple(map(int, values["profile_steps"]))
    except ValueError:
        text = ",".join(values["profile_steps"])
        raise UsageError(f"--profile_steps={text}: must be two numbers, first,last") from None
    config = Config(**values)
    _check(config)
    return config


def flags_into_string() -> str:
    """Every flag of the trainer as resolved, in the form of a flagfile."""
    own = FLAGS.flags_by_module_dict()[__name__]
    serialized = (flag.serialize() for flag in own if flag.value not in (None, []))
    return "\n".join(line for line in serialized if line) + "\n"


def _check(config: Config) -> None:
    from trainer import models

    models.get(config.model)
    for name in ("data_dir", "run_dir"):
        if getattr(config, name) is None and not config.print_model:
            raise UsageError(f"--{name} is required")
    _check_numbers(config)
    _check_checkpoints(config)
    if config.cache == "device" and config.strategy in ("mirrored", "multi_worker"):
        raise UsageError(
            f"--cache=device holds the split on one device, --strategy={config.strategy} has "
            "several: use --cache=memory"
        )
    if config.check_numerics and config.jit_compile == "true":
        raise UsageError("--check_numerics cannot see into XLA: drop --jit_compile=true")
    if config.augment:
        from trainer.training import augmentation  # imports TensorFlow, so after the other checks

        augmentation.check(config.augment)


def _check_numbers(config: Config) -> None:
    for name, value in vars(config).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"--{name}={value}: must be a finite number")
    for name in ("learning_rate", "plateau_factor"):
        if getattr(config, name) <= 0:
            raise UsageError(f"--{name}={getattr(config, name)}: must be above 0")
    for name in ("plateau_factor", "ema"):
        if getattr(config, name) >= 1:
            raise UsageError(f"--{name}={getattr(config, name)}: must be below 1")
    if config.schedule == "plateau" and config.min_learning_rate > config.learning_rate:
        raise UsageError(
            f"--min_learning_rate={config.min_learning_rate}: must not be above "
            f"--learning_rate={config.learning_rate}"
        )
    if config.schedule == "warmup_cosine" and config.warmup_epochs >= config.epochs:
        raise UsageError(
            f"--warmup_epochs={config.warmup_epochs}: must be below --epochs={config.epochs}"
        )
    steps = config.profile_steps
    if steps and (len(steps) != 2 or not 0 < steps[0] <= steps[1]):
        raise UsageError(
            f"--profile_steps={','.join(map(str, steps))}: must be first,last with "
            "0 < first <= last"
        )


def _check_checkpoints(config: Config) -> None:
    from trainer.run_directory import checkpoints

    if config.init_from and config.resume == "must":
        raise UsageError("--init_from and --resume=must contradict each other: drop one")
    if config.print_model:
        return
    has_checkpoint = checkpoints.latest(config.run_dir, keep=1).newest() is not None
    if config.resume == "must" and not has_checkpoint:
        raise UsageError(f"--resume=must, but {config.run_dir} has no checkpoint")
    if config.init_from and (config.resume == "never" or not has_checkpoint):
        checkpoints.find(config.init_from)
