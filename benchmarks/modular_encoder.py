"""ModularStarEncoder's claims: exits against models of their depth trained alone, last-only training, weights, context, renaming, peers.

    python benchmarks/modular_encoder.py                                # all parts; pieces that are on disk are not computed again
    python benchmarks/modular_encoder.py --parts exits speed            # some: exits singles last-only weights context rename peers public speed
    python benchmarks/modular_encoder.py --minutes 20                   # start no further piece after that long, write what is there
    python benchmarks/modular_encoder.py --seeds 3 --estimate           # what it would take, and stop
    python benchmarks/modular_encoder.py --table                        # the tables of docs/methods/modular_encoder.md

Every arm of a seed has the same functions, tokenizer, pairs in the same order and updates. Models alone have as many layers as the
exit they stand against. Nothing is chosen on the report split. With $STILLHOUSE_DATA: CoSQA, Java-C#, HumanEval-X, CodeSearchNet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import stillhouse
from modular_encoder_claims import claims, tables
from modular_encoder_peers import adaptive_layer_loss
from stillhouse.core.benchmark import Work, run_script, script_parser
from stillhouse.core.evidence import Bench, ClaimedArm
from stillhouse.core.options import to_plain
from stillhouse.core.result import Arm, Cost
from stillhouse.core.run import temporary_run
from stillhouse.corpus.bm25 import bm25
from stillhouse.corpus.code_retrieval import SearchTask, metrics, public_tasks
from stillhouse.corpus.code_sets import load_code
from stillhouse.encoders.multi_exit import MultiExitEncoder
from stillhouse.methods.modular_encoder.arms import latencies, minilm_model
from stillhouse.methods.modular_encoder.config import Config
from stillhouse.methods.modular_encoder.material import Material, make_material
from stillhouse.methods.modular_encoder.model import CodeEncoder
from stillhouse.methods.modular_encoder.opening import open_encoder, open_tokenizer
from stillhouse.methods.modular_encoder.search import chance, model_metrics, report_tasks, select_task
from stillhouse.methods.modular_encoder.training import Trained, train

HERE = Path(__file__).resolve().parent
VERSION = 1
SIZE = Config(compare="none")
"""The laptop preset: what a user gets without options."""
PUBLIC = ("cosqa", "java-cs", "humaneval-x", "codesearchnet")
VARIANTS: dict[str, dict[str, Any]] = {
    "exits": {},
    "last-only": {"weights": "last-only"},
    "uniform weights": {"weights": "uniform"},
    "log weights": {"weights": "log"},
    "without context": {"contextual": 0.0},
    "without renaming": {"renamed": 0.0},
    "self-distillation": {"self_distillation": 1.0},
}
"""Arms that are trained, and what differs in their config."""
bench = Bench("modular_encoder", HERE)


def opened(config: Config) -> tuple[Material, SearchTask, list[SearchTask]]:
    """Functions, ids and tasks of a seed."""
    code = load_code(config.data, config.functions, config.seed)
    material = make_material(code, open_tokenizer(config, code.train), config)
    return material, select_task(code, config), report_tasks(code, material.names, config)


def judged(encoder: MultiExitEncoder, material: Material, tasks: list[SearchTask]) -> dict[str, Any]:
    """{task: {exit: metrics}}."""
    model = CodeEncoder(encoder, material.tokenizer, material.settings)
    return {t.name: {str(i): m for i, m in model_metrics(model, t, model.exits).items()} for t in tasks}


def trained(config: Config, material: Material) -> Trained:
    """An encoder of this config."""
    with temporary_run("modular_encoder", config.seed) as run:
        return train(open_encoder(config, material.tokenizer, material.counts), material, config, run)


def variant(config: Config) -> dict[str, Any]:
    """Train one arm and judge all its exits on the select and report splits."""
    material, select, tasks = opened(config)
    made = trained(config, material)
    return {
        "scores": judged(made.encoder, material, [select, *tasks]),
        "seconds": made.seconds,
        "step": made.finetuning.seconds / config.updates,
        "parameters": {str(i): made.encoder.parameters_to(i) for i in made.encoder.exits},
    }


def folder_of(config: Config) -> Path:
    """Where the run of a seed is."""
    return HERE.parent / "scratch" / "runs" / "modular_encoder" / f"seed-{config.seed}-{VERSION}"


def whole(config: Config) -> dict[str, Any]:
    """The run that a user starts, with its baselines; its folder stays, and a killed one goes on."""
    folder = folder_of(config)
    if (folder / "config.json").exists():
        result = stillhouse.resume(folder).result
    else:
        result = stillhouse.run("modular_encoder", out=folder, **{**to_plain(config), "compare": "controls"}).result
    exits = {arm.name.split()[1]: arm for arm in result.arms if arm.role == "student"}
    names = [metric.key.removesuffix("_mrr") for metric in result.metrics if metric.key.endswith("_mrr")]
    scores = {name: {i: _of_task(arm.metrics, name) for i, arm in exits.items()} for name in names if name != "select"}
    scores["docs, select"] = {i: {"mrr": arm.metrics["select_mrr"]} for i, arm in exits.items()}
    first = next(iter(exits.values())).cost
    return {
        "scores": scores,
        "seconds": first.training_seconds,
        "parameters": {i: arm.cost.parameters for i, arm in exits.items()},
        "latency": {i: arm.cost.latency_seconds for i, arm in exits.items()},
        "others": {arm.name: dict(arm.metrics) for arm in result.arms if arm.role != "student"},
    }


def _of_task(found: Mapping[str, float], task: str) -> dict[str, float]:
    return {name: found[f"{task}_{name}"] for name in ("mrr", "ndcg")}


def public(config: Config) -> dict[str, Any]:
    """The run's encoder, BM25 and chance on the public tasks."""
    if not (folder_of(config) / "result.json").exists():
        whole(config)
    model = stillhouse.load(folder_of(config))
    tasks = [task for name in PUBLIC for task in public_tasks(name)]
    return {
        "exits": {t.name: {str(i): m for i, m in model_metrics(model, t, model.exits).items()} for t in tasks},
        "BM25": {t.name: metrics(t, bm25(t.queries, t.codes)) for t in tasks},
        "chance": {t.name: chance(t) for t in tasks},
        "sizes": {t.name: [len(t), len(t.codes)] for t in tasks},
    }


