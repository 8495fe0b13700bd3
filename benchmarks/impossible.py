"""Impossible Distillation's claims: proximity, critics, self-distillation, and what a million pairs take.

    python benchmarks/impossible.py                            # all parts; pieces that are on disk are not computed again
    python benchmarks/impossible.py --parts proximity speed    # some: proximity runs transfer ablation critics speed
    python benchmarks/impossible.py --seeds 5 --minutes 30     # more seeds; start no further piece after that long
    python benchmarks/impossible.py --estimate                 # what it would take, and stop

The teacher (a GPT-2 of 300,000 parameters pre-trained on the everyday grammar), the student before any pair and the critic are made
once and shared by all seeds; a seed is that of everything sampled, of the students' batches and of what is drawn of the data sets.

proximity: entailed pairs by context length and temperature. runs: the whole method, its arms and controls. ablation: D_T without one
critic at a time, and the student trained on it. transfer: the student of `runs` on sentences of news,
captions and abstracts ($STILLHOUSE_DATA). critics: how right the critics are, on held-out events, SICK, MRPC and STS-B (the last
three need $STILLHOUSE_DATA; `sick` trains MiniLM, about eight processor minutes). speed: pairs a second through all critics, memory.
"""

from __future__ import annotations

import itertools
import resource
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stillhouse.core.benchmark import Work, run_script, script_parser
from stillhouse.core.data import find_public_file
from stillhouse.core.evidence import Bench, Claim, ClaimedArm, judge, mean_with_interval
from stillhouse.core.files import content_hash
from stillhouse.core.options import to_plain
from stillhouse.core.result import Arm
from stillhouse.core.run import Run, temporary_run
from stillhouse.corpus.everyday import ORDER, draw_fact, draw_state, say
from stillhouse.corpus.leakage import Seen
from stillhouse.corpus.sentences import split_sentences
from stillhouse.corpus.text_metrics import bert_ibleu, bleu, greedy_match
from stillhouse.knowledge.readers import Counts, read_documents
from stillhouse.methods import impossible
from stillhouse.methods.biomedical_relations.data import FILES
from stillhouse.methods.impossible import STUDENT, UNFILTERED, WITHOUT, Config
from stillhouse.methods.impossible.config import CRITICS
from stillhouse.methods.impossible.critics import Group, candidate_pairs, judge_pairs
from stillhouse.methods.impossible.dataset import clean, quality, training_rows
from stillhouse.methods.impossible.domain import critic_pairs, load_domain, truth
from stillhouse.methods.impossible.evaluation import Judges
from stillhouse.methods.impossible.generation import teacher_pairs
from stillhouse.methods.impossible.made_here import get_critic, get_language_model, get_student
from stillhouse.methods.impossible.nli import TokenVectors
from stillhouse.methods.impossible.proximity import measure_proximity
from stillhouse.methods.impossible.seq2seq import rewrite
from stillhouse.methods.impossible.workshop import Trained, Workshop

bench = Bench("impossible", Path(__file__).parent)
BASE = Config(proximity=False)
SPEED_CONTEXTS, SPEED_SENTENCES = 10, 100
VERSION = 1


def run_whole(config: Config) -> dict[str, Any]:
    """A whole run's arms and the qualities of its data sets."""
    folder = bench.pieces / f"run {content_hash([repr(config)])}"  # a killed benchmark goes on inside the run
    if not (folder / "config.json").exists():
        Run.create("impossible", to_plain(config), out=folder, quiet=True).close()
    with Run.open(folder, quiet=True) as run:
        result = impossible.distill(config, run)
        tables = {table.title: [list(row) for row in table.rows] for table in result.tables}
        return {
            "arms": {arm.name: dict(arm.metrics) for arm in result.arms},
            "quality": run.kept("quality", dict),
            "right": tables.get("Are the pairs right?", []),
            "codes": tables["Control codes"],
            "funnels": {name: tables[f"Funnel of {name}"] for name in ("D_T", "D_self")},
        }


