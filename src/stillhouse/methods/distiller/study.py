"""The search: one Optuna study over the whole conditional space, on a journal file that several processes share.

A trial is a pipeline: a short distillation, scored on the select split. Its teacher outputs come from the cache, which
all trials share. A killed trial is tried again; a finished one is never lost.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import torch
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from stillhouse.core.errors import Interrupted, UserError, first_line, require
from stillhouse.core.importance import Factor, balanced_design
from stillhouse.core.options import from_plain
from stillhouse.core.run import Run, open_part
from stillhouse.core.seeding import derive_seed
from stillhouse.encoders.batches import Items
from stillhouse.encoders.models import parameters
from stillhouse.encoders.outputs import Wanted
from stillhouse.encoders.training import Recipe, score_model
from stillhouse.methods.distiller.autodistiller import Trial
from stillhouse.methods.distiller.config import Config, Pipeline
from stillhouse.methods.distiller.student import distil_student
from stillhouse.methods.distiller.task import Task, distillation, open_task

FORMAT = "distiller study 1"
"""To be changed with anything that makes older trials mean something else."""
STUDY = "distiller"
INTERMEDIATES = ("none", "ce", "mse", "cos", "pkd", "mi 0.1", "mi 0.5", "mi 0.9")
NONE = "none"
AUGMENTATIONS: Mapping[str, tuple[str, ...]] = {
    NONE: (),
    "swap": ("swap",),
    "delete, swap": ("delete", "swap"),
    "insert, replace": ("insert", "replace"),
    "contextual": ("contextual",),
    "synonyms": ("synonyms",),
    "back-translation": ("back-translation",),
}
DUMMY = Factor("dummy", ("a", "b", "c"))
"""Changes nothing: what it seems to matter is the noise floor."""
WHOLE = "whole"
"""Marks trials whose every level is set, also where the objective makes one of them idle."""
CHECKS = 2
WATCHED_SELECT = 400
"""Texts of the select split that trials are scored on."""


def space(config: Config) -> tuple[Factor, ...]:
    """The factors of a search; synonyms and back-translation where what they need was given."""
    given = {"synonyms": config.thesaurus, "back-translation": config.translator and config.back_translator}
    sizes = (Factor("layers", tuple(map(str, config.try_layers))),) if config.try_layers else ()
    return (
        *sizes,
        Factor("intermediate", INTERMEDIATES),
        Factor("mapping", ("skip", "last", "emd")),
        Factor("prediction", ("ce", "mse")),
        Factor("augmentation", tuple(name for name in AUGMENTATIONS if given.get(name, True))),
        Factor("mixup", ("no", "yes")),
        DUMMY,
    )


def pipeline_of(levels: Mapping[str, str], config: Config) -> Pipeline:
    """The pipeline of these levels; what the space leaves out comes from the config."""
    objective, _, alpha = levels["intermediate"].partition(" ")
    return Pipeline(
        AUGMENTATIONS[levels["augmentation"]],
        levels["mixup"] == "yes",
        objective,
        float(alpha) if alpha else config.alpha,
        levels.get("mapping", "skip"),
        levels["prediction"],
        config.hard_weight,
    )


def open_study(file: Path, config: Config, worker: int = 0) -> optuna.Study:
    """The study of a journal file, made where there is none.

    Raises:
        UserError: the journal is damaged, or of another version or space.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    file.parent.mkdir(parents=True, exist_ok=True)
    seed = derive_seed("study", config.seed, worker) % 2**31
    sampler: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(seed=seed)
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if config.search == "tpe":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # of group, which the conditional mapping needs
            sampler = TPESampler(multivariate=True, group=True, constant_liar=True, n_startup_trials=12, seed=seed)
        pruner = optuna.pruners.MedianPruner(n_startup_trials=8)
    about = {"format": FORMAT, "space": [[f.name, *f.levels] for f in space(config)]}
    try:
        storage = JournalStorage(JournalFileBackend(str(file)))
        study = optuna.create_study(
            storage=storage, study_name=STUDY, direction="maximize", sampler=sampler, pruner=pruner, load_if_exists=True
        )
        if not study.user_attrs and not study.get_trials(deepcopy=False):
            study.set_user_attr("about", about)
        known = study.user_attrs.get("about")
    except Exception as error:  # optuna replays the journal, and lets through whatever a damaged one makes it run into
        raise UserError(
            f"the journal {file} is damaged ({first_line(error)})", "move it away to start the search anew"
        ) from error
    require(
        known == about,
        f"the journal {file} is of another version or space",
        "finish it with the version that began it, or move it away",
    )
    return study


