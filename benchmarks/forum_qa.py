"""Forum QA's claims: privacy of what is released, readers against baselines, the leak of a random split, distillation, streaming.

    python benchmarks/forum_qa.py                              # everything; pieces that are on disk are not computed again
    python benchmarks/forum_qa.py --parts privacy speed        # some: privacy speed distillation leak public stream readers
    python benchmarks/forum_qa.py --seeds 1                    # fewer seeds (5 by default)
    python benchmarks/forum_qa.py --parts                      # the result file from what is there
    python benchmarks/forum_qa.py --estimate                   # what it would take, and stop

privacy: a forum of its own a seed, built with presidio and with our rules alone. speed: seconds a window of the default's teacher
and student (weights do not matter). distillation: the default run, with and without its teacher; one forum, a seed of training
each. leak: its teacher, on passages dealt out at random. readers: other starts than the default's teacher. public: COVID-QA and
XQuAD from $STILLHOUSE_DATA, in passages of about 400 characters, two seeds. stream: 200 MB, once. Settings were not chosen on
report questions. The estimate measures a few updates of each network first: what is said holds for this machine as busy as it is.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import stillhouse
from stillhouse.core.evidence import Bench, Claim, ClaimedArm, judge, mean_with_interval, print_estimate, ratio_of_means
from stillhouse.core.files import content_hash
from stillhouse.core.options import to_plain
from stillhouse.core.result import Arm, Role
from stillhouse.core.run import temporary_run
from stillhouse.encoders.models import electra_config
from stillhouse.encoders.tokens import load_tokenizer
from stillhouse.methods.forum_qa import estimate
from stillhouse.methods.forum_qa.arms import judged_reader, seconds_each
from stillhouse.methods.forum_qa.config import Config
from stillhouse.methods.forum_qa.data import build_forum, open_data
from stillhouse.methods.forum_qa.reader import new_reader_model, reader_source
from stillhouse.methods.forum_qa.task import shapes_before_training
from stillhouse.methods.forum_qa.training import fine_tuned
from stillhouse.methods.forum_qa.windows import make_windows

PARTS = ("privacy", "speed", "distillation", "leak", "public", "stream", "readers")
TEACHER = Config().reader
READERS = ("minilm", "minilm-4", "minilm-2")
"""Beside the default's teacher, which the part on distillation trains anyway."""
PUBLIC_SETS = ("covidqa", "xquad")
PUBLIC = {"passage_characters": 400, "max_tokens": 192, "stride": 64, "compare": "none"}
SECONDS = {"presidio": 30.0, "rules": 8.0, "speed": 30.0, "stream": 300.0}
"""Of a free core, of what is not training."""
PUBLIC_TOKENS = 1.7
"""Of their windows, over those of the made-up forum, which estimates are for."""
bench = Bench("forum_qa", Path(__file__).parent)
Rows = list[dict[str, float]]


def privacy(seed: int, deidentifier: str) -> dict[str, Any]:
    """What the builder measures on a forum of this seed."""
    config = Config(forum_seed=seed, deidentifier=deidentifier)  # type: ignore[arg-type]
    with temporary_run("forum_qa", seed) as run:
        return build_forum(config, run)


def speed(seed: int) -> dict[str, float]:
    """Seconds a window of networks of the default's shapes, by turns; the best of twenty, so that other work does not count."""
    config = Config(deidentifier="rules", users=60, forum_seed=seed)
    with temporary_run("forum_qa", config.seed) as run:
        questions = open_data(config, run).questions.train[:64]
    windows = make_windows(load_tokenizer(reader_source(config.reader)[0]), questions, config.max_tokens, config.stride)
    shapes = dict(zip(("teacher", "student"), shapes_before_training(config), strict=True))
    models = {name: new_reader_model(electra_config(shape, 30522, 144, 0)).eval() for name, shape in shapes.items()}
    taken: dict[str, float] = {}
    for _ in range(20):
        for name, model in models.items():
            for batch in (1, 32):
                key = f"{name}, batch {batch}"
                taken[key] = min(seconds_each(model, windows, batch), taken.get(key, float("inf")))
    return taken


