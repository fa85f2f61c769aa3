"""A sweep: trials until there are enough, shared by all processes that use its directory.

    <sweep_dir>/study.db          Optuna's study, in SQLite
    <sweep_dir>/trial-0007/       a trial: an ordinary run directory, with its output in log.txt
    <sweep_dir>/best.flags        flags of the best trial so far
    <sweep_dir>/index.html        the trials, and which flags mattered

A process that dies leaves its trial unfinished. The next one that looks for work takes it over, and
trains on from its last checkpoint.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from quickdraw_tfrecords.base import locks
from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.files import atomic_write
from trainer.config import Config
from trainer.sweeping import space as spaces
from trainer.sweeping import trials
from trainer.sweeping.trials import Pruned, Signals, TrialError

SAMPLERS: Mapping[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "qmc": lambda seed: optuna.samplers.QMCSampler(seed=seed),
}
PRUNERS: Mapping[str, Callable[[], optuna.pruners.BasePruner]] = {
    "median": optuna.pruners.MedianPruner,
    "hyperband": optuna.pruners.HyperbandPruner,
    "none": optuna.pruners.NopPruner,
}

BEST_NAME = "best.flags"

_NAME = "sweep"
_STUDY = "study.db"
_CLAIMS = ".claims"
_BUSY_SECS = 60  # how long a process waits for the database, which another writes to
_HOPELESS = 3  # failures, while nothing has succeeded yet

_ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
WORDS = {TrialState.COMPLETE: "done", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


class Sweep:
    """A sweep, begun or opened again.

    Args:
      directory: Its folder.
      base: The settings of every trial, but for those in the space; its run_dir does not count.
      space: What the others are drawn from.
      sampler: One of `SAMPLERS`.
      pruner: One of `PRUNERS`.

    Raises:
      UsageError: The folder holds a sweep with another space or other settings.
    """

    def __init__(
        self,
        directory: Path,
        base: Config,
        space: Mapping[str, BaseDistribution],
        *,
        sampler: str = "tpe",
        pruner: str = "median",
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self._base, self._space = directory, base, dict(space)
        with self._alone():
            self.study = optuna.create_study(
                storage=optuna.storages.RDBStorage(
                    f"sqlite:///{(directory / _STUDY).absolute()}",
                    engine_kwargs={"connect_args": {"timeout": _BUSY_SECS}},
                ),
                study_name=_NAME,
                load_if_exists=True,
                direction="minimize" if base.mode == "min" else "maximize",
                pruner=PRUNERS[pruner](),
            )
            self._require_same()
        # Another seed each time, or what is resumed would draw the same again.
        self.study.sampler = SAMPLERS[sampler](base.seed + len(self.study.trials))

    @property
    def metric(self) -> str:
        """Name of what the trials are compared by."""
        return self._base.monitor

    def run(self, count: int, say: Callable[[str], None]) -> None:
        """Runs trials until the sweep has `count` of them; other processes may run some.

        Args:
          count: How many trials, with those that there are.
          say: Called with a line for each trial that has ended.

        Raises:
          Interrupted: A signal came. The trial under way is saved, and goes on the next time.
          DataError: The first trials all failed, or all that there are.
        """
        with Signals() as signals:
            while taken := self._take(count):
                trial, claim = taken
                with claim:
                    state = self._run_trial(trial, signals)
                say(self.describe(self.study.trials[trial.number]))
                if state is TrialState.COMPLETE:
                    self._write_best()
                self._require_hope(_HOPELESS)
        self._require_hope(1)

    def config(self, trial: FrozenTrial) -> Config:
        """The settings of a trial.

        Raises:
          UsageError: They contradict each other.
        """
        run_dir = self.directory / f"trial-{trial.number:04}"
        return dataclasses.replace(spaces.apply(self._base, trial.params), run_dir=run_dir)

    def ended(self) -> list[FrozenTrial]:
        """The trials that have ended, however they did."""
        return self.study.get_trials(states=_ENDED)

    def best(self) -> FrozenTrial | None:
        """The best trial; None if none has been completed."""
        with contextlib.suppress(ValueError):
            return self.study.best_trial
        return None

    def describe(self, trial: FrozenTrial) -> str:
        """A trial in a line."""
        flags = " ".join(f"--{name}={shown_value(value)}" for name, value in trial.params.items())
        value = "" if trial.value is None else f"  {self.metric} {trial.value:.4f}"
        reason = trial.user_attrs.get("reason", "")
        is_best = (best := self.best()) is not None and best.number == trial.number
        parts = (f"trial {trial.number:3}  {WORDS[trial.state]:<6}{value}", flags, reason)
        return "  ".join(filter(None, (*parts, "best" if is_best else "")))

    def _run_trial(self, trial: optuna.Trial, signals: Signals) -> TrialState:
        frozen = self.study.trials[trial.number]

        def is_hopeless(epoch: int, value: float) -> bool:
            if epoch not in frozen.intermediate_values:  # by the process that began it
                trial.report(value, epoch)
            return trial.should_prune()

        try:
            config = self.config(frozen)
            value, epochs = trials.train(config, signals, is_hopeless)
        except Pruned:
            self.study.tell(trial, state=TrialState.PRUNED)
            return TrialState.PRUNED
        except (TrialError, UsageError) as error:
            trial.set_user_attr("reason", str(error))
            self.study.tell(trial, state=TrialState.FAIL)
            return TrialState.FAIL
        trial.set_user_attr("epochs", epochs)
        self.study.tell(trial, value)
        return TrialState.COMPLETE

    def _take(self, count: int) -> tuple[optuna.Trial, contextlib.ExitStack] | None:
        """A trial to work on, and the claim to it: one that was left unfinished, or a new one."""
        with self._alone():
            for frozen in self.study.get_trials(states=[TrialState.RUNNING]):
                run_dir = self.directory / f"trial-{frozen.number:04}"
                if not (locks.is_held(self._claim(frozen.number)) or locks.is_held(run_dir)):
                    return optuna.Trial(self.study, frozen._trial_id), self._hold(frozen.number)
            if len(self.study.get_trials(states=[TrialState.RUNNING, *_ENDED])) >= count:
                return None
            trial = self.study.ask(self._space)
            return trial, self._hold(trial.number)

    def _hold(self, number: int) -> contextlib.ExitStack:
        held = contextlib.ExitStack()
        claim = self._claim(number)
        claim.mkdir(parents=True, exist_ok=True)
        held.enter_context(locks.locked(claim, work="trial"))
        return held

    def _claim(self, number: int) -> Path:
        return self.directory / _CLAIMS / f"{number:04}"

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps the other processes of a sweep from choosing a trial at the same time."""
        deadline = time.monotonic() + _BUSY_SECS
        with contextlib.ExitStack() as held:
            while True:
                try:
                    held.enter_context(locks.locked(self.directory, work="sweep"))
                    break
                except UsageError:
                    if time.monotonic() > deadline:
                        raise
            yield

    def _require_same(self) -> None:
        """Refuses a sweep that was begun otherwise: its trials could not be compared."""
        flags = self._base.to_flagfile().splitlines()
        wanted = {"flags": flags, "space": {name: str(one) for name, one in self._space.items()}}
        for key, value in wanted.items():
            known = self.study.user_attrs.get(key)
            if known is None:
                self.study.set_user_attr(key, value)
            elif known != value:
                raise UsageError(
                    f"--sweep_dir={self.directory}: holds a sweep with other {key} "
                    f"({_difference(known, value)}); put that back, or choose another --sweep_dir"
                )

    def _require_hope(self, least: int) -> None:
        """Refuses to go on once as many trials, and all that there are, have failed."""
        ended = self.ended()
        failed = [trial for trial in ended if trial.state is TrialState.FAIL]
        if len(failed) == len(ended) >= least:
            reason = failed[-1].user_attrs["reason"]
            raise DataError(f"{self.directory}: all {len(failed)} trials have failed: {reason}")

    def _write_best(self) -> None:
        if best := self.best():
            config = self.config(best)
            header = f"# Trial {best.number} of a sweep: {config.monitor} {best.value}\n"
            with atomic_write(self.directory / BEST_NAME) as file:
                file.write((header + config.to_flagfile()).encode())


def shown_value(value: Any) -> str:
    """A value of a flag for people, who need no more than four digits of it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _difference(known: Any, wanted: Any) -> str:
    """What a first difference of two lists, or two mappings, is."""
    if isinstance(known, dict):
        known, wanted = (
            [f"{name}: {value}" for name, value in sorted(entries.items())]
            for entries in (known, wanted)
        )
    was, now = (sorted(set(one) - set(other)) for one, other in ((known, wanted), (wanted, known)))
    return f"was {was[0] if was else 'without it'}, is {now[0] if now else 'without it'}"
