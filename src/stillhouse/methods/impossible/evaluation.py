"""What an arm's outputs are worth: the paper's scores, and where the grammar knows the truth, the truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stillhouse.core.result import Metric
from stillhouse.corpus.numbers import numbers, numbers_agree
from stillhouse.corpus.rouge import rouge_l, words
from stillhouse.corpus.text_metrics import (
    bert_ibleu,
    bleu,
    compression,
    greedy_match,
    mean_segmental_ttr,
    ngram_entropy,
)
from stillhouse.corpus.tree_distance import parse, tree_edit_distance
from stillhouse.methods.impossible.config import Config
from stillhouse.methods.impossible.domain import Exam, truth
from stillhouse.methods.impossible.nli import EntailmentCritic, TokenVectors


@dataclass(frozen=True)
class Judges:
    """Who looks at outputs."""

    critic: EntailmentCritic
    vectors: TokenVectors


def judge_outputs(exam: Exam, outputs: Sequence[str], config: Config, judges: Judges) -> dict[str, float]:
    """All scores of one output for every input of an exam."""
    inputs, made = list(exam.inputs), list(outputs)
    pairs = list(zip(inputs, made, strict=True))
    rouges = np.array([rouge_l(words(x), words(y)) for x, y in pairs])
    shares = np.array([compression(x, y) for x, y in pairs])
    trees = [list(parse(side)) for side in (inputs, made)]
    kept = _kept(pairs, config, judges.critic)
    known = [truth(x, y, config.task) for x, y in pairs]
    right = kept if None in known else np.array(known, bool)
    otherwise = rouges <= config.most_rouge if config.both_ways else shares < config.summary_length
    copies = [bleu(y, [x]) for x, y in pairs]
    likeness = [greedy_match(a, b) for a, b in zip(judges.vectors(inputs), judges.vectors(made), strict=True)]
    found = {
        "good": float((right & otherwise).mean()),
        "bert_ibleu": 100 * _mean([bert_ibleu(s, c) for s, c in zip(likeness, copies, strict=True)]),
        "entailed": float(kept.mean()),
        "rouge_input": float(rouges.mean()),
        "ted_input": _mean([float(tree_edit_distance(a, b)) for a, b in zip(*trees, strict=True)]),
        "compression": float(shares.mean()),
        "numbers": _mean([float(numbers_agree(numbers(x), numbers(y), both_ways=config.both_ways)) for x, y in pairs]),
        "mstt_ratio": mean_segmental_ttr(made),
        "h2": ngram_entropy(made, 2),
        "h3": ngram_entropy(made, 3),
    }
    if None not in known:
        found["right"] = float(right.mean())
    if exam.references is not None:
        found |= _against_references(made, exam.references, copies)
    return found


def _kept(pairs: list[tuple[str, str]], config: Config, critic: EntailmentCritic) -> np.ndarray:
    """[pairs] whether the critic says that the meaning is kept."""
    xs, ys = [x for x, _ in pairs], [y for _, y in pairs]
    kept = critic.entailment(xs, ys) >= config.entailment
    return kept & (critic.entailment(ys, xs) >= config.entailment) if config.both_ways else kept


def _against_references(made: list[str], references: Sequence[Sequence[str]], copies: list[float]) -> dict[str, float]:
    alike = [bleu(y, list(refs)) if refs else 0.0 for y, refs in zip(made, references, strict=True)]
    found = [
        max((rouge_l(words(y), words(r)) for r in refs), default=0.0) for y, refs in zip(made, references, strict=True)
    ]
    return {
        "ibleu": 100 * _mean([0.8 * a - 0.2 * c for a, c in zip(alike, copies, strict=True)]),
        "bleu": 100 * _mean(alike),
        "rouge_reference": _mean(found),
    }


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def metrics_of(config: Config, exam: Exam, *, known: bool) -> tuple[Metric, ...]:
    """How the scores are to be read, the headline first."""
    paraphrase = config.both_ways
    kind = "Good paraphrases" if paraphrase else "Good summaries"
    how = (
        f"ROUGE-L to the input at most {config.most_rouge}"
        if paraphrase
        else f"below {config.summary_length} of its length"
    )
    said = "say what the input says" if paraphrase else "follow from the input"
    who = "by the grammar's own reading" if known else "as the critic says"
    made = [
        Metric("good", kind, "higher", f"Share of outputs that {said} ({who}), {how}."),
        Metric(
            "bert_ibleu",
            "BERT-iBLEU",
            "higher",
            "Likeness in meaning (MiniLM's tokens) and unlikeness in words, harmonic mean.",
        ),
    ]
    if exam.references is not None:
        made += [
            Metric("ibleu", "iBLEU", "higher", "0.8 BLEU with references less 0.2 BLEU with the input."),
            Metric("rouge_reference", "ROUGE-L, reference", "higher", "With the nearest of the references."),
        ]
    if known:
        made.append(
            Metric("right", "Meaning kept", "higher", f"Share of outputs that {said}, by the grammar's own reading.")
        )
    return (
        *made,
        Metric("entailed", "Entailed, critic", "higher", "Share of outputs that the entailment critic accepts."),
        Metric("rouge_input", "ROUGE-L, input", "lower", "Words kept in order; 1 is a copy."),
        Metric("ted_input", "TED", "higher", "Edits between the dependency trees of input and output."),
        Metric("compression", "Length share", "lower", "Characters of the output over those of the input."),
        Metric("numbers", "Numbers agree", "higher", "Share of outputs whose numbers are those of the input."),
        Metric("mstt_ratio", "MSTTR", "higher", "Different words among fifty running ones."),
        Metric("h3", "H3", "higher", "Entropy of runs of three words, in bits."),
    )