def proximity(config: Config) -> list[dict[str, Any]]:
    """Rows of the proximity table."""
    domain = load_domain(config)
    with temporary_run("impossible", config.seed) as run:
        critic, teacher = get_critic(config, run), get_language_model(config, domain, run)
        return measure_proximity(teacher, critic, config, run)


def without(left_out: str, config: Config) -> dict[str, float]:
    """D_T without one critic (or with all), and the student trained on it."""
    critics = tuple(name for name in CRITICS if name != left_out)
    config = replace(config, critics=critics)
    domain = load_domain(config)
    with temporary_run("impossible", config.seed) as run:
        critic, teacher = get_critic(config, run), get_language_model(config, domain, run)
        made = teacher_pairs(teacher, critic, config, run)
        pairs = clean(made.pairs, config, Seen(domain.report.inputs), made.funnel)
        rows = training_rows(pairs, both_ways=True)
        workshop = Workshop(config, domain, Judges(critic, TokenVectors()), run)
        start = Trained(get_student(config, domain, run), 0, 0.0)
        trained = workshop.train(start, rows, config.updates + config.self_updates, "student")
        arm, _ = workshop.student_arm("student", "student", trained)
        right = float(np.mean([truth(x, y, "paraphrase") or False for x, y in rows]))
        return {**arm.metrics, "rows": float(len(rows)), "rows_right": right, "rows_h3": quality(rows[:400])["H3"]}


def critic_quality(name: str, config: Config) -> dict[str, dict[str, float]]:
    """Accuracy of a critic at its threshold and at 0.5, on everything it can be asked about here."""
    with temporary_run("impossible", 0) as run:
        critic = get_critic(replace(config, critic=name), run)
    return {data: _told(critic, *rows, config.entailment) for data, rows in _labelled(name).items()}


def _labelled(critic: str, most: int = 1500) -> dict[str, tuple[list[str], list[str], np.ndarray]]:
    """Pairs and whether the second follows: held-out events, SICK's test, MRPC, STS-B (4 or more of 5)."""
    import pandas as pd

    from stillhouse.core.data import PublicFile, find_public_file
    from stillhouse.encoders.public import mrpc, sick

    held_out = critic_pairs(2000, "report", 1)
    found = {"held-out events": (list(held_out.premises), list(held_out.hypotheses), held_out.entailed)}
    if critic == "everyday":
        return found
    for data in (sick(), mrpc()):
        report = data.report.take(np.arange(min(most, len(data.report))))
        yes = data.class_names.index("ENTAILMENT" if data.name == "sick" else "1")
        found[data.name] = (list(report.first), list(report.second or ()), report.labels == yes)
    file = find_public_file(
        PublicFile("stsb/stsb-en-test.csv", "https://github.com/PhilipMay/stsb-multi-mt, data/stsb-en-test.csv")
    )
    table = pd.read_csv(file, header=None)[:most]
    found["sts-b"] = (table[0].astype(str).tolist(), table[1].astype(str).tolist(), (table[2] >= 4).to_numpy())
    return found


def _told(critic: Any, x: list[str], y: list[str], labels: np.ndarray, threshold: float) -> dict[str, float]:
    said = critic.entailment(x, y)
    passed = said >= threshold
    return {
        "accuracy": float(((said >= 0.5) == labels).mean()),
        "precision": float(labels[passed].mean()) if passed.any() else float("nan"),
        "recall": float(passed[labels].mean()),
        "most frequent": float(max(labels.mean(), 1 - labels.mean())),
    }


