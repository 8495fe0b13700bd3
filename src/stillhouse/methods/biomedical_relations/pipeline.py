"""A run: extractors made and judged, the student saved, its graph built and judged."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from stillhouse.core.estimate import Estimate, Stage
from stillhouse.core.files import make_folder_atomically
from stillhouse.core.result import Result, Table
from stillhouse.core.run import Run
from stillhouse.encoders.batches import assemble, plain_items
from stillhouse.encoders.models import Shape, forward, load_config, minilm_folder, new_student, parameters, shape_of
from stillhouse.encoders.tokens import Encoded
from stillhouse.methods.biomedical_relations import report
from stillhouse.methods.biomedical_relations.comparison import choose_denial, make_arms, protocol
from stillhouse.methods.biomedical_relations.config import Config
from stillhouse.methods.biomedical_relations.data import RelationData, load_data
from stillhouse.methods.biomedical_relations.encoder import Encoder
from stillhouse.methods.biomedical_relations.evaluation import GraphScore
from stillhouse.methods.biomedical_relations.extraction import Extraction
from stillhouse.methods.biomedical_relations.graphs import build_report_graph, confidence_rows, f1_of, judge


def distill(config: Config, run: Run) -> Result:
    """Train and judge every extractor, distil the student, and build and judge the graph of the report documents."""
    data = data_of(config)
    made, arms = make_arms(config, data, run)
    student = choose_denial(made["student"], data, lambda one: f1_of(judge(one, data.select_documents)[0]))
    made["student"] = student
    _save(made, run)
    trials = protocol(config, data, run)
    tables = [report.relation_table(data, arms), report.speed_table(arms)]
    tables += [t for t in (report.imbalance_table(trials), report.curve_table(trials)) if t]
    graph, folder = _graph(student, data, run, tables)
    truncated = sum(one.extractor.truncated for one in made.values() if isinstance(one.extractor, Encoder))
    return Result(
        "biomedical_relations",
        report.sentence(config, data, arms, graph),
        report.METRICS,
        tuple(arms),
        tables=tuple(tables),
        notes=report.notes(config, data, truncated, folder),
    )


def data_of(config: Config) -> RelationData:
    """The data that a config names."""
    return load_data(
        config.data,
        documents=config.documents,
        labelled_pairs=config.labelled_pairs,
        unlabelled=config.unlabelled,
        examples=config.examples,
        blind=config.blind,
        seed=config.seed,
    )


def _save(made: dict[str, Extraction], run: Run) -> None:
    """All extractors but the teacher's kind, which are large and stay in the cache."""

    def fill(folder: Path) -> None:
        for name, one in made.items():
            if name not in ("encoder", "adapted_encoder"):
                one.save(folder / name)

    make_folder_atomically(run.model_folder, fill)


def _graph(
    student: Extraction, data: RelationData, run: Run, tables: list[Table]
) -> tuple[GraphScore | None, Path | None]:
    if not data.documents:
        return None, None
    score, edges = judge(student, data.documents)
    folder, sizes = build_report_graph(student, data, run)
    tables += report.graph_tables(score, confidence_rows(edges, data.documents), sizes)
    return score, folder


def estimate(config: Config) -> Estimate:
    """From an update each of teacher and student on made-up sentences of 40 tokens; the rest is small beside them."""
    if config.model == "scratch":
        theirs = Shape(
            config.scratch_layers,
            config.scratch_width,
            max(1, config.scratch_width // 32),
            4 * config.scratch_width,
            config.scratch_width,
        )
    else:
        theirs = shape_of(load_config(minilm_folder() if config.model == "minilm" else Path(config.model)))
    ours = replace(
        theirs,
        layers=min(config.layers, theirs.layers),
        feed_forward=config.feed_forward,
        embedding=config.embedding or theirs.embedding,
    )
    teacher, teacher_bytes = _update_seconds(theirs, config.teacher_batch, config.max_tokens)
    student, student_bytes = _update_seconds(ours, config.batch, config.max_tokens)
    repeats = 8 if config.costly and config.protocol != "none" else 0
    adapting = config.adapt_updates if "adapted_encoder" in config.arms else 0
    encoders = 1 + ("adapted_encoder" in config.arms)
    students = 1 + ("labels_only" in config.arms)
    tuned = encoders * config.teacher_updates
    plans = [
        Stage(
            "encoders",
            tuned + adapting,
            2 * config.teacher_batch * (tuned + adapting),
            teacher * (tuned + 3 * adapting),
            teacher_bytes,
        ),
        Stage(
            "students",
            students * config.updates,
            2 * config.batch * students * config.updates,
            student * students * config.updates,
            student_bytes,
        ),
        Stage(
            "rules, classical families, generative",
            config.generative_updates,
            2 * config.batch * config.generative_updates,
            20 + student * config.generative_updates,
        ),
    ]
    if repeats:
        plans.append(Stage("protocol", repeats * config.teacher_updates, 0, repeats * sum(p.seconds for p in plans)))
    return Estimate(tuple(plans))


def _update_seconds(shape: Shape, batch: int, max_tokens: int) -> tuple[float, int]:
    """Seconds of one update, and bytes of its checkpoint."""
    model = new_student(shape, 2000, max(64, max_tokens), ("a", "b"), 0)
    length = min(40, max_tokens)
    ids = np.random.default_rng(0).integers(1, 2000, batch * length).astype(np.int32)
    items = plain_items(Encoded(ids, np.zeros_like(ids, np.int8), np.arange(batch + 1) * length))
    started = time.monotonic()
    forward(model, assemble(items, np.arange(batch), 0)).logits.square().sum().backward()
    return time.monotonic() - started, 12 * parameters(model)
