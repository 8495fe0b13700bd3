"""A paraphrase or summary data set, and a small model, from a language model that can do neither.

Impossible Distillation: from Low-Quality Model to High-Quality Dataset & Model for Summarization and Paraphrasing
(arXiv 2305.16635).

A language model that goes on from one context many times often says the same thing in other words (paraphrastic proximity).

    c_i ~ p_T(.)      s_i1 .. s_ik ~ p_T(. | c_i)      C_i = {(s_m, s_n), m != n}
    D_T = critics(union of C_i)                        f_sem, f_diss, f_len, f_num, f_div of `critics`
    M_S = argmax E_(x, y) in D_T  log p(y | x)
    D_self = critics{(x, y): x ~ p_T(. | c), y ~ M_S(. | x)}          M_S is trained on, with D_self
    L = - sum_(x, y) sum_t log p_S(y_t | y_<t, [codes(x, y),] x)

Where the paper and its released code differ, and what is done here: continuations at temperature 0.7 (paper); of a component the
pair that is entailed most stays (paper; the code keeps the least); tree distance is there (paper; not in the code), on dependency
trees, so with a threshold of its own; a window of lengths and consistent numbers (code), the latter in both directions, which
the code's loop fails to look at; both orders of a pair (paper; the code has one). A pair is asked about one direction first and about the
other only if it passed. Near-duplicates go by MinHash. Every student of a table has as many updates.

Nobody can fetch GPT-2 or T5 offline, so by default a small GPT-2 and a small T5 are pre-trained on a seeded grammar of everyday
events (`corpus.everyday`), in which the truth about every pair is known, and so is what a critic gets wrong.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stillhouse.core.estimate import Estimate, Stage
from stillhouse.core.files import write_json
from stillhouse.core.result import Arm, Result, Table
from stillhouse.core.run import Run
from stillhouse.core.seeding import derive_seed
from stillhouse.corpus.leakage import Seen
from stillhouse.methods.impossible import report
from stillhouse.methods.impossible.commands import COMMANDS
from stillhouse.methods.impossible.config import Config, Size
from stillhouse.methods.impossible.critics import Funnel
from stillhouse.methods.impossible.dataset import Pair, clean, leakage, quality, training_rows, write_card, write_pairs
from stillhouse.methods.impossible.domain import Domain, load_domain, truth
from stillhouse.methods.impossible.evaluation import Judges, metrics_of
from stillhouse.methods.impossible.generation import Made, student_pairs, teacher_pairs
from stillhouse.methods.impossible.made_here import critic_name, get_critic, get_language_model, get_student
from stillhouse.methods.impossible.nli import TokenVectors
from stillhouse.methods.impossible.portable import portable
from stillhouse.methods.impossible.proximity import measure_proximity
from stillhouse.methods.impossible.rewriter import Rewriter, load_rewriter, save_rewriter
from stillhouse.methods.impossible.trial import TRIALS
from stillhouse.methods.impossible.workshop import Trained, Workshop

__all__ = ["COMMANDS", "PRESETS", "TRIALS", "Config", "distill", "estimate", "load", "portable"]

PRESETS = {
    "laptop": Config(),
    "paper": Config(
        data="medquad",
        teacher="gpt2-xl",
        student="t5-v1_1-large",
        critic="roberta-large-wanli",
        prefixes=("(CNN) --", "LONDON, England (CNN) --", "NEW YORK (Reuters) --", "WASHINGTON (AP) --"),
        contexts=150_000,
        context_sentences=(1, 5),
        context_tokens=150,
        continuations=100,
        sentence_tokens=100,
        no_repeat_ngram=3,
        least_tree_distance=12,
        paraphrase_length=(0.8, 1.5),
        self_inputs=1_000_000,
        self_outputs=10,
        updates=50_000,
        self_updates=100_000,
        batch=64,
        learning_rate=1e-4,
        judged=1000,
        shard=500,
    ),
}
STUDENT, WITHOUT, FIRST = "with self-distillation", "without, as many updates on D_T", "after D_T"
UNFILTERED, UNTRAINED = "on pairs that no critic saw", "before any pair"


def distill(config: Config, run: Run) -> Result:
    """Contexts, continuations, critics, D_T, student, D_self, student; and who else could have done it."""
    domain = load_domain(config)
    run.log(f"{domain.name}: {len(domain.documents):,} documents, {len(domain.report.inputs)} held-out inputs")
    critic = get_critic(config, run)
    teacher = get_language_model(config, domain, run)
    start = Trained(get_student(config, domain, run), 0, 0.0)
    held_out = Seen([*domain.report.inputs, *(text for some in domain.report.references or () for text in some)])
    workshop = Workshop(config, domain, Judges(critic, TokenVectors()), run)

    first = teacher_pairs(teacher, critic, config, run)
    d_t = clean(first.pairs, config, held_out, first.funnel)
    _require_pairs("D_T", d_t, first.funnel)
    rows = training_rows(d_t, both_ways=config.both_ways)
    after_first = workshop.train(start, rows, config.updates, "student on D_T")

    second = student_pairs(teacher, after_first.student, critic, config, run)
    d_self = clean(second.pairs, config, held_out, second.funnel)
    _require_pairs("D_self", d_self, second.funnel)
    self_rows = training_rows(d_self, both_ways=config.both_ways)
    trained = {
        STUDENT: workshop.train(after_first, self_rows, config.self_updates, "student on D_self"),
        WITHOUT: workshop.train(after_first, rows, config.self_updates, "student on D_T again"),
        UNFILTERED: workshop.train(
            start,
            _unfiltered(first, len(rows), config),
            config.updates + config.self_updates,
            "student on unfiltered pairs",
        ),
    }
    save_rewriter(trained[STUDENT].student, config, run.model_folder)
    _save_data(
        config, domain, critic_name(config), {"d_t": (d_t, first.funnel), "d_self": (d_self, second.funnel)}, run
    )
    arms, speeds = _arms(workshop, trained, after_first, start, teacher, run)
    tables = [
        report.funnel_table("D_T", first, first.funnel.counts, first.funnel.seconds),
        report.funnel_table("D_self", second, second.funnel.counts, second.funnel.seconds),
        *_set_tables(domain, rows, self_rows, d_t, d_self, first, config, workshop),
        report.code_table(
            run.kept("codes", lambda: {"rows": workshop.obedience(trained[STUDENT], domain.report.inputs)})["rows"]
        ),
        report.speed_table(
            {"teacher, D_T": first.throughput, "teacher and student, D_self": second.throughput, **speeds}
        ),
        report.example_table(run, [f"student {STUDENT}", f"student {WITHOUT}", "teacher, told to do it"]),
    ]
    pictures = []
    if config.proximity:
        points = run.kept("proximity", lambda: {"rows": measure_proximity(teacher, critic, config, run)})["rows"]
        tables.insert(0, report.proximity_table(points))
        pictures.append(report.proximity_picture(points, run))
    known = domain.name == "everyday"
    return Result(
        "impossible",
        _sentence(config, arms, d_t, d_self, first),
        metrics_of(config, domain.report, known=known),
        tuple(arms),
        pictures=tuple(pictures),
        tables=tuple(tables),
        notes=_notes(config, domain, critic.name, len(domain.report.inputs)),
    )


def _require_pairs(name: str, pairs: Sequence[Pair], funnel: Funnel) -> None:
    from stillhouse.core.errors import require

    require(
        bool(pairs), f"nothing of {name} is left ({funnel.words()})", "draw more contexts, or raise --near-duplicate"
    )


def _unfiltered(made: Made, count: int, config: Config) -> list[tuple[str, str]]:
    """As many candidate pairs as D_T has rows, as they came."""
    random = np.random.default_rng(derive_seed("unfiltered", config.seed))
    order = random.permutation(len(made.unfiltered))[:count]
    return [made.unfiltered[i] for i in order]


def _save_data(
    config: Config, domain: Domain, critic: str, sets: Mapping[str, tuple[Sequence[Pair], Funnel]], run: Run
) -> None:
    folder = run.model_folder / "data"
    for name, (pairs, _) in sets.items():
        write_pairs(pairs, folder / f"{name}.jsonl")
    facts = {
        "task": config.task,
        "teacher": "a small GPT-2 pre-trained on the text below"
        if config.teacher == "train"
        else Path(config.teacher).name,
        "text": f"{domain.name} ({domain.licence})",
        "entailment critic": critic,
        "critics": ", ".join(name for name in config.critics if config.has(name)),
        "seed": config.seed,
    }
    write_card(
        folder / "README.md",
        config,
        facts,
        {name: funnel for name, (_, funnel) in sets.items()},
        {name: pairs for name, (pairs, _) in sets.items()},
    )
    write_json(folder / "funnels.json", {name: funnel.counts for name, (_, funnel) in sets.items()})


def _arms(
    workshop: Workshop, trained: Mapping[str, Trained], after_first: Trained, start: Trained, teacher: Any, run: Run
) -> tuple[list[Arm], dict[str, Any]]:
    arms, speeds = [], {}
    for name, made in {**trained, FIRST: after_first, UNTRAINED: start}.items():
        arm, speed = workshop.student_arm(f"student {name}", "student" if name == STUDENT else "baseline", made)
        arms.append(arm)
        if name == STUDENT:
            speeds["student, one output an input"] = speed
    arms.append(workshop.teacher_arm(teacher))
    return [*arms, *workshop.floors()], speeds


def _set_tables(
    domain: Domain,
    rows: list[tuple[str, str]],
    self_rows: list[tuple[str, str]],
    d_t: list[Pair],
    d_self: list[Pair],
    first: Made,
    config: Config,
    workshop: Workshop,
) -> list[Table]:
    sets: dict[str, list[tuple[str, str]]] = {
        "D_T": rows,
        "D_self": self_rows,
        "candidates, no critic": first.unfiltered,
    }
    references = domain.report.references or ()
    if references:
        known = [(x, refs[0]) for x, refs in zip(domain.report.inputs, references, strict=True) if refs]
        sets["references of the report split"] = known
    size = min(400, *map(len, sets.values()))

    def some(all_rows: Sequence[tuple[str, str]], name: str) -> list[tuple[str, str]]:
        random = np.random.default_rng(derive_seed("rows", name, config.seed))
        return [all_rows[i] for i in random.permutation(len(all_rows))[:size]]

    told = workshop.run.kept(
        "quality", lambda: {k: quality(some(v, k), workshop.judges.vectors) for k, v in sets.items()}
    )
    made = [report.quality_table(told)]
    if domain.name == "everyday":
        made.append(report.truth_table([(name, len(v), _right(v, config)) for name, v in sets.items()]))
    seen = Seen(domain.sentences)
    made.append(report.leakage_table({"D_T": leakage(d_t, seen), "D_self": leakage(d_self, seen)}))
    return made


def _right(rows: Sequence[tuple[str, str]], config: Config) -> float:
    found = [truth(x, y, config.task) or False for x, y in rows]
    return float(np.mean(found)) if found else float("nan")


def _sentence(config: Config, arms: Sequence[Arm], d_t: list[Pair], d_self: list[Pair], first: Made) -> str:
    by = {arm.name: arm.metrics["good"] for arm in arms}
    what = "paraphrases" if config.both_ways else "summaries"
    return (
        f"From {first.funnel.counts['candidate pairs']:,} candidate pairs the critics let {len(d_t):,} pass, and {len(d_self):,} of the student's own: "
        f"the student's {what} are good for {by[f'student {STUDENT}']:.0%} of held-out inputs, without self-distillation {by[f'student {WITHOUT}']:.0%}, "
        f"without critics {by[f'student {UNFILTERED}']:.0%}; the teacher told to do it {by['teacher, told to do it']:.0%}."
    )


def _notes(config: Config, domain: Domain, critic: str, judged: int) -> tuple[str, ...]:
    notes = [
        f"{judged} held-out inputs, one seed: shares that differ by less than {2 * (0.25 / judged) ** 0.5:.2f} do not differ.",
        f"The entailment critic is {critic}.",
        "All trained students start from the same pre-trained weights and have the same number of updates, but where the row says otherwise.",
    ]
    if critic_name(config) == "everyday":
        notes.append(
            "That critic learned from labelled pairs, of events other than the held-out ones: the paper's critic has labels of an NLI corpus."
        )
    if domain.report.references is None:
        notes.append(
            "This text has no references: iBLEU and the truth about meaning are not known, and 'good' rests on the critic."
        )
    return tuple(notes)


def estimate(config: Config) -> Estimate:
    """From the size of the models and a measured speed of this machine; teacher, student and critic in the cache cost nothing."""
    speed = _flops_a_second()

    def training(name: str, size: Size, updates: int, tokens: int, layers: int) -> Stage:
        weights = layers * 12 * size.width**2 + config.pieces * size.width
        seconds = 6 * weights * tokens * updates / speed
        return Stage(name, updates, 2 * 32 * updates, seconds, 12 * weights)

    teacher, student = config.teacher_size, config.student_size
    sentences = config.contexts * config.continuations + config.self_inputs * (1 + config.self_outputs)
    cost = teacher.layers * 12 * teacher.width**2 + config.pieces * teacher.width
    students = 2 * config.updates + 3 * config.self_updates
    return Estimate(
        (
            training(
                "teacher's pre-training",
                teacher,
                config.teacher_updates * (config.teacher == "train"),
                32 * 60,
                teacher.layers,
            ),
            training(
                "student's pre-training",
                student,
                config.student_updates * (config.student == "train"),
                64 * 14,
                2 * student.layers,
            ),
            Stage("critic", config.critic_updates, 2 * 128 * config.critic_updates, 0.02 * config.critic_updates),
            Stage(
                "generation",
                0,
                sentences * config.sentence_tokens,
                2 * cost * sentences * 3 * config.sentence_tokens / speed,
            ),
            Stage("critics", 0, 0, 2e-4 * config.contexts * config.continuations**2),
            training("students", student, students, 2 * config.batch * 16, 2 * student.layers),
            Stage("judging", 0, 10 * config.judged, 0.1 * config.judged),
        )
    )


def _flops_a_second() -> float:
    """Of a matrix product of the size that small transformers have; a third of it is what training reaches."""
    import torch

    a, b = torch.randn(1024, 96), torch.randn(96, 384)
    a @ b
    started = time.perf_counter()
    for _ in range(20):
        a @ b
    return 20 * 2 * 1024 * 96 * 384 / (time.perf_counter() - started) / 3


def load(folder: Path) -> Rewriter:
    """The student of a run's model folder, ready to rewrite text."""
    return load_rewriter(folder)
