"""One distillation of a text encoder, then a student for any budget in seconds, without training it again.

AutoDistil: Few-shot Task-agnostic Neural Architecture Search for Distilling Large Language Models (arXiv 2201.12507).

The architectures (layers, heads, hidden, feed-forward) are divided into K sub-spaces, each with a super-network (SuperLM) of its own,
of which every architecture is a slice (3.1). At every step the largest, the smallest and two random architectures of the
sub-space learn from the frozen teacher on one batch (3.2, the sandwich rule):

    L = sum_{phi in Q, K, V}  1 / (A_r |x|) sum_a sum_t KL( R_T^phi[a, t] || R_S^phi[a, t] )
    R^phi[a] = softmax( phi_a phi_a^T / sqrt(d_r) + mask ),   phi_a: part a of all heads side by side, split into A_r parts

Then all architectures are scored by L on held-out text, none fine-tuned, and the best within a bound is cut out (3.3).

What differs from the paper and its code, and why: a head is hidden / heads wide, made of neighbouring finer heads of the
super-network, so that a student is a `BertModel` that transformers opens and a column stands for the same at any number of heads
(the released super-network drops heads that are 64 wide at any hidden size, which no BertModel is, and its cost formulas
assume yet another width); sizes are whole numbers; KL as in the paper, where the code has a square difference;
padded tokens have no part in it; the mean of a sandwich's losses is taken, so that the gradient clip treats it as one network;
relations are computed in the one layer that is compared, and nothing behind them; word vectors stay the teacher's by default;
the bound may be a measured latency, and the answer is a front, not one winner.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
from transformers import AutoModel, BertModel, PreTrainedModel

from stillhouse.core.estimate import Estimate, Stage
from stillhouse.core.options import read_options
from stillhouse.core.portable import Portable
from stillhouse.core.result import Arm, Cost, Result, Role
from stillhouse.core.run import Run
from stillhouse.encoders.batches import assemble, plain_items
from stillhouse.encoders.corpora import load_corpus
from stillhouse.encoders.costs import Architecture, Tables, multiply_adds
from stillhouse.encoders.elastic import ElasticBert, to_bert
from stillhouse.encoders.models import best_device, load_config, load_encoder, shape_of
from stillhouse.encoders.portable import portable_encoder
from stillhouse.encoders.relations import Projections, relation_loss
from stillhouse.encoders.rewiring import require_room
from stillhouse.encoders.tokens import Encoded, load_tokenizer
from stillhouse.methods.autodistil import report
from stillhouse.methods.autodistil.commands import COMMANDS
from stillhouse.methods.autodistil.config import Config
from stillhouse.methods.autodistil.family import Front, save_family, save_student
from stillhouse.methods.autodistil.front import Bounds, Candidate, pick, undominated
from stillhouse.methods.autodistil.lesson import Classroom, open_classroom, tables_of, teacher_folder
from stillhouse.methods.autodistil.peers import ALONE, UNTRAINED, cut_from_teacher, hand_designed, peers
from stillhouse.methods.autodistil.search import costs_of, latency_seconds, search_space, timed
from stillhouse.methods.autodistil.spaces import sandwich
from stillhouse.methods.autodistil.superlm import SuperLM, train_superlm
from stillhouse.methods.autodistil.tasks import Task, open_task
from stillhouse.methods.autodistil.trial import TRIALS

__all__ = ["COMMANDS", "PRESETS", "TRIALS", "Config", "distill", "estimate", "load", "portable"]

PRESETS = {
    "laptop": Config(),
    "paper": Config(
        data="medquad",
        texts=0,
        held_texts=1000,
        max_tokens=128,
        teacher="bert-base-uncased",
        spaces=(
            "base layers=9,10,11,12 heads=6,12 hidden=540,576,612,648 ratio=2.5,3,3.5,4",
            "small layers=9,10,11,12 heads=4,6,12 hidden=252,288,324,360 ratio=2.5,3,3.5,4",
            "tiny layers=4,5,6,7 heads=4,6,12 hidden=144,180,216,252 ratio=2,2.5,3,3.5",
        ),
        train_words=True,
        updates=500_000,
        batch=128,
        rate=4e-5,
        task="sst2",
        task_updates=40_000,
        task_rate=2e-5,
    ),
}


def distill(config: Config, run: Run) -> Result:
    """Train a super-network for each sub-space, score their architectures, cut out the student, and compare it."""
    room = open_classroom(config, best_device())
    teacher = room.teacher
    bounds = config.bounds(multiply_adds(teacher.shape))
    _require_possible(config, bounds, room)
    task = open_task(config.task, teacher.tokenizer, config.max_tokens) if config.task else None
    superlms = [train_superlm(space, room.lesson, config, run) for space in config.parsed()]
    scored: list[Candidate] = []
    seconds: dict[str, float] = {}
    for one in superlms:
        file = run.folder / "search" / f"{one.space.name}.jsonl"
        found, seconds[one.space.name] = search_space(
            one, room.select, config.evaluations, config.seed, file, run.quiet
        )
        scored += found
    front = _front(config, room, scored, run)
    picked = pick(front.front, bounds)
    run.log(f"picked {picked.shape} of {len(scored)}")
    network = next(one.network for one in superlms if one.space.name == picked.space)
    student = to_bert(network, picked.shape)
    save_family(superlms, front, student, teacher.tokenizer, run.model_folder)
    arms = _Arms(config, room, front, run, task)
    cost = _cost_of_all(superlms, seconds)
    rows = [arms.teacher(), arms.arm("student, cut from its super-network", "student", network, picked.shape, cost)]
    compared = (
        peers(picked.shape, picked.costs.multiply_adds, room.lesson, config, run) if config.compare == "all" else {}
    )
    for name, peer in compared.items():
        alone = Cost(training_seconds=peer.seconds, updates={"student": peer.updates})
        rows.append(arms.arm(name, "baseline", peer.network, peer.shape, alone))
    rows.append(arms.arm(UNTRAINED, "baseline", cut_from_teacher(picked.shape, teacher, config), picked.shape, Cost()))
    rows.append(arms.floor())
    rules = hand_designed(teacher.shape, 10**15, room.lesson.relation_heads)
    left_out = [name for name in rules if name not in compared] if compared else []
    hand = {
        name: (multiply_adds(p.shape), room.select.kept(room.select.loss(p.network, p.shape)))
        for name, p in compared.items()
        if name != ALONE
    }
    metrics = [report.KEPT, report.SELECT]
    if task:
        metrics.append(report.task_metric(task.data.name, task.data.metric))
    return Result(
        "autodistil",
        report.sentence(front, picked, rows),
        tuple(metrics),
        tuple(rows),
        pictures=(report.front_picture(front, picked, hand, run),),
        tables=(report.front_table(front), report.spaces_table(superlms, scored, seconds, front)),
        notes=report.notes(config, room, picked, left_out),
    )


def _require_possible(config: Config, bounds: Bounds, room: Classroom) -> None:
    """Refuse, before anything is trained, what is larger than the teacher, or a bound that the smallest architectures break."""
    teacher, spaces = room.teacher, config.parsed()
    for space in spaces:
        extent = space.extent(teacher.shape.layers)
        if config.init == "teacher":
            require_room(extent, teacher.model)
    smallest = [(space.name, space.smallest) for space in spaces]
    tables = tables_of(teacher)
    pick([Candidate(name, shape, 0.0, costs_of(shape, tables)) for name, shape in smallest], bounds)


def _front(config: Config, room: Classroom, scored: list[Candidate], run: Run) -> Front:
    """The scored architectures, those that matter with their latency, measured once a run."""
    kept, tokens = undominated(scored), config.max_tokens
    taken = run.kept("latencies", lambda: _latencies(kept, room, tokens))
    timed_front = [replace(c, costs=replace(c.costs, latency_seconds=taken[str(c.shape)])) for c in kept]
    matter = {c.shape for c in kept}
    theirs = replace(costs_of(room.teacher.shape, tables_of(room.teacher)), latency_seconds=taken["teacher"])
    others = tuple(c for c in scored if c.shape not in matter)
    return Front(config.spaces, room.teacher.shape, theirs, room.select.uninformed, tokens, tuple(timed_front), others)


def _latencies(kept: list[Candidate], room: Classroom, tokens: int) -> dict[str, float]:
    model = room.teacher.model
    return {
        "teacher": latency_seconds(model, tokens),
        **{str(c.shape): c.costs.latency_seconds for c in timed(kept, tokens)},
    }


def _cost_of_all(superlms: list[SuperLM], seconds: dict[str, float]) -> Cost:
    """Every student is charged with all super-networks and all searches."""
    training = sum(one.seconds for one in superlms) + sum(seconds.values())
    return Cost(training_seconds=training, updates={f"super-network {one.space.name}": one.updates for one in superlms})


class _Arms:
    """Rows of the report, each measured in the same way."""

    def __init__(self, config: Config, room: Classroom, front: Front, run: Run, task: Task | None) -> None:
        self.config, self.room, self.front, self.run, self.task = config, room, front, run, task

    def arm(self, name: str, role: Role, network: ElasticBert, shape: Architecture, cost: Cost) -> Arm:
        """Relations kept, size, speed and, where there is a task, its score."""
        room = self.room
        model = to_bert(network.to("cpu"), shape)
        network.to(best_device())
        metrics = {
            "relations_kept": room.report.kept(room.report.loss(network, shape)),
            "relations_kept_select": room.select.kept(room.select.loss(network, shape)),
        }
        slug = name.replace(":", "").replace(",", "").replace(" ", "-")
        if self.task:
            metrics |= self._score(slug, model)
        speed = self.run.kept(f"speed-{slug}", lambda: self._speed(model))
        costs = costs_of(shape, tables_of(room.teacher))
        full = replace(cost, parameters=costs.parameters, bytes_on_disk=costs.bytes, latency_seconds=speed)
        note = f"{shape}, {costs.multiply_adds / 1e6:,.1f} million multiply-adds"
        return Arm(name, role, metrics, full, self.config.seed, note)

    def _score(self, slug: str, model: PreTrainedModel) -> dict[str, float]:
        config, task, tokenizer = self.config, cast(Task, self.task), self.room.teacher.tokenizer

        def compute() -> dict[str, float]:
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch) / slug
                save_student(model, tokenizer, folder)
                return task.finetuned(
                    folder, config.task_updates, config.task_rate, self.run, f"task {slug}", config.seed
                )

        return {"score": self.run.kept(f"task-{slug}", compute)["score"]}

    def _speed(self, model: PreTrainedModel) -> dict[str, float]:
        tokens = self.config.max_tokens
        return {"batch 1": latency_seconds(model, tokens), "batch 32": latency_seconds(model, tokens, 32, 2)}

    def teacher(self) -> Arm:
        """The teacher: all of its own relations."""
        teacher, metrics = self.room.teacher, {"relations_kept": 1.0, "relations_kept_select": 1.0}
        if self.task:
            updates, task = self.config.task_updates, self.task
            found = self.run.kept("task-teacher", lambda: task.teacher_score(self.config.teacher, updates, self.run))
            metrics["score"] = found["score"]
        costs = costs_of(teacher.shape, tables_of(teacher))
        speed = self.run.kept("speed-teacher", lambda: self._speed(teacher.model))
        cost = Cost(costs.parameters, costs.bytes, latency_seconds=speed)
        note = f"{teacher.shape}, {costs.multiply_adds / 1e6:,.1f} million multiply-adds"
        return Arm("teacher", "teacher", metrics, cost, note=note)

    def floor(self) -> Arm:
        """Relating every token to all alike, and the most frequent class."""
        metrics = {"relations_kept": 0.0, "relations_kept_select": 0.0}
        if self.task and self.task.data.metric == "accuracy":
            labels = self.task.data.report.labels
            metrics["score"] = float(np.bincount(labels).max() / len(labels))
        return Arm("every token related to all alike", "floor", metrics)


def estimate(config: Config) -> Estimate:
    """From one step of every super-network, one score and one pass of the teacher on made-up texts of half the length."""
    theirs = load_config(teacher_folder(config))
    shape = shape_of(theirs)
    layers, tokens = shape.layers, max(4, config.max_tokens // 2)
    ids = np.random.default_rng(0).integers(1, min(500, theirs.vocab_size), config.batch * tokens).astype(np.int32)
    items = plain_items(Encoded(ids, np.zeros_like(ids, np.int8), np.arange(config.batch + 1) * tokens))
    batch = assemble(items, np.arange(config.batch), 0)
    teacher = load_encoder(teacher_folder(config))
    started = time.monotonic()
    teacher(input_ids=batch.first, attention_mask=batch.mask.long())
    texts = (config.texts or 10_000) + 2 * config.held_texts
    stages = [Stage("teacher states", 0, texts, (time.monotonic() - started) * texts / config.batch)]
    for space in config.parsed():
        network = ElasticBert(space.extent(layers), Tables(500, tokens, 2), 0)
        shapes = sandwich(space, 0, 0, config.random_samples)
        started = time.monotonic()
        for one in shapes:
            ours = network.last_projections(one, batch)
            relation_loss(ours, Projections(*(p.detach() for p in ours)), batch.mask, 1).backward()
        step = time.monotonic() - started
        size = 12 * sum(p.numel() for p in network.parameters())
        passes = 2 * len(shapes) * config.batch * config.updates
        stages.append(Stage(f"super-network {space.name}", config.updates, passes, step * config.updates, size))
        scores = min(space.size, config.evaluations)
        each = step / len(shapes) / 3 * config.held_texts / config.batch
        stages.append(Stage(f"search {space.name}", 0, scores * config.held_texts, scores * each))
        if space is config.parsed()[0] and config.compare == "all":
            alone = 4 * config.updates
            stages.append(
                Stage("students distilled alone", alone, 2 * alone * config.batch, alone * step / len(shapes))
            )
    return Estimate(tuple(stages))


def load(folder: Path) -> BertModel:
    """The picked student; `autodistil.family.open_family(run)` has all others."""
    return cast(BertModel, load_encoder(folder).eval())


def portable(run: Path) -> Portable:
    """The picked student with its tokenizer: ids to the states of its last layer."""
    config, folder = read_options(run, "autodistil", Config), run / "model"
    corpus = load_corpus(config.data, most_train=64, most_held=config.held_texts)
    return portable_encoder(
        load(folder),
        load_tokenizer(folder),
        (corpus.train, None),
        (corpus.report, None),
        max_tokens=config.max_tokens,
        reopen=AutoModel.from_pretrained,
        outputs=("last_hidden_state",),
        usage="from transformers import AutoModel\n\nmodel = AutoModel.from_pretrained('FOLDER')",
    )
