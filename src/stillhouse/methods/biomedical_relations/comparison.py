"""Every extractor of a run: made, judged on the report split, and saved; then again on balanced and on smaller training sets."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stillhouse.core.files import folder_bytes, make_folder_atomically
from stillhouse.core.result import Arm, Cost, Role
from stillhouse.core.run import Run
from stillhouse.core.seeding import derive_seed
from stillhouse.encoders.teacher import Teacher
from stillhouse.methods.biomedical_relations.classical import train_forest, train_logistic, train_naive_bayes
from stillhouse.methods.biomedical_relations.config import Config
from stillhouse.methods.biomedical_relations.data import Examples, RelationData, balanced
from stillhouse.methods.biomedical_relations.encoder import Encoder, adapted, distil, train_encoder
from stillhouse.methods.biomedical_relations.evaluation import fit_temperature, scores, tempered
from stillhouse.methods.biomedical_relations.extraction import About, Extraction, Extractor
from stillhouse.methods.biomedical_relations.generative import train_generative
from stillhouse.methods.biomedical_relations.rules import train_rules

ROLES: dict[str, Role] = {"encoder": "teacher", "student": "student", "adapted_encoder": "peer", "generative": "peer"}
CHEAP = ("rules", "naive_bayes", "random_forest", "linear")
COSTLY = ("encoder", "generative", "student")
CURVE = (50, 100, 250, 500, 1000)
TIMED_PAIRS = 256
"""Pairs on which speed is measured."""


@dataclass(frozen=True)
class Made:
    """A trained extractor and what it took."""

    extractor: Extractor
    seconds: float
    updates: int = 0
    folder: Path | None = None
    """Where its weights lie already, if they do."""


class Workshop:
    """Trains extractors of one task on one set of training pairs; the teacher is shared."""

    def __init__(self, config: Config, data: RelationData, train: Examples, run: Run, name: str = "") -> None:
        self.config, self.data, self.train, self.run, self.name = config, data, train, run, name
        self._teacher: Teacher | None = None

    @property
    def teacher(self) -> Teacher:
        """The fine-tuned encoder."""
        if self._teacher is None:
            self._teacher = train_encoder(self.config, self.data, self.train, self.run)
        return self._teacher

    def make(self, arm: str) -> Made:
        """One extractor by its name in ARMS."""
        if arm in ("encoder", "adapted_encoder"):
            return self._fine_tuned(arm)
        if arm in ("labels_only", "student"):
            _ = self.teacher  # its training is not the student's time
        started = time.monotonic()
        extractor, updates = getattr(self, f"_{arm}")()
        return Made(extractor, time.monotonic() - started, updates)

    def _fine_tuned(self, arm: str) -> Made:
        """An encoder; it may come from the cache, so its seconds are those that its training is known to have taken."""
        if arm == "encoder":
            teacher = self.teacher
        else:
            teacher = train_encoder(
                self.config, self.data, self.train, self.run, str(adapted(self.config, self.data, self.run))
            )
        made = Encoder(arm, teacher.model, teacher.tokenizer, self.config.max_tokens, self.data.blind)
        return Made(made, teacher.training_seconds or 0.0, self.config.teacher_updates, teacher.folder)

    def _rules(self) -> tuple[Extractor, int]:
        return train_rules(self.train, self.data.relations), 0

    def _naive_bayes(self) -> tuple[Extractor, int]:
        return train_naive_bayes(self.train, len(self.data.relations)), 0

    def _random_forest(self) -> tuple[Extractor, int]:
        return train_forest(self.train, len(self.data.relations), self.config.seed, self.config.trees), 0

    def _linear(self) -> tuple[Extractor, int]:
        return train_logistic(self.train, len(self.data.relations), self.config.seed), 0

    def _generative(self) -> tuple[Extractor, int]:
        made, fitted = train_generative(self.config, self.data, self.train, self.run, f"generative{self.name}")
        return made, fitted.updates

    def _labels_only(self) -> tuple[Extractor, int]:
        made = distil(self.config, self.data, self.train, self.teacher, self.run, labels_only=True, name=self.name)
        return made.extractor, made.updates

    def _student(self) -> tuple[Extractor, int]:
        made = distil(self.config, self.data, self.train, self.teacher, self.run, name=self.name)
        return made.extractor, made.updates


def training_pairs(config: Config, data: RelationData, kind: str = "") -> Examples:
    """The training pairs that a config asks for."""
    return balanced(data.train, config.seed) if (kind or config.training) == "balanced" else data.train


def make_arms(config: Config, data: RelationData, run: Run) -> tuple[dict[str, Extraction], list[Arm]]:
    """Every extractor of the config, saved in the model folder (those that are not in the cache), and its row."""
    workshop = Workshop(config, data, training_pairs(config, data), run)
    made: dict[str, Extraction] = {}
    arms: list[Arm] = []
    for name in config.arms:
        one = workshop.make(name)
        if config.protocol != "none" or name != "student":
            run.log(f"{name}: trained")
        made[name] = calibrated(one.extractor, config, data)
        folder = one.folder
        if folder is None:
            folder = run.folder / "extractors" / name
            make_folder_atomically(folder, made[name].save)
        arms.append(_arm(name, one, made[name], folder, data, config, run))
    return made, [*arms, _floor(data)]


def calibrated(extractor: Extractor, config: Config, data: RelationData) -> Extraction:
    """The extractor with the temperature that fits the select split."""
    temperature = fit_temperature(extractor.predict(data.select.pairs), data.select.labels)
    allowed = tuple(sorted(tuple(sorted(pair)) for pair in data.allowed))
    return Extraction(
        extractor,
        About(
            extractor.kind,
            data.relations,
            allowed,
            temperature,
            config.threshold,
            False,
            config.max_tokens,
            data.blind,
            data.name,
        ),
    )


def _arm(name: str, one: Made, made: Extraction, folder: Path, data: RelationData, config: Config, run: Run) -> Arm:
    def measure() -> dict[str, float]:
        raw = one.extractor.predict(data.report.pairs)
        found = scores(raw, data.report.labels, data.relations, data.has_none)
        after = scores(tempered(raw, made.about.temperature), data.report.labels, data.relations, data.has_none)
        chosen = scores(one.extractor.predict(data.select.pairs), data.select.labels, data.relations, data.has_none)
        return {
            "macro_f1": found.macro_f1,
            "micro_f1": found.micro_f1,
            "ece": found.ece,
            "ece_calibrated": after.ece,
            "select_macro_f1": chosen.macro_f1,
            **{f"f1 {relation}": value for relation, value in found.by_relation.items()},
            "seconds_a_pair": seconds_a_pair(one.extractor, data),
            "training_seconds": one.seconds,
        }

    told = run.kept(name, measure)
    cost = Cost(
        parameters=one.extractor.parameters,
        bytes_on_disk=folder_bytes(folder),
        latency_seconds={"a pair": told.pop("seconds_a_pair")},
        training_seconds=told.pop("training_seconds"),
        updates={name: one.updates} if one.updates else {},
    )
    return Arm(name, ROLES.get(name, "baseline"), told, cost, config.seed, NOTES.get(name, ""))


NOTES = {
    "rules": "trigger words on the dependency path",
    "generative": "T5-type, the relation is written out",
    "labels_only": "the student's network without a teacher",
    "adapted_encoder": "after masked language modelling on the task's texts",
}


def seconds_a_pair(extractor: Extractor, data: RelationData, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds a pair in one call for TIMED_PAIRS; the better of two. (`time.process_time` counts the processor's alone.)"""
    some = data.report.pairs[:TIMED_PAIRS]
    taken = []
    for _ in range(2):
        started = clock()
        extractor.predict(some)
        taken.append((clock() - started) / len(some))
    return min(taken)


