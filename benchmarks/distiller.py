"""Evidence for Distiller: what matters in a pipeline, whether mutual information wins, when augmentation helps, AutoDistiller.

    python benchmarks/distiller.py                        # the whole protocol
    python benchmarks/distiller.py --parts bound studies  # parts of it
    python benchmarks/distiller.py --parts write          # the result file from what is there

Pieces are kept in scratch/, a second start goes on where the first stopped; a search that was killed goes on after its
last finished trial. Needs $STILLHOUSE_DATA for the public sets. `--parts table` writes the trials into the table that
`stillhouse recommend` learns from.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cattrs
import numpy as np
import torch

import stillhouse
from distiller_bound import ASKED, estimated_information
from distiller_claims import all_claims
from stillhouse.core.evidence import Bench, ClaimedArm, print_estimate
from stillhouse.core.files import read_json, write_json
from stillhouse.core.result import Arm, Cost
from stillhouse.core.run import Run
from stillhouse.core.seeding import seed_everything
from stillhouse.encoders.batches import assemble
from stillhouse.encoders.models import forward
from stillhouse.encoders.training import Recipe
from stillhouse.methods.distiller.autodistiller import SHIPPED
from stillhouse.methods.distiller.config import Config, Pipeline
from stillhouse.methods.distiller.single import train_pipeline
from stillhouse.methods.distiller.student import distil_student
from stillhouse.methods.distiller.task import distillation, open_task

HERE = Path(__file__).resolve().parent
RUNS = HERE.parent / "scratch" / "runs" / "distiller"
PARTS = ("bound", "studies", "augmentation", "cache", "student", "write", "table")

STUDY: dict[str, Any] = {
    "teacher_updates": 150,
    "examples": 600,
    "layers": 2,
    "embedding": 64,
    "batch": 32,
    "rate": 1e-3,
    "trial_updates": 60,
}
"""The pre-trained teacher fine-tuned on a few hundred texts; a student of two of its layers, 15 seconds of a core a trial."""
STUDIES: dict[str, dict[str, Any]] = {
    "trec": {"max_tokens": 32},
    "sst2": {"max_tokens": 48},
    "banking77": {"max_tokens": 48, "examples": 1500, "teacher_updates": 250},
    "sick": {"max_tokens": 48},
    "cola": {"max_tokens": 32},
    "docstrings": {"max_tokens": 48},
    "mrpc": {"max_tokens": 64},
    "rte": {"max_tokens": 64},
}
TRIALS = 24
MINILM = {"trec": {"max_tokens": 32, "teacher_updates": 436}, "sst2": {"max_tokens": 48, "examples": 5000, "teacher_updates": 400}}  # fmt: skip
"""Data -> options of the runs with the pre-trained teacher."""
STUDENTS: dict[str, dict[str, Any]] = {
    "2 layers": {"layers": 2},
    "3 layers": {"layers": 3},
}
SIZES = (250, 1000)
AUGMENTED = ("delete", "swap")


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line."""

    parts: tuple[str, ...]
    sets: tuple[str, ...]
    seeds: int


