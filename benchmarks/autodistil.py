"""AutoDistil's claims: three sub-spaces against one, ranking without fine-tuning, what a student keeps, and what it is compared with.

    python benchmarks/autodistil.py                          # the small size; pieces that are on disk are not computed again
    python benchmarks/autodistil.py --size full              # more text, longer training, 6 tasks, 3 seeds: hours
    python benchmarks/autodistil.py --parts step ranking     # some: step interference ranking students
    python benchmarks/autodistil.py --minutes 20             # start no further piece after that long, write what is there
    python benchmarks/autodistil.py --estimate               # what it would take, and stop
    python benchmarks/autodistil.py --table                  # the tables of docs/methods/autodistil.md

Teacher: MiniLM (6 layers of 384). Texts to distil on are not those of the tasks to fine-tune on. Every student of a task is fine-tuned
alike, the update chosen on the select split, the score that of the report split.

step: processor seconds of a sandwich step over those of one network, of scoring, and the largest difference of an exported student.
interference: losses of 24 architectures in three super-networks and in one over all sizes, at equal total steps. ranking: 20
architectures of all sub-spaces by relation loss and by fine-tuned score. students: the student of at most 1/2.7 of the teacher's
multiply-adds, the teacher, the same architecture distilled alone with twice the updates, and students designed by hand.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import stillhouse
from autodistil_claims import all_arms, all_claims, tables
from stillhouse.core.benchmark import Work, run_script, script_parser
from stillhouse.core.evidence import Bench
from stillhouse.core.run import Run
from stillhouse.core.seeding import derive_seed
from stillhouse.encoders.costs import Architecture, multiply_adds
from stillhouse.encoders.elastic import ElasticBert, load_elastic, to_bert
from stillhouse.encoders.models import Batch
from stillhouse.encoders.tokens import load_tokenizer
from stillhouse.methods.autodistil.config import TARGET, Config
from stillhouse.methods.autodistil.family import Family, open_family, save_student
from stillhouse.methods.autodistil.front import Candidate
from stillhouse.methods.autodistil.lesson import Classroom, open_classroom
from stillhouse.methods.autodistil.peers import cut_from_teacher, distilled_alone, hand_designed
from stillhouse.methods.autodistil.spaces import parse_space, sandwich
from stillhouse.methods.autodistil.superlm import new_network, recipe_of, train
from stillhouse.methods.autodistil.tasks import open_task

HERE = Path(__file__).resolve().parent
RUNS = HERE.parent / "scratch" / "runs" / "autodistil"
VERSION = 1
bench = Bench("autodistil", HERE)
WHOLE = "whole layers=2,3,4,5 heads=4,6,12 hidden=72,96,120,144,168,192,216,240,264 ratio=2,2.5,3"
"""One sub-space from the smallest to the largest architecture of all three."""
COMMON = 24
"""Architectures whose losses are compared between three super-networks and one."""
RANKED = 20
ORDER = sorted(range(RANKED), key=lambda index: 7 * index % RANKED)
"""In which they are measured: a part of them has all sub-spaces."""


TAKES = 5
"""Times that the cost of a step is measured, seconds each."""


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    config: Config
    tasks: tuple[str, ...]
    examples: int
    """Training texts of a task at most."""
    task_updates: int
    task_tokens: int
    seeds: int
    ranked_tasks: tuple[str, ...]


SIZES = {
    "small": Size(Config(), ("trec", "cola", "sst2", "docstrings"), 2000, 100, 32, 2, ("trec",)),
    "full": Size(
        Config(data="medquad+docstrings", texts=20_000, held_texts=256, updates=1500, batch=32, max_tokens=48),
        ("trec", "cola", "sst2", "mrpc", "sick", "banking77"),
        0,
        1000,
        64,
        3,
        ("trec", "sst2"),
    ),
}


def family(size_name: str, spaces: int, seed: int) -> Family:
    """A run of three sub-spaces or of one, begun, gone on with, or taken from disk; one has as many updates as the three together."""
    config = config_of(size_name, seed)
    changes: dict[str, Any] = {"compare": "none", "seed": seed}
    if spaces == 1:
        changes |= {"spaces": (WHOLE,), "updates": len(config.spaces) * config.updates, "evaluations": 64}
    folder = RUNS / f"{size_name}-{spaces}-{seed}"
    if (folder / "result.json").exists():
        return open_family(folder)
    if (folder / "config.json").exists():
        stillhouse.resume(folder)
    else:
        size = SIZES[size_name].config
        options = {
            name: getattr(size, name) for name in ("data", "texts", "held_texts", "updates", "batch", "max_tokens")
        }
        stillhouse.run("autodistil", out=folder, **{**options, **changes})
    return open_family(folder)


def config_of(size_name: str, seed: int) -> Config:
    """The config that super-networks are trained with."""
    return replace(SIZES[size_name].config, seed=seed)


def room_of(size_name: str, seed: int) -> Classroom:
    """Texts and the teacher's relations."""
    return open_classroom(config_of(size_name, seed), torch.device("cpu"))


