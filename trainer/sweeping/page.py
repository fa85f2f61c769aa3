"""The page of a sweep: its trials, and which flags mattered."""

import itertools
from pathlib import Path
from typing import Any

import optuna
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState

from quickdraw_tfrecords.base.files import atomic_write
from trainer.report import figures, page
from trainer.sweeping.sweep import WORDS, Sweep, shown_value

_METHOD = "functional ANOVA, Hutter et al., 2014"
_LEAST_TRIALS = 4  # that tell something of importance


def make(sweep: Sweep) -> Path:
    """Makes <sweep_dir>/index.html, which opens in any browser, with no network."""
    trials = sweep.ended()
    completed = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    flags = sorted({name for trial in trials for name in trial.params})
    shown: dict[str, Any] = {
        "theme": figures.theme(),
        "name": sweep.directory.resolve().name,
        "metric": sweep.metric,
        "method": _METHOD,
        "trials": trials,
        "words": WORDS,
        "best": sweep.best(),
        "flags": flags,
        "shown": shown_value,
        "progress": _progress(sweep, completed) if completed else None,
        "importance": _importance(sweep.study, completed),
        "by_flag": {name: _by_flag(sweep, name, completed) for name in flags if completed},
    }
    path = sweep.directory / "index.html"
    with atomic_write(path) as file:
        file.write(page.render("sweep.html", shown).encode())
    return path


def _progress(sweep: Sweep, completed: list[FrozenTrial]) -> str:
    values = {trial.number: _value(trial) for trial in completed}
    choose = min if sweep.study.direction is optuna.study.StudyDirection.MINIMIZE else max
    best = list(itertools.accumulate(values.values(), choose))
    return figures.to_svg(figures.sweep_progress(values, best, name=sweep.metric))


def _importance(study: optuna.Study, completed: list[FrozenTrial]) -> str | None:
    if len(completed) < _LEAST_TRIALS or len({trial.value for trial in completed}) < 2:
        return None
    evaluator = FanovaImportanceEvaluator(seed=0)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return figures.to_svg(figures.importances(shares))


def _by_flag(sweep: Sweep, name: str, completed: list[FrozenTrial]) -> str:
    points = [(trial.params[name], _value(trial)) for trial in completed if name in trial.params]
    is_log = any(getattr(trial.distributions[name], "log", False) for trial in completed)
    return figures.to_svg(figures.values_of_flag(name, points, name=sweep.metric, is_log=is_log))


def _value(trial: FrozenTrial) -> float:
    if trial.value is None:
        raise ValueError(f"trial {trial.number} has no value")
    return trial.value