def _floor(data: RelationData) -> Arm:
    """Always the most frequent relation."""
    counts = np.bincount(data.train.labels, minlength=len(data.relations))
    counts[0] *= not data.has_none
    told = np.zeros((len(data.report), len(data.relations)))
    told[:, int(counts.argmax())] = 1
    found = scores(told, data.report.labels, data.relations, data.has_none)
    return Arm("most frequent relation", "floor", {"macro_f1": found.macro_f1, "micro_f1": found.micro_f1})


@dataclass(frozen=True)
class Trial:
    """An extractor on another training set."""

    arm: str
    training: str
    pairs: int
    macro_f1: float
    micro_f1: float


def protocol(config: Config, data: RelationData, run: Run) -> list[Trial]:
    """The same extractors on balanced, natural and equally small natural training sets, and along a learning curve."""
    sets: list[tuple[str, Examples]] = []
    if config.protocol in ("imbalance", "all"):
        even = balanced(data.train, config.seed)
        sets += [
            ("natural", data.train),
            ("balanced", even),
            ("natural, as few", some_of(data.train, len(even), config.seed)),
        ]
    if config.protocol in ("curve", "all"):
        sizes = [n for n in CURVE if n < len(data.train)]
        sets += [(f"{n} pairs", some_of(data.train, n, config.seed)) for n in sizes]
        sets += [("all pairs", data.train)]
    asked = [a for a in (*CHEAP, *(COSTLY if config.costly else ())) if a in config.arms]
    return [_trial(config, data, arm, kind, train, run) for kind, train in sets for arm in asked]


def some_of(train: Examples, pairs: int, seed: int) -> Examples:
    """A draw of whole documents until there are this many pairs (the last one cut)."""
    names = list(dict.fromkeys(p.document for p in train.pairs))
    order = np.random.default_rng(derive_seed("some", seed, pairs)).permutation(len(names))
    rank = {names[int(d)]: place for place, d in enumerate(order)}
    return train.take(np.sort(np.argsort([rank[p.document] for p in train.pairs], kind="stable")[:pairs]))


def _trial(config: Config, data: RelationData, arm: str, kind: str, train: Examples, run: Run) -> Trial:
    def compute() -> dict[str, float]:
        workshop = Workshop(config, data, train, run, f" {kind}")
        extractor = workshop.make(arm).extractor
        found = scores(extractor.predict(data.report.pairs), data.report.labels, data.relations, data.has_none)
        return {"macro_f1": found.macro_f1, "micro_f1": found.micro_f1}

    told = run.kept(f"{arm}-{kind}".replace(" ", "-").replace(",", ""), compute)
    return Trial(arm, kind, len(train), told["macro_f1"], told["micro_f1"])


def choose_denial(extraction: Extraction, data: RelationData, judge: Callable[[Extraction], float]) -> Extraction:
    """With or without negation cues, whichever makes the better graph of the select split's documents."""
    options: Sequence[Extraction] = [
        Extraction(extraction.extractor, replace(extraction.about, deny=deny)) for deny in (False, True)
    ]
    return max(options, key=judge) if data.select_documents else options[0]


__all__ = ["ROLES", "Made", "Trial", "Workshop", "choose_denial", "make_arms", "protocol", "some_of", "training_pairs"]