def public_minilm(config: Config) -> dict[str, Any]:
    """MiniLM as it is on the public tasks."""
    model = minilm_model(config)
    last = model.exits[-1]
    return {t.name: model_metrics(model, t, (last,))[last] for name in PUBLIC for t in public_tasks(name)}


def adaptive(config: Config) -> dict[str, Any]:
    """AdaptiveLayerLoss on the same stack, pairs and updates."""
    material, select, tasks = opened(config)
    return {"AdaptiveLayerLoss": adaptive_layer_loss(config, material, [select, *tasks])}


def speed(config: Config) -> dict[str, Any]:
    """Latency by exit, processor seconds of an update with all exits and with the deepest alone, functions indexed a second."""
    material, select, _ = opened(replace(config, pairs=256))
    encoder = open_encoder(config, material.tokenizer, material.counts)
    model = CodeEncoder(encoder, material.tokenizer, material.settings)
    steps: dict[str, list[float]] = {"all": [], "last-only": []}
    for _ in range(3):  # by turns, so that a busy machine slows both down
        for name, weights in (("all", "depth"), ("last-only", "last-only")):
            one = replace(config, weights=weights, pretraining_updates=0, updates=4, code_share=0.0)  # type: ignore[arg-type]
            started = time.process_time()
            trained(one, material)
            steps[name].append((time.process_time() - started) / one.updates)
    indexing: dict[str, list[float]] = {str(i): [] for i in model.exits}
    encoded = model.tokenized(select.codes[:256], "code")
    for _ in range(3):
        for i in model.exits:
            started = time.process_time()
            model.encode_exits(encoded, (i,))
            indexing[str(i)].append(len(encoded) / (time.process_time() - started))
    return {
        "latency": {str(i): one for i, one in latencies(model, select).items()},
        "steps": steps,
        "functions_a_second": indexing,
    }