def one_reader(config: Config, name: str) -> dict[str, float]:
    """A reader fine-tuned and judged."""
    with temporary_run("forum_qa", config.seed) as run:
        questions = open_data(config, run).questions
        made = fine_tuned(config, name, questions, run, "reader")
        row = judged_reader(made.reader, _Judged(questions))  # type: ignore[arg-type]
        return {**row.metrics, "low": row.interval[0], "high": row.interval[1]}


class _Judged:
    """As much of a task as the judging looks at."""

    def __init__(self, questions: Any) -> None:
        self.questions = questions


def whole_run(config: Config) -> dict[str, dict[str, float]]:
    """Metrics of all arms of a run; its folder stays in scratch, so that a killed one goes on and a finished one can be asked."""
    folder = bench.pieces / "runs" / f"{config.data} {decisive(config)['options']} seed {config.seed}"
    if (folder / "config.json").exists():
        run = stillhouse.resume(folder)
    else:
        run = stillhouse.run("forum_qa", out=folder, **to_plain(config))
    return {arm.name: dict(arm.metrics) for arm in run.result.arms}


def stream(_: int) -> dict[str, float]:
    """A process of its own, for its memory."""
    script = Path(__file__).with_name("forum_qa_stream.py")
    return json.loads(subprocess.check_output([sys.executable, str(script), "200"], text=True).splitlines()[-1])


class Piece(NamedTuple):
    """Work that is kept on disk: what decides it, how it is done, and about how long that takes."""

    key: dict[str, Any]
    compute: Callable[[], Any]
    seconds: Callable[[], float]


def pieces(part: str, seed: int) -> list[Piece]:
    """The pieces of a part at a seed."""
    base = Config(seed=seed)
    key = {"part": part, "seed": seed}
    match part:
        case "privacy":
            return [
                Piece({**key, "by": by, "version": 3}, partial(privacy, seed, by), partial(SECONDS.__getitem__, by))
                for by in ("presidio", "rules")
            ]
        case "speed":
            return [Piece({**key, "version": 2}, partial(speed, seed), partial(SECONDS.__getitem__, "speed"))]
        case "distillation":
            return [Piece({**key, **decisive(base)}, partial(whole_run, base), partial(seconds_of, base))]
        case "leak":
            dealt = replace(base, split="random")
            return [Piece({**key, **decisive(dealt)}, partial(one_reader, dealt, TEACHER), partial(seconds_of, dealt, "teacher"))]  # fmt: skip
        case "readers":
            return [
                Piece({**key, "reader": name, **decisive(base)}, partial(one_reader, base, name), partial(seconds_of, replace(base, reader=name), "teacher"))
                for name in READERS
            ]  # fmt: skip
        case "public" if seed < 2:
            configs = [replace(base, data=name, **PUBLIC) for name in PUBLIC_SETS]  # type: ignore[arg-type]
            return [Piece({**key, "data": c.data, **decisive(c)}, partial(whole_run, c), partial(seconds_of, c)) for c in configs]  # fmt: skip
        case "stream" if seed == 0:
            return [Piece(key, partial(stream, 0), partial(SECONDS.__getitem__, "stream"))]
    return []


def decisive(config: Config) -> dict[str, Any]:
    """What of the options decides the numbers: a piece made with other defaults is another piece."""
    return {"options": content_hash([repr({**to_plain(config), "seed": 0})], 12)}


@cache
def seconds_of(config: Config, stage: str = "") -> float:
    """What a training would take here and now: of one stage, or of the whole run."""
    stages = [s for s in estimate(config).stages if s.name.startswith(stage)]
    longer = PUBLIC_TOKENS if config.data in PUBLIC_SETS else 1.0
    return longer * sum(s.seconds for s in stages)


def found(part: str, **more: Any) -> Rows:
    """What is on disk of a part, a seed a row."""
    return list(by_seed(part, **more).values())


def by_seed(part: str, **more: Any) -> dict[int, Any]:
    """The same, by seed."""
    made = [(seed, piece) for seed in range(5) for piece in pieces(part, seed)]
    wanted = [(seed, piece.key) for seed, piece in made if all(piece.key.get(name) == value for name, value in more.items())]  # fmt: skip
    kept = ((seed, bench.kept(key)) for seed, key in wanted)
    return {seed: value for seed, value in kept if value is not None}


PLAIN = ("sliding window of words", "always the first sentence", "always no answer")