class Protocol:
    """The pieces that were asked for, and those that are there already."""

    def __init__(self, options: Options) -> None:
        self.bench, self.options = Bench("distiller", HERE), options

    def piece(self, part: str, key: Mapping[str, Any], compute: Any) -> Any | None:
        """A piece's value; None where it was not asked for and is not there."""
        whole = {"part": part, **key}
        asked = part in self.options.parts and key.get("data", self.options.sets[0]) in self.options.sets
        if asked:
            print(f"{time.strftime('%H:%M:%S')} {part} {dict(key)}", flush=True)
        return self.bench.piece(whole, compute) if asked else self.bench.kept(whole)

    def bound(self) -> dict[tuple[float, float], list[dict[str, float]]]:
        """Estimates of a known mutual information by the bound at several alphas."""
        found: dict[tuple[float, float], list[dict[str, float]]] = {}
        for nats, alpha in ASKED:
            for seed in range(self.options.seeds):
                key = {"nats": nats, "alpha": alpha, "seed": seed}
                value = self.piece("bound", key, lambda k=key: estimated_information(**k))
                if value is not None:
                    found.setdefault((nats, alpha), []).append(value)
        return found

    def studies(self) -> list[dict[str, Any]]:
        """Balanced searches, one a data set."""
        found = []
        for data, options in STUDIES.items():
            key = {"data": data, "trials": TRIALS, "options": repr({**STUDY, **options})}
            value = self.piece("studies", key, lambda d=data, o=options: whole_study(d, o))
            if value is not None:
                found.append(value)
        return found

    def augmentation(self) -> list[dict[str, Any]]:
        """The same student with and without augmentation, at several sizes of the training set."""
        found = []
        for data in ("trec", "docstrings"):
            for width in (64, 128):
                for examples in SIZES if data == "trec" else SIZES[:2]:
                    for seed in range(self.options.seeds):
                        key = {"data": data, "width": width, "examples": examples, "seed": seed}
                        value = self.piece("augmentation", key, lambda k=key: with_and_without(**k))
                        if value is not None:
                            found.append({**key, **value})
        return found

    def cache(self) -> dict[str, float] | None:
        """Seconds of the same trial with the teacher run at every update, and with its outputs from the cache."""
        found: dict[str, float] | None = self.piece("cache", {"data": "trec"}, cached_against_not)
        return found

    def students(self) -> list[tuple[str, str, int, list[dict[str, Any]]]]:
        """Whole runs with the pre-trained teacher."""
        found = []
        for data, options in MINILM.items():
            for name, shape in STUDENTS.items():
                for seed in range(self.options.seeds):
                    key = {"data": data, "student": name, "seed": seed}
                    chosen = {**options, **shape, "seed": seed}
                    value = self.piece("student", key, lambda d=data, n=name, o=chosen: whole_run(d, n, o))
                    if value is not None:
                        found.append((data, name, seed, value))
        return found