def pieces(part: str, seeds: int) -> Iterator[Work]:
    """Key, work and processor seconds of a part's pieces."""
    full = 220.0
    for seed in range(seeds):
        config = replace(SIZE, seed=seed)
        if part == "exits":
            yield _piece("exits", config, whole, full + 60)
        if part == "singles":
            for i in config.exits:
                yield _piece(
                    f"single {i}",
                    replace(config, layers=i, exits=(i,), weights="uniform"),
                    variant,
                    full * (0.2 + 0.8 * i / config.layers),
                )
        groups = {
            "last-only": ("last-only",),
            "weights": ("uniform weights", "log weights"),
            "context": ("without context",),
            "rename": ("without renaming",),
            "distil": ("self-distillation",),
        }
        for name in groups.get(part, ()):
            yield _piece(name, replace(config, **VARIANTS[name]), variant, full)
        if part == "peers":
            yield _piece("peers", config, adaptive, full)
        if part == "public" and seed == 0:
            yield _piece("public", config, public, 60)
            yield _piece("public, MiniLM", config, public_minilm, 200)
        if part == "speed" and seed == 0:
            yield _piece("speed, three turns", config, speed, 60)


def _piece(name: str, config: Config, compute: Callable[[Config], Any], seconds: float) -> Work:
    key = {"arm": name, "seed": config.seed, "config": repr(sorted(to_plain(config).items())), "version": VERSION}
    return Work(key, lambda: compute(config), seconds)


PARTS = ("exits", "singles", "last-only", "weights", "context", "rename", "distil", "peers", "public", "speed")


def collected(seeds: int) -> dict[str, dict[int, Any]]:
    """{arm: {seed: value}} of all pieces on disk."""
    found: dict[str, dict[int, Any]] = {}
    for part in PARTS:
        for key, _, _ in pieces(part, seeds):
            value = bench.kept(key)
            if value is not None:
                found.setdefault(key["arm"], {})[key["seed"]] = value
    return found


def arms_of(found: Mapping[str, Mapping[int, Any]]) -> Iterator[ClaimedArm]:
    """Every trained arm's exits, as the result file has them."""
    for name, by_seed in found.items():
        for seed, value in by_seed.items():
            for exit in value.get("parameters", ()):
                scores = {
                    f"{task}_{m}": v for task, by_exit in value["scores"].items() for m, v in by_exit[exit].items()
                }
                cost = Cost(
                    value["parameters"][exit], training_seconds=value["seconds"], updates={"encoder": SIZE.updates}
                )
                role = "student" if name == "exits" else "baseline"
                yield ClaimedArm("exits", Arm(f"{name}, exit {exit}", role, scores, cost, seed))
            for peer, scores in value.get("others", {}).items():
                trained_not = peer.startswith("before") or peer == "chance"
                yield ClaimedArm("exits", Arm(peer, "floor" if trained_not else "peer", scores, Cost(), seed))
            for exit, peer_scores in value["AdaptiveLayerLoss"].items() if name == "peers" else ():
                yield ClaimedArm("exits", Arm(f"AdaptiveLayerLoss, layer {exit}", "peer", peer_scores, Cost(), seed))


def public_arms(found: Mapping[str, Mapping[int, Any]]) -> Iterator[ClaimedArm]:
    """What was measured on the public tasks."""
    for seed, value in found.get("public", {}).items():
        tasks = value["sizes"]
        rows = {f"exit {i}": {t: value["exits"][t][i] for t in tasks} for i in next(iter(value["exits"].values()))}
        rows |= {name: value[name] for name in ("BM25", "chance")}
        if seed in found.get("public, MiniLM", {}):
            rows["MiniLM, zero-shot"] = found["public, MiniLM"][seed]
        for name, by_task in rows.items():
            scores = {f"{task}_{m}": v for task, ms in by_task.items() for m, v in ms.items()}
            role = "student" if name.startswith("exit") else "floor" if name == "chance" else "peer"
            yield ClaimedArm("public tasks", Arm(name, role, scores, Cost(), seed))


def write(seeds: int) -> Path:
    """The result file from what is on disk."""
    found = collected(seeds)
    bench.arms = [*arms_of(found), *public_arms(found)]
    return bench.write(claims(found))


def main() -> None:
    parser = script_parser(__doc__, PARTS, table="the tables of docs/methods/modular_encoder.md")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    seeds = options.seeds
    torch.set_num_threads(1)
    run_script(
        bench,
        options,
        lambda part: pieces(part, seeds),
        write=lambda: write(seeds),
        table=lambda: tables(collected(seeds)),
    )


if __name__ == "__main__":
    main()
