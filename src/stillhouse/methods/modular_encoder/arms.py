"""The rows of a run: every exit, and what one would use without the method."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stillhouse.core.errors import UserError
from stillhouse.core.result import Arm, Cost, Role
from stillhouse.core.run import Run
from stillhouse.corpus.bm25 import bm25
from stillhouse.corpus.code_retrieval import SearchTask, metrics
from stillhouse.encoders.models import minilm_folder, to_best_device
from stillhouse.encoders.multi_exit import MultiExitEncoder, load_trunk
from stillhouse.encoders.tokens import load_tokenizer
from stillhouse.methods.modular_encoder.config import Config
from stillhouse.methods.modular_encoder.material import Material
from stillhouse.methods.modular_encoder.model import CodeEncoder, Settings
from stillhouse.methods.modular_encoder.opening import open_encoder
from stillhouse.methods.modular_encoder.search import chance, exit_metrics, model_metrics
from stillhouse.methods.modular_encoder.training import Trained, train

Scores = Callable[[SearchTask], dict[str, float]]
TIMED = 64
"""Descriptions and functions that a latency is measured on."""


@dataclass(frozen=True)
class Bench:
    """What arms are judged on."""

    config: Config
    material: Material
    tasks: tuple[SearchTask, ...]
    select: SearchTask
    run: Run


def flat(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """{task: {metric: x}} -> {"task_metric": x}."""
    return {f"{task}_{name}": value for task, found in scores.items() for name, value in found.items()}


def latencies(model: CodeEncoder, task: SearchTask) -> dict[int, dict[str, float]]:
    """Seconds of a description alone and of a function in a batch of 64, at every exit by turns; the best of three."""
    texts = model.tokenized(task.queries[:TIMED], task.kind, task.query_languages[:TIMED])
    codes = model.tokenized(task.codes[:TIMED], "code", task.code_languages[:TIMED])
    found: dict[int, dict[str, float]] = {i: {} for i in model.exits}
    for _ in range(3):
        for i in model.exits:
            for name, part, batch in (("batch 1", texts, 1), ("batch 64", codes, 64)):
                started = time.perf_counter()
                model.encode_exits(part, (i,), batch=batch)
                each = (time.perf_counter() - started) / len(part)
                found[i][name] = min(each, found[i].get(name, each))
    return found


def exit_arms(trained: Trained, bench: Bench, speed: Mapping[int, Mapping[str, float]]) -> list[Arm]:
    """A row an exit; all of them cost the one training."""
    encoder, run = trained.encoder, bench.run
    by_task = {}
    for task in (*bench.tasks, bench.select):
        found = run.kept(f"exits on {task.name}", lambda t=task: _by_name(exit_metrics(encoder, bench.material, t)))  # type: ignore[misc]
        by_task[task.name] = {int(i): values for i, values in found.items()}
    arms = []
    for i in encoder.exits:
        scores = {task.name: by_task[task.name][i] for task in bench.tasks}
        values = {**flat(scores), "select_mrr": by_task[bench.select.name][i]["mrr"]}
        arms.append(Arm(f"exit {i}", "student", values, _cost(encoder, i, trained, speed[i]), bench.config.seed))
    return arms


def _by_name(found: Mapping[int, dict[str, float]]) -> dict[str, dict[str, float]]:
    return {str(i): values for i, values in found.items()}


def _cost(encoder: MultiExitEncoder, at: int, trained: Trained, speed: Mapping[str, float]) -> Cost:
    size = encoder.parameters_to(at)
    updates = {"pre-training": trained.pretraining.updates, "fine-tuning": trained.finetuning.updates}
    return Cost(size, 4 * size, 1, dict(speed), trained.seconds, None, updates)


def judged(encoder: MultiExitEncoder, at: int, bench: Bench) -> dict[str, float]:
    """An exit's metrics on all tasks and the select split."""
    model = CodeEncoder(encoder, bench.material.tokenizer, bench.material.settings)
    found = {task.name: model_metrics(model, task, (at,))[at] for task in bench.tasks}
    return {**flat(found), "select_mrr": model_metrics(model, bench.select, (at,))[at]["mrr"]}


def _fresh(config: Config, bench: Bench) -> MultiExitEncoder:
    return open_encoder(config, bench.material.tokenizer, bench.material.counts)


