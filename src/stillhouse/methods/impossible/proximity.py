"""Paraphrastic proximity: how the share of entailed pairs goes with the context's length and the temperature.

The paper's ground for it all: a language model that continues one context many times says the same thing again in other
words, the more so the more the context has fixed and the lower the temperature.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from stillhouse.core.run import Run
from stillhouse.corpus.sentences import split_sentences
from stillhouse.methods.impossible.causal import LanguageModel, Throughput, continuations
from stillhouse.methods.impossible.config import Config
from stillhouse.methods.impossible.critics import candidate_pairs
from stillhouse.methods.impossible.domain import truth
from stillhouse.methods.impossible.generation import draw_contexts, finished, sampling_of
from stillhouse.methods.impossible.nli import EntailmentCritic

LENGTHS = (0, 1, 2, 3)
TEMPERATURES = (0.5, 0.7, 1.0)
CONTEXTS, EACH = 24, 8


def measure_proximity(
    teacher: LanguageModel,
    critic: EntailmentCritic,
    config: Config,
    run: Run,
    lengths: Sequence[int] = LENGTHS,
    temperatures: Sequence[float] = TEMPERATURES,
    contexts: int = CONTEXTS,
) -> list[dict[str, Any]]:
    """A row for every length of context (in sentences) and temperature."""
    long = replace(config, context_sentences=(max(lengths), max(lengths)))
    drawn = draw_contexts(teacher, long, contexts, (run.seed, "proximity"), Counter(), Throughput())
    whole = [sentences for text in drawn if len(sentences := list(split_sentences(text))) >= max(lengths)]
    rows = []
    for length in lengths:
        prompts = [" ".join(sentences[:length]) for sentences in whole]
        for temperature in temperatures:
            sampling = replace(sampling_of(config), temperature=temperature)
            texts = continuations(teacher, prompts, EACH, sampling, (run.seed, "proximity", length), Throughput())
            groups = [list(dict.fromkeys(finished(some, Counter()))) for some in texts]
            rows.append({"sentences": length, "temperature": temperature, **_entailed(groups, critic, config)})
    return rows


def _entailed(groups: Sequence[Sequence[str]], critic: EntailmentCritic, config: Config) -> dict[str, float]:
    """Share of the pairs of different sentences that entail each other, by the critic and by the grammar where it knows."""
    pairs = [(group[i], group[j]) for group in groups for i, j in candidate_pairs(len(group), both_ways=True).tolist()]
    if not pairs:
        return {"pairs": 0, "entailed": 0.0, "true": float("nan")}
    xs, ys = [x for x, _ in pairs], [y for _, y in pairs]
    both = (critic.entailment(xs, ys) >= config.entailment) & (critic.entailment(ys, xs) >= config.entailment)
    known = [t for t in (truth(x, y, "paraphrase") for x, y in pairs) if t is not None]
    return {
        "pairs": len(pairs),
        "entailed": float(both.mean()),
        "true": float(np.mean(known)) if len(known) > len(pairs) / 2 else float("nan"),
    }