def role_of(arm: str) -> Role:
    """What an arm of a run is, by its name."""
    if arm.startswith("teacher"):
        return "teacher"
    return "student" if arm == "student" else "floor" if arm == PLAIN[-1] else "baseline"


def teacher_of(arms: Mapping[str, Mapping[str, float]]) -> Mapping[str, float]:
    """The metrics of a run's teacher."""
    return next(metrics for name, metrics in arms.items() if name.startswith("teacher"))


def claim(name: str, statement: str, values: tuple[float, tuple[float, float]], threshold: str, seeds: int, data: str, part: str, paper: float | None = None, note: str = "") -> Claim:  # fmt: skip
    measured, interval = values
    command = f"python benchmarks/forum_qa.py --parts {part}"
    return Claim(
        name, statement, paper, measured, interval, threshold, seeds, judge(interval, threshold), data, command, note
    )


def privacy_claims() -> list[Claim]:
    made = []
    for by in ("presidio", "rules"):
        rows: list[Any] = found("privacy", by=by)
        if not rows:
            continue
        words = "rules and presidio" if by == "presidio" else "rules alone"
        every = [next(s for s in row["personal"] if s["kind"] == "all") for row in rows]
        for seed, (row, personal) in enumerate(zip(rows, every, strict=True)):
            metrics = {k: float(row[k]) for k in ("gini_before", "gini_after", "found_scrubbed", "found_released", "passages", "answers_lost", "left_out_words")}  # fmt: skip
            metrics |= {
                "recall": personal["recall"],
                "precision": personal["precision"],
                "planted": personal["planted"],
            }
            bench.arms.append(ClaimedArm("privacy", Arm(f"builder, {words}", "student", metrics, seed=seed)))
        note = "the rules were written beside the generator's sentences; other forums will be harder"
        made.append(claim(f"personal-recall-{by}", f"Share of planted personal data taken out, {words}", mean_with_interval([e["recall"] for e in every]), ">= 0.99", len(rows), "made-up forums", "privacy", note=note))  # fmt: skip
        made.append(claim(f"personal-precision-{by}", f"Share of what is taken out that was planted, {words}", mean_with_interval([e["precision"] for e in every]), ">= 0.9", len(rows), "made-up forums", "privacy", note=note))  # fmt: skip
        if by == "presidio":
            made.append(claim("re-identification", "Released passages of which a run of six words is in the source", mean_with_interval([row["found_released"] for row in rows]), "<= 0", len(rows), "made-up forums", "privacy"))  # fmt: skip
            made.append(claim("gini", "Gini coefficient of posts by user, after over before the cap", ratio_of_means([row["gini_after"] for row in rows], [row["gini_before"] for row in rows]), "<= 0.6", len(rows), "made-up forums", "privacy"))  # fmt: skip
    return made


def speed_claims() -> list[Claim]:
    rows = found("speed")
    made = []
    for batch in (1, 32) if rows else ():
        ratio = ratio_of_means([row[f"teacher, batch {batch}"] for row in rows], [row[f"student, batch {batch}"] for row in rows])  # fmt: skip
        made.append(claim(f"speed-{batch}", f"Speed of the student over its teacher, batch {batch}", ratio, ">= 3", len(rows), "made-up forum", "speed"))  # fmt: skip
    return made


def reader_claims() -> list[Claim]:
    made = []
    whole = by_seed("distillation")
    if not whole:
        return []
    plain = next(iter(whole.values()))
    best = max(plain[name]["f1"] for name in PLAIN)
    for arm in PLAIN:
        bench.arms.append(ClaimedArm("readers", Arm(arm, "floor" if arm == PLAIN[-1] else "baseline", plain[arm])))
    rows = {TEACHER: {seed: teacher_of(arms) for seed, arms in whole.items()}}
    rows |= {name: by_seed("readers", reader=name) for name in READERS}
    for name, found_by_seed in rows.items():
        for seed, row in found_by_seed.items():
            bench.arms.append(ClaimedArm("readers", Arm(name, "teacher", row, seed=seed)))
        if found_by_seed:
            gain = mean_with_interval([row["f1"] - best for row in found_by_seed.values()])
            made.append(claim(f"reader-{name}", f"F1 of {name} less that of the best plain baseline ({best:.3f}), split by user", gain, ">= 0", len(found_by_seed), "made-up forum", "readers", note="the paper's readers start from BERT, DistilBERT, RoBERTa and BioBERT (best F1 .885)"))  # fmt: skip
    return made