def whole_study(data: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """A search of TRIALS balanced trials, begun or gone on with; what AutoDistiller keeps of it."""
    chosen = {**STUDY, **options}
    run = begun_or_resumed(f"study-{data}", data=data, trials=TRIALS, search="balanced", compare="none", updates=chosen["trial_updates"], **chosen)  # fmt: skip
    study = read_json(run.folder / "arms" / "study.json")
    return {**study, "importances": read_json(run.folder / "arms" / "importances.json")["rows"]}


def whole_run(data: str, name: str, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The arms of a run of one pipeline with its controls."""
    run = begun_or_resumed(f"{data}-{name.replace(' ', '-')}-{options['seed']}", data=data, **options)
    return [cattrs.unstructure(arm) for arm in run.result.arms]


def begun_or_resumed(name: str, **options: Any) -> Run:
    """A finished run in the scratch folder of that name."""
    folder = RUNS / name
    if (folder / "config.json").exists():
        return stillhouse.resume(folder)
    return stillhouse.run("distiller", out=folder, **options)


def study_config(data: str, **options: Any) -> Config:
    """The setting of the studies, without a search."""
    chosen = {**STUDY, **STUDIES[data], **options}
    return Config(data=data, **chosen)


def with_and_without(data: str, width: int, examples: int, seed: int) -> dict[str, float]:
    """Report scores of a random student of this width, distilled with and without augmented texts, at equal updates."""
    config = study_config(data, examples=examples, width=width, embedding=0, init="random", seed=seed)
    with Run.create("distiller", {"seed": seed}, out=RUNS / f"aug-{data}-{width}-{examples}-{seed}-{time.time_ns()}", quiet=True) as run:  # fmt: skip
        task = open_task(config, run)
        recipe = Recipe(200, config.batch, config.rate, checks=4)
        plain = Pipeline(prediction="ce", hard_weight=0.2)
        return {
            name: train_pipeline(task, replace(plain, augmentation=edits), recipe, run, name, seed).report
            for name, edits in (("without", ()), ("with", AUGMENTED))
        }


def cached_against_not() -> dict[str, float]:
    """One trial's seconds with the teacher's outputs computed at every update, in the cache already, and filling it."""
    config = study_config("trec", examples=1000)
    with Run.create("distiller", {"seed": 0}, out=RUNS / f"cache-{time.time_ns()}", quiet=True) as run:
        task = open_task(config, run)
        pipeline = Pipeline(intermediate="mse", hard_weight=0.2)
        recipe = Recipe(config.trial_updates, config.batch, config.rate, checks=2)
        started = time.process_time()
        work = distillation(task, pipeline, recipe)
        filling = time.process_time() - started

        @dataclass
        class Live:
            """Runs the teacher whenever it is asked."""

            def batch(self, index: np.ndarray) -> Any:
                told = work.told.batch(index)
                batch = assemble(work.items.mapped(task.vocabulary.teacher_ids), index, task.teacher.model.config.pad_token_id)  # fmt: skip
                with torch.no_grad():
                    out = forward(task.teacher.model, batch)
                return replace(told, logits=out.logits, hidden={i: out.hidden[i] for i in told.hidden})

        taken = {}
        for name, one in (("cached", work), ("live", replace(work, told=Live()))):
            seed_everything(0, name)
            started = time.process_time()
            distil_student(task.fresh_student(0), one, run, name, 0)
            taken[name] = time.process_time() - started
    return {**taken, "filling": filling}


def arms_of_study(study: Mapping[str, Any]) -> list[ClaimedArm]:
    """Every trial as an arm, and the teacher."""
    title = f"study {study['data']}"
    arms = [ClaimedArm(title, Arm("teacher", "teacher", {"select_score": study["teacher"]}))]
    for trial in study["trials"]:
        levels = trial["levels"]
        name = ", ".join(f"{k} {v}" for k, v in levels.items() if k != "dummy")
        cost = Cost(parameters=trial["parameters"], training_seconds=trial["seconds"])
        arms.append(ClaimedArm(title, Arm(name, "student", {"score": trial["report"], "select_score": trial["select"]}, cost)))  # fmt: skip
    return arms


def write_table(studies: list[dict[str, Any]]) -> None:
    """The trials as `stillhouse recommend` reads them."""
    keys = ("data", "family", "features", "teacher", "trials")
    write_json(SHIPPED, {"studies": [{key: study[key] for key in keys} for study in studies]})
    print(f"{SHIPPED}: {len(studies)} studies, {sum(len(s['trials']) for s in studies)} trials")


def main() -> None:
    """Parse the options, carry out the parts, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--sets", nargs="*", choices=list(STUDIES), default=list(STUDIES))
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    options = Options(tuple(given.parts), tuple(given.sets), given.seeds)
    print_estimate("distiller", seconds_of(options), len(options.parts))
    protocol = Protocol(options)
    bound, studies = protocol.bound(), protocol.studies()
    augmentation, cache, students = protocol.augmentation(), protocol.cache(), protocol.students()
    if "table" in options.parts and studies:
        write_table(studies)
    if "write" in options.parts:
        for study in studies:
            protocol.bench.arms += arms_of_study(study)
        for data, name, seed, arms in students:
            made = (cattrs.structure(raw, Arm) for raw in arms)
            protocol.bench.arms += [ClaimedArm(f"{data}, {name}", replace(arm, seed=seed)) for arm in made]
        claims = all_claims(bound, studies, augmentation, cache, students)
        print(protocol.bench.write(claims))


def seconds_of(options: Options) -> float:
    """From one core that has nothing else to do."""
    each = {"bound": 60.0 * options.seeds, "studies": 520.0 * len(options.sets), "augmentation": 120.0 * options.seeds, "cache": 40.0, "student": 1400.0 * options.seeds}  # fmt: skip
    return sum(each.get(part, 0.0) for part in options.parts)


if __name__ == "__main__":
    main()