def speed(config: Config) -> dict[str, Any]:
    """Candidate pairs through all critics: processor seconds, each critic's share, memory before and after the second half."""
    with temporary_run("impossible", 0) as run:
        critic = get_critic(config, run)
    random = np.random.default_rng(0)
    judge_pairs([_context(random, 4)], config, critic)  # loads the parser
    spent: dict[str, float] = {}
    pairs, memory = 0, []
    started = time.process_time()
    for _half in range(2):
        for _ in range(SPEED_CONTEXTS // 2):
            _, funnel = judge_pairs([_context(random, SPEED_SENTENCES)], config, critic)
            pairs += funnel.counts["candidate pairs"]
            for name, seconds in funnel.seconds.items():
                spent[name] = spent.get(name, 0.0) + seconds
        memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return {"pairs": pairs, "seconds": time.process_time() - started, "wall": spent, "megabytes": memory}


def _context(random: np.random.Generator, count: int) -> Group:
    """Sentences as a language model's continuations of one context are: one state, two kinds of event, many wordings."""
    state = draw_state(random)
    kinds = [str(kind) for kind in random.permutation(ORDER)[:2]]
    lines: dict[str, None] = {}
    while len(lines) < count:
        told = dict(state)
        if random.random() < 0.5:
            told["number"] = int(random.integers(8))
        lines.setdefault(say(draw_fact(kinds[int(random.random() < 0.3)], told, random), random))
        if random.random() < 0.002:  # few wordings are left: another state
            state = draw_state(random)
    return Group("", tuple(lines), candidate_pairs(count, both_ways=True))


def transfer(config: Config) -> dict[str, dict[str, dict[str, float]]]:
    """Arm -> set -> scores on sentences of other kinds, of the student of `run_whole`: no teacher here has seen such text."""
    run_whole(config)
    rewriter = impossible.load(bench.pieces / f"run {content_hash([repr(config)])}" / "model")
    vectors, found = TokenVectors(), {}
    for data, lines in _other_sentences().items():
        made = [said[0] for said in rewrite(rewriter.student, lines)]
        arms = {"student": made, "copy of the input": lines, "another sentence of the set": [*lines[1:], lines[0]]}
        found[data] = {name: _likeness(lines, out, vectors) for name, out in arms.items()}
    return found


def _other_sentences(most: int = 200) -> dict[str, list[str]]:
    """News (MRPC's report split), captions and headlines (STS-B's test part), abstracts (BioRED's development part)."""
    labelled = _labelled("sick", most)
    documents = read_documents(find_public_file(FILES["biored_Dev"]), Counts())
    sentences = (sentence for document in documents for sentence in split_sentences(document.text))
    return {
        "MRPC": labelled["mrpc"][0],
        "STS-B": labelled["sts-b"][0],
        "BioRED": list(itertools.islice(sentences, most)),
    }


def _likeness(inputs: list[str], outputs: list[str], vectors: TokenVectors) -> dict[str, float]:
    like = [greedy_match(a, b) for a, b in zip(vectors(inputs), vectors(outputs), strict=True)]
    copied = [bleu(y, [x]) for x, y in zip(inputs, outputs, strict=True)]
    scores = [bert_ibleu(s, c) for s, c in zip(like, copied, strict=True)]
    return {
        "bert_ibleu": 100 * float(np.mean(scores)),
        "likeness": float(np.mean(like)),
        "bleu_input": float(np.mean(copied)),
    }


def pieces(part: str, seeds: int) -> Iterator[Work]:
    """Key, work and estimated processor seconds of a part's pieces."""
    for seed in range(seeds):
        config = replace(BASE, seed=seed)
        if part == "proximity":
            yield Work({"part": part, "seed": seed, "version": VERSION}, lambda c=config: proximity(c), 25)
        if part == "runs":
            yield Work({"part": part, "seed": seed, "version": VERSION}, lambda c=config: run_whole(c), 200)
        if part == "transfer" and seed < 3:
            yield Work({"part": part, "seed": seed, "version": VERSION}, lambda c=config: transfer(c), 40)
        if part == "ablation" and seed < 2:
            for name in ("none", *CRITICS):
                key = {"part": part, "left out": name, "seed": seed, "version": VERSION}
                yield Work(key, lambda c=config, n=name: without(n, c), 70)
    if part == "critics":
        for name, seconds in (("everyday", 10), ("embedding", 150), ("sick", 600)):
            key = {"part": part, "critic": name, "version": VERSION}
            yield Work(key, lambda n=name: critic_quality(n, BASE), seconds)
    if part == "speed":
        yield Work({"part": part, "version": VERSION}, lambda: speed(BASE), 40)


PARTS = ("proximity", "runs", "transfer", "ablation", "critics", "speed")


def kept(part: str, seeds: int) -> list[tuple[dict[str, Any], Any]]:
    """Pieces of a part that are on disk."""
    found = [(key, bench.kept(key)) for key, _, _ in pieces(part, seeds)]
    return [(key, value) for key, value in found if value is not None]


def claim(
    name: str,
    statement: str,
    values: list[float],
    threshold: str,
    part: str,
    paper: float | None = None,
    note: str = "",
) -> Claim:
    """A claim from one number a seed."""
    mean, interval = mean_with_interval(values)
    verdict = judge(interval, threshold)
    command = f"python benchmarks/impossible.py --parts {part} --seeds {len(values)}"
    return Claim(name, statement, paper, mean, interval, threshold, len(values), verdict, "everyday", command, note)


def made_claims(seeds: int) -> list[Claim]:
    """All claims that the pieces on disk allow."""
    made: list[Claim] = []
    near = [rows for _, rows in kept("proximity", seeds)]
    if near:

        def rate(rows: list[dict[str, Any]], **where: float) -> float:
            return float(np.mean([r["entailed"] for r in rows if all(r[k] == v for k, v in where.items())]))

        made.append(
            claim(
                "proximity-context",
                "Continuations of three sentences of context entail one another more often than those of one (difference of shares)",
                [rate(r, sentences=3) - rate(r, sentences=1) for r in near],
                ">= 0",
                "proximity",
            )
        )
        made.append(
            claim(
                "proximity-temperature",
                "And at temperature 0.5 more often than at 1.0",
                [rate(r, temperature=0.5) - rate(r, temperature=1.0) for r in near],
                ">= 0",
                "proximity",
            )
        )
    runs = [value for _, value in kept("runs", seeds)]
    if runs:

        def gap(arm: str, other: str, metric: str) -> list[float]:
            return [run["arms"][arm][metric] - run["arms"][other][metric] for run in runs]

        student = f"student {STUDENT}"
        told = "teacher, told to do it"
        made += [
            claim(
                "self-distillation",
                "BERT-iBLEU with self-distillation less that of as many updates on D_T (paper: 67.1 - 64.0)",
                gap(student, f"student {WITHOUT}", "bert_ibleu"),
                ">= 0",
                "runs",
                3.1,
            ),
            claim(
                "self-distillation-good",
                "Share of good paraphrases, the same difference",
                gap(student, f"student {WITHOUT}", "good"),
                ">= 0",
                "runs",
            ),
            claim(
                "critics-needed",
                "Share of good paraphrases less that of a student trained on as many candidate pairs that no critic saw",
                gap(student, f"student {UNFILTERED}", "good"),
                ">= 0.1",
                "runs",
            ),
            claim(
                "beats-teacher",
                "Share of good paraphrases less that of its teacher told to do it with an example",
                gap(student, told, "good"),
                ">= 0.1",
                "runs",
            ),
            claim(
                "set-diversity",
                "H3 of D_self less that of D_T, sets of equal size (bits)",
                [r["quality"]["D_self"]["H3"] - r["quality"]["D_T"]["H3"] for r in runs],
                ">= 0",
                "runs",
            ),
        ]
    told_of = [value for _, value in kept("transfer", seeds)]
    for data in told_of[0] if told_of else ():
        made.append(
            claim(
                f"transfer-{data}",
                f"BERT-iBLEU on sentences of {data} less that of another sentence of the set",
                [
                    t[data]["student"]["bert_ibleu"] - t[data]["another sentence of the set"]["bert_ibleu"]
                    for t in told_of
                ],
                ">= 0",
                "transfer",
                note="Teacher and student have seen the everyday grammar alone. With GPT-2 and T5 folders on a GPU: "
                "stillhouse run impossible --preset paper --teacher ./gpt2-xl --student ./t5-v1_1-large --critic ./roberta-large-wanli --data medquad",
            )
        )
    for _, value in kept("speed", seeds):
        seconds = value["seconds"] / value["pairs"] * 1e6 / 2 / 60
        made.append(
            Claim(
                "million-pairs",
                "Minutes for a million candidate pairs through all critics on two cores",
                None,
                seconds,
                (seconds, seconds),
                "<= 20",
                1,
                judge((seconds, seconds), "<= 20"),
                "everyday",
                "python benchmarks/impossible.py --parts speed",
                f"from {value['pairs']:,} pairs in {value['seconds']:.0f} processor seconds of one core, halved for two; one measurement",
            )
        )
    return made


def made_arms(seeds: int) -> list[ClaimedArm]:
    """Every measured arm."""
    arms = []
    for key, value in kept("runs", seeds):
        for name, metrics in value["arms"].items():
            role = (
                "student"
                if name == f"student {STUDENT}"
                else "teacher"
                if name.startswith("teacher")
                else "floor"
                if "input" in name
                else "baseline"
            )
            arms.append(ClaimedArm("runs", Arm(name, role, metrics, seed=key["seed"])))
    for key, value in kept("transfer", seeds):
        for data, by_arm in value.items():
            arms += [
                ClaimedArm(
                    f"transfer to {data}",
                    Arm(name, "student" if name == "student" else "floor", scores, seed=key["seed"]),
                )
                for name, scores in by_arm.items()
            ]
    for key, value in kept("ablation", seeds):
        arms.append(ClaimedArm("ablation", Arm(f"without {key['left out']}", "baseline", value, seed=key["seed"])))
    return arms


def table(seeds: int) -> str:
    """The tables of docs/methods/impossible.md."""
    lines: list[str] = []
    near = [rows for _, rows in kept("proximity", seeds)]
    if near:
        temperatures = sorted({row["temperature"] for row in near[0]})
        lines += [f"proximity, {len(near)} seeds: sentences | " + " | ".join(f"T {t:g}" for t in temperatures)]
        for length in sorted({row["sentences"] for row in near[0]}):
            cells = [
                np.mean(
                    [r["entailed"] for rows in near for r in rows if r["sentences"] == length and r["temperature"] == t]
                )
                for t in temperatures
            ]
            lines.append(f"| {length} | " + " | ".join(f"{100 * c:.1f} %" for c in cells) + " |")
    runs = [value for _, value in kept("runs", seeds)]
    keys = ("good", "right", "bert_ibleu", "ibleu", "rouge_input", "ted_input", "h3")
    for arm in runs[0]["arms"] if runs else ():
        cells = [[run["arms"][arm][key] for run in runs] for key in keys]
        lines.append(
            f"| {arm} | "
            + " | ".join(f"{np.mean(c):.3g} ± {np.std(c, ddof=1) if len(c) > 1 else 0:.2g}" for c in cells)
            + " |"
        )
    for name in runs[0]["quality"] if runs else ():
        row = {k: np.mean([run["quality"][name][k] for run in runs]) for k in runs[0]["quality"][name]}
        lines.append(f"| {name} | " + " | ".join(f"{k} {v:.3g}" for k, v in row.items()) + " |")
    if runs:
        lines += [f"{run['right']} {run['codes']}" for run in runs]
    for key, value in kept("ablation", seeds):
        lines.append(
            f"| without {key['left out']} (seed {key['seed']}) | "
            + " | ".join(
                f"{k} {value[k]:.3g}"
                for k in ("rows", "rows_right", "rows_h3", "good", "right", "bert_ibleu", "rouge_input", "ted_input")
            )
            + " |"
        )
    lines += [f"{key}: {value}" for part in ("critics", "speed") for key, value in kept(part, seeds)]
    return "\n".join(lines)


def write(seeds: int) -> Path:
    """The result file from what is on disk."""
    bench.arms = made_arms(seeds)
    return bench.write(made_claims(seeds))


def main() -> None:
    parser = script_parser(__doc__, PARTS, table="the figures of docs/methods/impossible.md")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    seeds = options.seeds
    torch.set_num_threads(1)
    run_script(bench, options, lambda part: pieces(part, seeds), write=lambda: write(seeds), table=lambda: table(seeds))


if __name__ == "__main__":
    main()