def prepare(study: optuna.Study, config: Config) -> None:
    """Queue what is to be tried first, and what a killed process left unfinished."""
    trials = study.get_trials(deepcopy=False)
    for trial in trials:
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
            kept = {WHOLE: True} if WHOLE in trial.user_attrs else {}
            study.enqueue_trial(trial.params, user_attrs={"again": trial.number, **kept})
    if trials:
        return
    if config.search == "balanced":
        for levels in balanced_design(space(config), config.trials, config.seed):
            study.enqueue_trial(levels, user_attrs={WHOLE: True})
    elif config.search == "tpe":
        # the two that a report has to have: no pipeline at all, and the plain one
        for intermediate in (NONE, "mse"):
            first = {
                "intermediate": intermediate,
                "mapping": "skip",
                "prediction": "ce",
                "augmentation": NONE,
                "mixup": "no",
            }
            study.enqueue_trial(first)


def finished(study: optuna.Study) -> list[Trial]:
    """All trials that came to their end, in order."""
    return [_finished(t) for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))]


def _finished(trial: optuna.trial.FrozenTrial) -> Trial:
    try:
        told = {name: trial.user_attrs[name] for name in ("levels", "report", "seconds", "parameters")}
        return Trial(told["levels"], float(trial.value or 0.0), told["report"], told["seconds"], told["parameters"])
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise UserError(
            f"trial {trial.number} of the journal is damaged ({first_line(error)})",
            "move the journal away to start the search anew",
        ) from error


def best_of(trials: Sequence[Trial]) -> Trial:
    """The trial that scored best on the select split; of equals the smaller, then the faster student."""
    return max(trials, key=lambda t: (t.select, -t.parameters, -t.seconds))


def search(config: Config, run: Run) -> list[Trial]:
    """Carry out the trials that are missing, in `config.workers` processes, and return all finished ones.

    Raises:
        UserError: fewer than two trials finished.
    """
    study = open_study(run.folder / "study.journal", config)
    prepare(study, config)
    run.log(f"search: {len(finished(study))} of {config.trials} trials are done")
    if config.workers == 1:
        work(run.folder, 0, quiet=run.quiet)
    else:
        _in_processes(config, run)
    found = finished(study)
    require(len(found) > 1, "fewer than two trials finished", "give the search more --minutes or --trials")
    return found


def _in_processes(config: Config, run: Run) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_worker, args=(run.folder, n, config.workers)) for n in range(config.workers)]
    for worker in workers:
        worker.start()
    try:
        for worker in workers:
            worker.join()
    except KeyboardInterrupt:
        for worker in workers:  # they got the signal too, and stop after the update that they are in
            worker.join(timeout=30)
        raise _stopped(run) from None
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.terminate()
    codes = {worker.exitcode for worker in workers}
    if 130 in codes:
        raise _stopped(run)
    require(codes == {0}, "a worker of the search ended with an error", "see parts/worker-*/log.txt, and resume")


def _stopped(run: Run) -> Interrupted:
    return Interrupted(f"stopped in the search; go on with: stillhouse resume {run.folder}")