def network_of(found: Family, space: str) -> ElasticBert:
    """A stored super-network."""
    return load_elastic(found.folder / "super" / f"{space}.safetensors")


def trained_family(size_name: str, spaces: int, seed: int) -> dict[str, Any]:
    """What a family took and offers."""
    found = family(size_name, spaces, seed)
    result = Run.open(found.folder.parent, quiet=True).result
    student = result.arm("student")
    rows = [list(row) for row in result.tables[1].rows]
    return {
        "seconds": student.cost.training_seconds,
        "kept": dict(student.metrics),
        "note": student.note,
        "spaces": rows,
    }


def interference(size_name: str, seed: int) -> dict[str, Any]:
    """Losses on the report texts of the same architectures, cut from three super-networks and from one."""
    three, one = family(size_name, 3, seed), family(size_name, 1, seed)
    exam = room_of(size_name, seed).report
    whole = network_of(one, "whole")
    found: dict[str, Any] = {"shapes": [], "three": [], "one": []}
    for space in (parse_space(text) for text in config_of(size_name, seed).spaces):
        network, shapes = network_of(three, space.name), sorted(set(space.all()), key=str)
        for shape in random.Random(derive_seed("common", space.name)).sample(shapes, COMMON // 3):
            found["shapes"].append(str(shape))
            found["three"].append(exam.loss(network, shape))
            found["one"].append(exam.loss(whole, shape))
    return found


def candidates(found: Family, seed: int) -> list[Candidate]:
    """Architectures to be ranked, as many of every sub-space as divide evenly, drawn by seed."""
    scored = sorted((*found.front.front, *found.front.others), key=lambda c: str(c.shape))
    rng, drawn = random.Random(derive_seed("ranked", seed)), []
    names = [parse_space(text).name for text in found.front.spaces]
    for i, name in enumerate(names):
        drawn += rng.sample([c for c in scored if c.space == name], RANKED // len(names) + (i < RANKED % len(names)))
    return drawn


def fine_tuned(size_name: str, task: str, seed: int, student: Callable[[Path], None]) -> dict[str, float]:
    """Scores of a student that `student(folder)` writes."""
    import tempfile

    size = SIZES[size_name]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "student"
        student(folder)
        opened = open_task(task, load_tokenizer(folder), size.task_tokens, size.examples)
        with Run.create(
            "autodistil", {"seed": seed}, out=Path(scratch) / "run", quiet=True, checkpoint_seconds=1e9
        ) as run:
            return opened.finetuned(folder, size.task_updates, size.config.task_rate, run, "task", seed)


def ranked(size_name: str, task: str, seed: int, index: int) -> dict[str, Any]:
    """One architecture: relation loss without fine-tuning, costs, score after it."""
    found = family(size_name, 3, seed)
    chosen = candidates(found, seed)[index]
    scores = fine_tuned(size_name, task, seed, lambda folder: found.save(chosen, folder))
    costs = {"multiply_adds": chosen.costs.multiply_adds, "parameters": chosen.costs.parameters}
    return {**scores, "shape": str(chosen.shape), "loss": chosen.loss, **costs}


def student_arms(size_name: str, seed: int) -> dict[str, tuple[Architecture, Callable[[], ElasticBert]]]:
    """Name -> architecture and what makes its network."""
    found, room, config = family(size_name, 3, seed), room_of(size_name, seed), config_of(size_name, seed)
    teacher = room.teacher.shape
    picked = found.pick(max_flops=int(multiply_adds(teacher) / TARGET))
    made: dict[str, tuple[Architecture, Callable[[], ElasticBert]]] = {
        "student": (picked.shape, lambda: network_of(found, picked.space)),
        "cut from the teacher": (picked.shape, lambda: cut_from_teacher(picked.shape, room.teacher, config)),
        "alone, twice the updates": (picked.shape, lambda: alone(size_name, picked.shape, seed, 2)),
    }
    for name, shape in hand_designed(teacher, picked.costs.multiply_adds, room.lesson.relation_heads).items():
        made[name] = (shape, lambda shape=shape: alone(size_name, shape, seed, 1))  # type: ignore[misc]
    return made


ARMS = (
    "student",
    "cut from the teacher",
    "alone, twice the updates",
    "by hand: full width, fewer layers",
    "by hand: all layers, narrower",
    "by hand: half the layers, narrower",
)


def alone(size_name: str, shape: Architecture, seed: int, times: int) -> ElasticBert:
    """One architecture with weights of its own; kept in the scratch folder for the next task."""
    from stillhouse.encoders.elastic import save_elastic

    file = RUNS / f"{size_name}-alone-{shape}-{times}-{seed}.safetensors"
    if not file.exists():
        room, config = room_of(size_name, seed), config_of(size_name, seed)
        with Run.create("autodistil", {"seed": seed}, out=RUNS / f"alone-{time.time_ns()}", quiet=True) as run:
            peer = distilled_alone(shape, room.lesson, config, run, "alone", times * config.updates)
        save_elastic(peer.network, file)
    return load_elastic(file)


def arm(size_name: str, task: str, seed: int, name: str) -> dict[str, Any]:
    """One student of one task."""
    shape, make = student_arms(size_name, seed)[name]
    network, room = make(), room_of(size_name, seed)
    kept = room.report.kept(room.report.loss(network, shape))

    def student(folder: Path) -> None:
        save_student(to_bert(network, shape), room.teacher.tokenizer, folder)

    scores = fine_tuned(size_name, task, seed, student)
    return {**scores, "shape": str(shape), "kept": kept, "multiply_adds": multiply_adds(shape)}


def teacher_arm(size_name: str, task: str) -> dict[str, Any]:
    """The teacher, fine-tuned once: its score does not depend on a student's seed."""
    import tempfile

    size, teacher = SIZES[size_name], room_of(size_name, 0).teacher
    opened = open_task(task, teacher.tokenizer, size.task_tokens, size.examples)
    with (
        tempfile.TemporaryDirectory() as scratch,
        Run.create("autodistil", {"seed": 0}, out=Path(scratch) / "run", quiet=True) as run,
    ):
        found = opened.teacher_score("minilm", size.task_updates, run)
    return {**found, "multiply_adds": multiply_adds(teacher.shape)}


def export_gaps(network: ElasticBert, shape: Architecture, batch: Batch) -> dict[str, float]:
    """Largest difference of states between slice and exported model, as a share of the largest, in both precisions."""
    export, found = to_bert(network, shape), {}
    for name, kind in (("gap_float32", torch.float32), ("gap_float64", torch.float64)):
        network.to(kind), export.to(kind)
        with torch.no_grad():
            own = network(shape, batch)[batch.mask]
            made = export(input_ids=batch.first, attention_mask=batch.mask.long()).last_hidden_state[batch.mask]
        found[name] = float((own - made).abs().max() / own.abs().max())
    return found


def step_costs(size_name: str, seed: int) -> dict[str, Any]:
    """Processor seconds of a sandwich step over one of its largest network alone; of scoring; the gap of an export."""
    config, room = config_of(size_name, seed), room_of(size_name, seed)
    space = config.parsed()[1]
    network = new_network(room.teacher, space.extent(room.teacher.shape.layers), "teacher", seed, space.name)
    taken = {}
    for name, shapes in (
        ("sandwich", lambda u: sandwich(space, seed, u, config.random_samples)),
        ("largest", lambda _: [space.largest]),
    ):
        with Run.create(
            "autodistil", {"seed": seed}, out=RUNS / f"step-{time.time_ns()}", quiet=True, checkpoint_seconds=1e9
        ) as run:
            started = time.process_time()
            train(network, shapes, room.lesson, config, recipe_of(config, 12), run, name)
            taken[name] = (time.process_time() - started) / 12
    network.eval()
    listed = list(space.all())[:: max(1, space.size // 16)][:16]
    started = time.process_time()
    for shape in listed:
        room.select.loss(network, shape)
    scoring = (time.process_time() - started) / len(listed)
    gaps = export_gaps(network, space.smallest, room.select.batches[0][0])
    return {**taken, "score": scoring, "texts": len(room.corpus.select), **gaps}


def pieces(part: str, size_name: str) -> Iterator[Work]:
    """The work of a part, seeds last, and the processor seconds of each piece at the small size."""
    size = SIZES[size_name]
    head = {"part": part, "size": size_name, "version": VERSION}
    if part == "step":
        for seed in range(TAKES):
            yield Work({**head, "seed": seed, "gaps": "shares"}, lambda seed=seed: step_costs(size_name, seed), 8.0)  # type: ignore[misc]
    for seed in range(size.seeds):
        if part in ("interference", "ranking", "students"):
            key = {**head, "part": "family", "spaces": 3, "seed": seed}
            yield Work(key, lambda seed=seed: trained_family(size_name, 3, seed), 130.0)  # type: ignore[misc]
        if part == "interference":
            key = {**head, "part": "family", "spaces": 1, "seed": seed}
            yield Work(key, lambda seed=seed: trained_family(size_name, 1, seed), 130.0)  # type: ignore[misc]
            yield Work({**head, "seed": seed}, lambda seed=seed: interference(size_name, seed), 8.0)  # type: ignore[misc]
        if part == "ranking":
            for task, index in itertools.product(size.ranked_tasks, ORDER):
                key = {**head, "seed": seed, "task": task, "index": index}
                yield Work(key, lambda s=seed, t=task, i=index: ranked(size_name, t, s, i), 20.0)  # type: ignore[misc]
        if part == "students":
            for task in size.tasks:
                key = {**head, "task": task, "arm": "teacher"}
                yield Work(key, lambda t=task: teacher_arm(size_name, t), 90.0)  # type: ignore[misc]
                for name in ARMS:
                    key = {**head, "seed": seed, "task": task, "arm": name}
                    yield Work(key, lambda s=seed, t=task, n=name: arm(size_name, t, s, n), 35.0)  # type: ignore[misc]


PARTS = ("step", "interference", "ranking", "students")


def known(size_name: str) -> dict[str, list[dict[str, Any]]]:
    """What is on disk, by part: every piece's key and value."""
    found: dict[str, list[dict[str, Any]]] = {part: [] for part in (*PARTS, "family")}
    for part in PARTS:
        for key, _, _ in pieces(part, size_name):
            value = bench.kept(key)
            if value is not None and {**key, **value} not in found[key["part"]]:
                found[key["part"]].append({**key, **value})
    return found


def write(size_name: str) -> Path:
    """The result file from what is on disk."""
    found = known(size_name)
    bench.arms += all_arms(found, size_name)
    return bench.write(all_claims(found, size_name))


def main() -> None:
    """Parse the options, carry out the parts, write the result file."""
    parser = script_parser(__doc__, PARTS)
    parser.add_argument("--size", choices=list(SIZES), default="small")
    parser.add_argument("--seeds", type=int, default=0, help="fewer seeds than the size has")
    options = parser.parse_args()
    size = options.size
    torch.set_num_threads(1)
    if options.seeds:
        SIZES[size] = replace(SIZES[size], seeds=options.seeds)
    run_script(
        bench, options, lambda part: pieces(part, size), write=lambda: write(size), table=lambda: tables(known(size))
    )


if __name__ == "__main__":
    main()
