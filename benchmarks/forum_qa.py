"""Forum QA's claims: privacy of what is released, readers against baselines, the leak of a random split, distillation, streaming.

    python benchmarks/forum_qa.py                              # everything; pieces that are on disk are not computed again
    python benchmarks/forum_qa.py --parts privacy speed        # some: privacy speed readers distillation leak public stream
    python benchmarks/forum_qa.py --seeds 1                    # fewer seeds (5 by default)
    python benchmarks/forum_qa.py --parts                      # the result file from what is there
    python benchmarks/forum_qa.py --estimate                   # what it would take, and stop

privacy: a forum of its own a seed, built with presidio and with our rules alone. speed: seconds a window of the default teacher and
student (weights do not matter). readers: four starts (minilm with 6, 4, 3, 2 layers) on the split by user, one forum, a seed of
training each. distillation: the default's student with and without its teacher. leak: the same reader on both splits. public:
COVID-QA and XQuAD from $STILLHOUSE_DATA. stream: 200 MB. Settings were not chosen on report questions.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import stillhouse
from stillhouse.core.evidence import Bench, Claim, ClaimedArm, judge, mean_with_interval, print_estimate, ratio_of_means
from stillhouse.core.options import to_plain
from stillhouse.core.result import Arm
from stillhouse.core.run import temporary_run
from stillhouse.encoders.models import electra_config
from stillhouse.encoders.tokens import load_tokenizer
from stillhouse.methods.forum_qa.arms import judged_reader, plain_arms, seconds_each
from stillhouse.methods.forum_qa.config import Config
from stillhouse.methods.forum_qa.data import build_forum, open_data
from stillhouse.methods.forum_qa.reader import new_reader_model, reader_source
from stillhouse.methods.forum_qa.task import shapes_before_training
from stillhouse.methods.forum_qa.training import fine_tuned
from stillhouse.methods.forum_qa.windows import make_windows

PARTS = ("privacy", "speed", "readers", "distillation", "leak", "public", "stream")
READERS = ("minilm", "minilm-4", "minilm-3", "minilm-2")
MINUTES = {
    "privacy": 0.6,
    "speed": 0.3,
    "readers": 25.0,
    "distillation": 8.0,
    "leak": 8.0,
    "public": 12.0,
    "stream": 12.0,
}
"""Of one core, a seed; a guess from single runs on a busy machine."""
bench = Bench("forum_qa", Path(__file__).parent)
Rows = list[dict[str, float]]


def privacy(seed: int, deidentifier: str) -> dict[str, Any]:
    """What the builder measures on a forum of this seed."""
    config = Config(forum_seed=seed, deidentifier=deidentifier)  # type: ignore[arg-type]
    with temporary_run("forum_qa", seed) as run:
        return build_forum(config, run)


def speed(seed: int) -> dict[str, float]:
    """Seconds a window of networks of the default's shapes, by turns; the best of five."""
    config = Config(deidentifier="rules", users=60, forum_seed=seed)
    with temporary_run("forum_qa", config.seed) as run:
        questions = open_data(config, run).questions.train[:64]
    windows = make_windows(load_tokenizer(reader_source(config.reader)[0]), questions, config.max_tokens, config.stride)
    shapes = dict(zip(("teacher", "student"), shapes_before_training(config), strict=True))
    models = {name: new_reader_model(electra_config(shape, 30522, 144, 0)).eval() for name, shape in shapes.items()}
    taken = {name: {f"batch {b}": min(seconds_each(model, windows, b) for _ in range(5)) for b in (1, 32)} for name, model in models.items()}  # fmt: skip
    return {f"{name}, {batch}": value for name, row in taken.items() for batch, value in row.items()}


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
    """Metrics of all arms of a run."""
    with tempfile.TemporaryDirectory() as scratch:
        options = dict(to_plain(config).items())
        run = stillhouse.run("forum_qa", out=Path(scratch) / "run", quiet=True, checkpoint_seconds=1e9, **options)
        return {arm.name: dict(arm.metrics) for arm in run.result.arms}


def plain_rows(config: Config) -> dict[str, dict[str, float]]:
    """Metrics of the baselines without a network."""
    with temporary_run("forum_qa", config.seed) as run:
        task = _Judged(open_data(config, run).questions)
        task.config = config  # type: ignore[attr-defined]
        return {arm.name: dict(arm.metrics) for arm, _ in plain_arms(task, run)}  # type: ignore[arg-type]


def stream(_: int) -> dict[str, float]:
    """A process of its own, for its memory."""
    script = Path(__file__).with_name("forum_qa_stream.py")
    return json.loads(subprocess.check_output([sys.executable, str(script), "200"], text=True).splitlines()[-1])