def _worker(folder: Path, number: int, workers: int) -> None:
    """A process of its own."""
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    try:
        work(folder, number, quiet=True)
    except Interrupted:
        raise SystemExit(130) from None
    except UserError as error:
        with (folder / "parts" / f"worker-{number}" / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{error}\n")
        raise SystemExit(2) from None


def work(folder: Path, number: int, *, quiet: bool) -> None:
    """Run trials of the study in a run folder until there are enough, or the time is up."""
    with open_part(folder, f"worker-{number}", quiet=quiet, checkpoint_seconds=3600) as part:
        config = from_plain(part.options, Config, folder)
        study = open_study(folder / "study.journal", config, number)
        if not _goes_on(study, config):
            return
        task = open_task(config, part)
        while _goes_on(study, config) and not _orphaned():
            trial = study.ask()
            try:
                _run_trial(trial, task, part)
            except optuna.TrialPruned:
                study.tell(trial, state=TrialState.PRUNED)


def _orphaned() -> bool:
    """Whether this is a worker whose search is gone. A search of one process does not mind the end of its shell."""
    parent = multiprocessing.parent_process()
    return parent is not None and not parent.is_alive()


def _goes_on(study: optuna.Study, config: Config) -> bool:
    trials = study.get_trials(deepcopy=False)
    counted = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    spent = sum(t.user_attrs.get("seconds", 0.0) for t in trials) / config.workers
    in_time = not config.minutes or spent < 60 * config.minutes
    return in_time and sum(t.state in counted for t in trials) < config.trials


def suggested(trial: optuna.Trial, factors: tuple[Factor, ...]) -> dict[str, str]:
    """A level of every factor; the mapping is no choice where nothing is mapped."""
    levels: dict[str, str] = {}
    for factor in factors:
        if factor.name == "mapping" and levels["intermediate"] == NONE and WHOLE not in trial.user_attrs:
            levels["mapping"] = "skip"
            continue
        levels[factor.name] = str(trial.suggest_categorical(factor.name, factor.levels))
    return levels


def _run_trial(trial: optuna.Trial, task: Task, part: Run) -> None:
    config, started = task.config, time.monotonic()
    levels = suggested(trial, space(config))
    pipeline = pipeline_of(levels, config)
    trial.set_user_attr("levels", levels)
    part.log(f"trial {trial.number}: {pipeline.words()}")
    recipe = Recipe(config.trial_updates, config.batch, config.rate, checks=min(CHECKS, config.trial_updates))
    task = with_layers(task, levels)
    work_of = replace(distillation(task, pipeline, recipe, everything(task)), select=_few(task))
    student, stage = task.fresh_student(config.seed), f"trial {trial.number}"
    best, _ = distil_student(student, work_of, part, stage, config.seed, seen=_reported(trial))
    shutil.rmtree(part.checkpoint_folder / stage, ignore_errors=True)
    trial.set_user_attr("parameters", parameters(student))
    trial.set_user_attr("report", score_model(student, task.report, task.data.metric))
    trial.set_user_attr("seconds", time.monotonic() - started)
    trial.study.tell(trial, float(best.score))


def _reported(trial: optuna.Trial) -> Callable[[int, float], None]:
    """Tells the study of every look at the select split; ends a trial that is behind the others."""

    def seen(update: int, score: float) -> None:
        trial.report(score, update)
        if trial.should_prune():
            raise optuna.TrialPruned

    return seen


def _few(task: Task) -> Items:
    """The part of the select split that trials are scored on."""
    return task.select.take(np.linspace(0, len(task.select) - 1, min(len(task.select), WATCHED_SELECT)).astype(int))


def with_layers(task: Task, levels: Mapping[str, str]) -> Task:
    """The task with a student as deep as the levels say."""
    return replace(task, shape=replace(task.shape, layers=int(levels.get("layers", task.shape.layers))))


def everything(task: Task) -> Wanted:
    """All states of the teacher: any trial finds what it reads in one cache."""
    return Wanted(first_tokens=True, layers=tuple(range(task.teacher_shape.layers + 1)))