def distillation_claims() -> list[Claim]:
    rows: list[Any] = found("distillation")
    for seed, arms in enumerate(rows):
        for name, metrics in arms.items():
            bench.arms.append(ClaimedArm("distillation", Arm(name, role_of(name), metrics, seed=seed)))
    if not rows:
        return []
    student = [arms["student"]["f1"] for arms in rows]
    teacher = [teacher_of(arms)["f1"] for arms in rows]
    alone = [arms["student without distillation"]["f1"] for arms in rows]
    gain = mean_with_interval([a - b for a, b in zip(student, alone, strict=True)])
    return [
        claim("keeps-the-teacher", "F1 of the distilled reader over its teacher's", ratio_of_means(student, teacher), ">= 0.97", len(rows), "made-up forum", "distillation"),
        claim("distillation-helps", "F1 of the student with its teacher less without", gain, ">= 0", len(rows), "made-up forum", "distillation"),
    ]  # fmt: skip


def leak_claims() -> list[Claim]:
    by_user, dealt = by_seed("distillation"), by_seed("leak")
    both = sorted(set(by_user) & set(dealt))
    if not both:
        return []
    for seed in both:
        bench.arms.append(ClaimedArm("leak", Arm("reader, split at random", "baseline", dealt[seed], seed=seed)))
        bench.arms.append(ClaimedArm("leak", Arm("reader, split by user", "teacher", teacher_of(by_user[seed]), seed=seed)))  # fmt: skip
    gap = mean_with_interval([dealt[seed]["f1"] - teacher_of(by_user[seed])["f1"] for seed in both])
    note = (
        "users of the made-up forum repeat their stories three times in four: the size of the leak is the generator's"
    )
    return [claim("leak", "F1 on a random split less F1 on a split by user", gap, ">= 0", len(both), "made-up forum", "distillation leak", note=note)]  # fmt: skip


def public_claims() -> list[Claim]:
    made = []
    for data in PUBLIC_SETS:
        rows: list[Any] = found("public", data=data)
        for seed, arms in enumerate(rows):
            for name, metrics in arms.items():
                bench.arms.append(ClaimedArm(f"public {data}", Arm(name, role_of(name), metrics, seed=seed)))  # fmt: skip
        if rows:
            best = max(PLAIN, key=lambda name: rows[0][name]["f1"])
            gains = [teacher_of(arms)["f1"] - arms[best]["f1"] for arms in rows]
            made.append(claim(f"public-{data}", f"F1 of the fine-tuned reader on {data} less that of the best plain baseline ({best})", mean_with_interval(gains), ">= 0", len(rows), data, "public"))  # fmt: skip
    return made


def stream_claims() -> list[Claim]:
    rows = found("stream")
    if not rows:
        return []
    peak = rows[0]["peak_gigabytes"]
    bench.arms.append(ClaimedArm("stream", Arm("build of 200 MB", "student", rows[0])))
    return [claim("stream", "Most memory (GB) while an export of 200 MB is built", (peak, (peak, peak)), "<= 2", 1, "made-up export", "stream", note="one run: a deterministic amount, no interval")]  # fmt: skip


def write() -> None:
    """The result file from what is on disk."""
    groups = (
        privacy_claims,
        speed_claims,
        reader_claims,
        distillation_claims,
        leak_claims,
        public_claims,
        stream_claims,
    )
    claims = [one for group in groups for one in group()]
    print(bench.write(claims))
    for one in claims:
        low, high = one.interval
        print(
            f"{one.verdict:14} {one.measured:.4f} [{low:.4f}, {high:.4f}] {one.threshold:8} n={one.seeds}  {one.statement}"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--estimate", action="store_true")
    asked = parser.parse_args(arguments)
    work = [piece for part in asked.parts for seed in range(asked.seeds) for piece in pieces(part, seed)]
    left = [piece for piece in work if not bench.has(piece.key)]
    print_estimate("forum_qa", sum(piece.seconds() for piece in left), len(left))
    if asked.estimate:
        return
    for piece in work:
        print(piece.key, flush=True)
        bench.piece(piece.key, piece.compute)
    write()


if __name__ == "__main__":
    main()