def pieces(part: str, seed: int) -> list[tuple[dict[str, Any], Callable[[], Any]]]:
    """Key and work of every piece of a part at a seed."""
    base = Config(deidentifier="rules", seed=seed)
    key = {"part": part, "seed": seed}
    match part:
        case "privacy":
            return [({**key, "by": by, "version": 2}, lambda by=by: privacy(seed, by)) for by in ("presidio", "rules")]  # type: ignore[misc]
        case "speed":
            return [(key, lambda: speed(seed))]
        case "readers":
            made = [({**key, "reader": name}, lambda name=name: one_reader(base, name)) for name in READERS]  # type: ignore[misc]
            return [*made, *([({**key, "reader": "plain"}, lambda: plain_rows(base))] if seed == 0 else [])]
        case "distillation":
            return [(key, lambda: whole_run(base))]
        case "leak":
            return [
                ({**key, "split": split}, lambda split=split: one_reader(replace(base, split=split), "minilm-3"))  # type: ignore[misc]
                for split in ("user", "random")
            ]
        case "public" if seed < 2:
            sets = {"covidqa": {"max_tokens": 320, "stride": 96}, "xquad": {"max_tokens": 320, "stride": 96}}
            return [
                ({**key, "data": name}, lambda n=name, o=options: whole_run(replace(base, data=n, **o)))
                for name, options in sets.items()
            ]  # type: ignore[misc]
        case "stream" if seed == 0:
            return [(key, lambda: stream(0))]
    return []


def found(part: str, **more: Any) -> Rows:
    """What is on disk of a part, a seed a row."""
    values = (bench.kept({"part": part, "seed": seed, **more}) for seed in range(5))
    return [value for value in values if value is not None]


def claim(name: str, statement: str, values: tuple[float, tuple[float, float]], threshold: str, seeds: int, data: str, part: str, paper: float | None = None, note: str = "") -> Claim:  # fmt: skip
    measured, interval = values
    command = f"python benchmarks/forum_qa.py --parts {part}"
    return Claim(
        name, statement, paper, measured, interval, threshold, seeds, judge(interval, threshold), data, command, note
    )


def privacy_claims() -> list[Claim]:
    made = []
    for by in ("presidio", "rules"):
        rows: list[Any] = found("privacy", by=by, version=2)
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
    plain: list[Any] = found("readers", reader="plain")
    for name in READERS:
        rows = found("readers", reader=name)
        for seed, row in enumerate(rows):
            bench.arms.append(ClaimedArm("readers", Arm(name, "teacher", row, seed=seed)))
        if rows and plain:
            best = max(arm["f1"] for arm in plain[0].values())
            gain = mean_with_interval([row["f1"] - best for row in rows])
            made.append(claim(f"reader-{name}", f"F1 of {name} less that of the best plain baseline ({best:.3f}), split by user", gain, ">= 0", len(rows), "made-up forum", "readers", note="the paper's readers start from BERT, DistilBERT, RoBERTa and BioBERT (best F1 .885)"))  # fmt: skip
    for arm, metrics in plain[0].items() if plain else ():
        bench.arms.append(ClaimedArm("readers", Arm(arm, "baseline", metrics)))
    return made


def distillation_claims() -> list[Claim]:
    rows: list[Any] = found("distillation")
    for seed, arms in enumerate(rows):
        for name, metrics in arms.items():
            role = "teacher" if name.startswith("teacher") else "student" if name == "student" else "baseline"
            bench.arms.append(ClaimedArm("distillation", Arm(name, role, metrics, seed=seed)))  # type: ignore[arg-type]
    if not rows:
        return []
    student = [arms["student"]["f1"] for arms in rows]
    teacher = [next(m["f1"] for n, m in arms.items() if n.startswith("teacher")) for arms in rows]
    alone = [arms["student without distillation"]["f1"] for arms in rows]
    gain = mean_with_interval([a - b for a, b in zip(student, alone, strict=True)])
    return [
        claim("keeps-the-teacher", "F1 of the distilled reader over its teacher's", ratio_of_means(student, teacher), ">= 0.97", len(rows), "made-up forum", "distillation"),
        claim("distillation-helps", "F1 of the student with its teacher less without", gain, ">= 0", len(rows), "made-up forum", "distillation"),
    ]  # fmt: skip


def leak_claims() -> list[Claim]:
    user, dealt = found("leak", split="user"), found("leak", split="random")
    n = min(len(user), len(dealt))
    if not n:
        return []
    gap = mean_with_interval([b["f1"] - a["f1"] for a, b in zip(user[:n], dealt[:n], strict=True)])
    note = (
        "users of the made-up forum repeat their stories three times in four: the size of the leak is the generator's"
    )
    return [
        claim(
            "leak",
            "F1 on a random split less F1 on a split by user",
            gap,
            ">= 0",
            n,
            "made-up forum",
            "leak",
            note=note,
        )
    ]


def public_claims() -> list[Claim]:
    made = []
    for data in ("covidqa", "xquad"):
        rows: list[Any] = found("public", data=data)
        for seed, arms in enumerate(rows):
            for name, metrics in arms.items():
                bench.arms.append(ClaimedArm(f"public {data}", Arm(name, "teacher" if name.startswith("teacher") else "baseline", metrics, seed=seed)))  # fmt: skip
        if rows:
            gains = [next(m["f1"] for n, m in arms.items() if n.startswith("teacher")) - arms["sliding window of words"]["f1"] for arms in rows]  # fmt: skip
            made.append(claim(f"public-{data}", f"F1 of the fine-tuned reader less the sliding window's on {data}", mean_with_interval(gains), ">= 0", len(rows), data, "public"))  # fmt: skip
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
    left = [key for key, _ in work if not bench.has(key)]
    print_estimate("forum_qa", sum(60 * MINUTES[key["part"]] for key in left), len(left))
    if asked.estimate:
        return
    for key, compute in work:
        print(key, flush=True)
        bench.piece(key, compute)
    write()


if __name__ == "__main__":
    main()