def control_arms(bench: Bench) -> list[Arm]:
    """BM25, MiniLM as it is, the encoder before training, chance."""
    plain: Scores = lambda task: metrics(task, bm25(task.queries, task.codes))  # noqa: E731
    arms = [_kept_arm(bench, "BM25", "baseline", plain, "names cut into words")]
    try:
        minilm_folder()
    except UserError as error:
        bench.run.log(f"no MiniLM row: {error}")
    else:
        arms.append(_minilm_arm(bench))
    for at in dict.fromkeys((bench.config.exits[0], bench.config.exits[-1])):
        untrained = _fresh(bench.config, bench)
        to_best_device(untrained)  # type: ignore[arg-type]
        scores = bench.run.kept(f"untrained {at}", lambda e=untrained, i=at: judged(e, i, bench))  # type: ignore[misc]
        arms.append(Arm(f"before training, exit {at}", "floor", scores, Cost(parameters=untrained.parameters_to(at))))
    arms.append(_kept_arm(bench, "chance", "floor", chance, ""))
    return arms


def _kept_arm(bench: Bench, name: str, role: Role, score: Scores, note: str, parameters: int | None = None) -> Arm:
    def compute() -> dict[str, float]:
        return {**flat({task.name: score(task) for task in bench.tasks}), "select_mrr": score(bench.select)["mrr"]}

    return Arm(name, role, bench.run.kept(name, compute), Cost(parameters=parameters), note=note)


def minilm_model(config: Config) -> CodeEncoder:
    """MiniLM as it is: mean of its last layer, no instruction, cut at the same lengths as the method's encoder."""
    folder = minilm_folder()
    trunk = load_trunk(folder)
    encoder = MultiExitEncoder(trunk, (trunk.config.num_hidden_layers,), trunk.config.hidden_size)
    to_best_device(encoder)  # type: ignore[arg-type]
    return CodeEncoder(
        encoder, load_tokenizer(folder), Settings("", "", config.max_text_tokens, config.max_code_tokens)
    )


def _minilm_arm(bench: Bench) -> Arm:
    model = minilm_model(bench.config)
    last = model.exits[-1]
    size = sum(p.numel() for p in model.encoder.trunk.parameters())
    return _kept_arm(
        bench,
        "MiniLM, zero-shot",
        "baseline",
        lambda task: model_metrics(model, task, (last,))[last],
        "sentence encoder, not trained on this code",
        size,
    )


def single_arm(bench: Bench, at: int) -> Arm:
    """A model of so many layers and one exit, trained alone with the same updates."""
    config = replace(bench.config, layers=at, exits=(at,), weights="uniform")
    encoder = _fresh(config, bench)
    made = train(encoder, bench.material, config, bench.run, f"single exit {at}, ")
    scores = bench.run.kept(f"single {at}", lambda: judged(made.encoder, at, bench))
    return Arm(f"{at}-layer model alone", "baseline", scores, _cost(made.encoder, at, made, {}), bench.config.seed)


def last_only_arms(bench: Bench) -> list[Arm]:
    """Only the deepest exit is trained; the others read its layers as they are."""
    config = replace(bench.config, weights="last-only")
    made = train(_fresh(config, bench), bench.material, config, bench.run, "last only, ")
    arms = []
    for at in made.encoder.exits:
        scores = bench.run.kept(f"last only {at}", lambda i=at: judged(made.encoder, i, bench))  # type: ignore[misc]
        arms.append(
            Arm(
                f"last-only training, exit {at}",
                "baseline",
                scores,
                _cost(made.encoder, at, made, {}),
                bench.config.seed,
            )
        )
    return arms


def compared_arms(bench: Bench) -> list[Arm]:
    """The rows that the config asks for beside the exits."""
    if bench.config.compare == "none":
        return [_kept_arm(bench, "chance", "floor", chance, "")]
    arms = control_arms(bench)
    if bench.config.compare == "all":
        for at in bench.config.exits:
            bench.run.log(f"arm: {at}-layer model alone")
            arms.append(single_arm(bench, at))
        bench.run.log("arm: last-only training")
        arms += last_only_arms(bench)
    return arms


def best_of(arms: Sequence[Arm], key: str) -> Arm:
    """The arm with the highest value; the first of equals."""
    return arms[int(np.argmax([arm.metrics[key] for arm in arms]))]
