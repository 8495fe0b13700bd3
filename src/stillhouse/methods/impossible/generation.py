"""The two stages that make candidate pairs and pass them through the critics, in shards that a killed run takes up again.

c ~ p_T(.)   s_1 .. s_k ~ p_T(. | c)   candidates: all pairs of different s          -> critics -> D_T
x ~ p_T(. | c)   y ~ M_S(. | x)        candidates: (x, y)                             -> critics -> D_self
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from stillhouse.core.errors import UserError
from stillhouse.core.progress import Progress
from stillhouse.core.run import Run
from stillhouse.core.seeding import derive_seed
from stillhouse.corpus.sentences import fault, first_sentence, split_sentences
from stillhouse.methods.impossible.causal import LanguageModel, Sampling, Throughput, continuations
from stillhouse.methods.impossible.config import Config
from stillhouse.methods.impossible.critics import Funnel, Group, candidate_pairs, judge_pairs
from stillhouse.methods.impossible.dataset import Pair
from stillhouse.methods.impossible.nli import EntailmentCritic
from stillhouse.methods.impossible.seq2seq import Student, rewrite


@dataclass(frozen=True)
class Made:
    """What a stage made."""

    pairs: list[Pair]
    funnel: Funnel
    faults: Counter[str]
    """Why continuations were left out."""
    throughput: Throughput
    unfiltered: list[tuple[str, str]]
    """A few candidates as they came, for the arm without critics."""


def sampling_of(config: Config, *, contexts: bool = False) -> Sampling:
    """How contexts, or sentences, are drawn."""
    if contexts:
        return Sampling(config.context_temperature, config.top_p, config.context_tokens, config.generation_batch)
    return Sampling(
        config.temperature, config.top_p, config.sentence_tokens, config.generation_batch, config.no_repeat_ngram
    )


def draw_contexts(
    teacher: LanguageModel,
    config: Config,
    count: int,
    seed: tuple[int | str, ...],
    faults: Counter[str],
    throughput: Throughput,
) -> list[str]:
    """Contexts of a few finished sentences; a draw without any is left out and counted."""
    prompts = [config.prefixes[i % len(config.prefixes)] for i in range(count)]
    drawn = continuations(
        teacher, prompts, 1, sampling_of(config, contexts=True), (*seed, "contexts"), throughput, one_sentence=False
    )
    random = np.random.default_rng(derive_seed(*seed, "lengths"))
    made = []
    for prompt, (text,) in zip(prompts, drawn, strict=True):
        wanted = int(random.integers(config.context_sentences[0], config.context_sentences[1] + 1))
        sentences = list(split_sentences(text))
        sentences = sentences[: min(wanted, max(1, len(sentences) - 1))]  # what was told to its end has no continuation
        why = fault(text)
        if why in (None, "repeats itself") and sentences:
            made.append(" ".join(filter(None, [prompt.strip(), *sentences])))
        else:
            faults[f"context {why or 'unfinished'}"] += 1
    return made


def finished(texts: Sequence[str], faults: Counter[str]) -> list[str]:
    """The first sentence of every text that has a good one; the others are counted by what is wrong with them."""
    made = []
    for text in texts:
        why = fault(text)
        sentence = first_sentence(text)
        if why is None and sentence is not None:
            made.append(sentence)
        else:
            faults[why or "unfinished"] += 1
    return made


def teacher_pairs(teacher: LanguageModel, critic: EntailmentCritic, config: Config, run: Run) -> Made:
    """D_T before near-duplicates: pairs of continuations of one context."""

    def shard(number: int, contexts: int) -> dict[str, Any]:
        funnel, faults, throughput = Funnel(), Counter[str](), Throughput()
        seed = (run.seed, "D_T", number)
        found = draw_contexts(teacher, config, contexts, seed, faults, throughput)
        drawn = continuations(
            teacher, found, config.continuations, sampling_of(config), (*seed, "continuations"), throughput
        )
        sentences = [finished(texts, faults) for texts in drawn]
        distinct = [tuple(dict.fromkeys(some)) for some in sentences]
        _count(funnel, contexts, found, sentences, distinct)
        groups = [
            Group(context, some, candidate_pairs(len(some), both_ways=config.both_ways))
            for context, some in zip(found, distinct, strict=True)
        ]
        return _judged(groups, "teacher", number, config, critic, funnel, faults, throughput)

    return _in_shards("D_T", config.contexts, shard, config, run)


def student_pairs(teacher: LanguageModel, student: Student, critic: EntailmentCritic, config: Config, run: Run) -> Made:
    """D_self before near-duplicates: the teacher's sentences, rewritten by the student."""

    def shard(number: int, inputs: int) -> dict[str, Any]:
        funnel, faults, throughput = Funnel(), Counter[str](), Throughput()
        seed = (run.seed, "D_self", number)
        each = 3  # sentences a context: a fresh context for each would cost three times the tokens
        contexts = draw_contexts(teacher, config, -(-inputs // each), seed, faults, throughput)
        drawn = continuations(teacher, contexts, each, sampling_of(config), (*seed, "inputs"), throughput)
        said = [
            (c, x) for c, texts in zip(contexts, drawn, strict=True) for x in dict.fromkeys(finished(texts, faults))
        ]
        outputs = rewrite(
            student,
            [x for _, x in said],
            each=config.self_outputs,
            sampling=sampling_of(config),
            seed=(*seed, "outputs"),
            throughput=throughput,
        )
        sentences = [finished(texts, faults) for texts in outputs]
        groups = [_rewritten(context, x, ys) for (context, x), ys in zip(said, sentences, strict=True)]
        funnel.add("inputs", len(said))
        funnel.add("finished outputs", sum(map(len, sentences)))
        return _judged(groups, "student", number, config, critic, funnel, faults, throughput)

    return _in_shards("D_self", config.self_inputs, shard, config, run)


def _rewritten(context: str, x: str, outputs: Sequence[str]) -> Group:
    new = [y for y in dict.fromkeys(outputs) if y != x]
    pairs = np.array([(0, j + 1) for j in range(len(new))], np.int64).reshape(-1, 2)
    return Group(context, (x, *new), pairs)


def _count(
    funnel: Funnel, asked: int, contexts: list[str], sentences: list[list[str]], distinct: list[tuple[str, ...]]
) -> None:
    funnel.add("contexts drawn", asked)
    funnel.add("contexts with a finished sentence", len(contexts))
    funnel.add("finished continuations", sum(map(len, sentences)))
    funnel.add("distinct continuations", sum(map(len, distinct)))


def _judged(
    groups: list[Group],
    made_by: str,
    number: int,
    config: Config,
    critic: EntailmentCritic,
    funnel: Funnel,
    faults: Counter[str],
    throughput: Throughput,
) -> dict[str, Any]:
    """A shard's file: pairs that passed, the funnel, and a few candidates as they came."""
    kept, passed = judge_pairs(groups, config, critic)
    pairs = [Pair(k.x, k.y, k.forward, k.backward, k.rouge, made_by, groups[k.group].context, number) for k in kept]
    random = np.random.default_rng([number, len(groups)])
    some = [
        (group.sentences[x], group.sentences[y])
        for group in groups
        for x, y in random.permutation(group.pairs)[:8].tolist()
    ]
    return {
        "pairs": [asdict(pair) for pair in pairs],
        "funnel": funnel.merge(passed).as_json(),
        "faults": dict(faults),
        "throughput": asdict(throughput),
        "unfiltered": some,
    }


def _in_shards(stage: str, items: int, work: Callable[[int, int], dict[str, Any]], config: Config, run: Run) -> Made:
    """All shards of a stage, those on disk read back; stops early where the first shows that nothing will come.

    Raises:
        UserError: the teacher says nothing that can be used, or the critics accept nothing.
    """
    sizes = [min(config.shard, items - start) for start in range(0, items, config.shard)]
    whole = Made([], Funnel(), Counter(), Throughput(), [])
    with Progress(stage, len(sizes), 0, quiet=run.quiet, unit="shards") as progress:
        for number, size in enumerate(sizes):
            told = run.kept(f"{stage}/{number:05d}", lambda number=number, size=size: work(number, size))  # type: ignore[misc]
            whole = _added(whole, told)
            _require_candidates(stage, whole)
            progress.update(number + 1, {"pairs": len(whole.pairs)})
    run.log(f"{stage}: {whole.funnel.words()}")
    if not whole.pairs:
        raise UserError(
            f"the critics let no pair of {stage} pass ({whole.funnel.words()})",
            "loosen the critic where the count falls to 0, or draw more contexts at a lower temperature",
        )
    return whole


def _added(whole: Made, told: dict[str, Any]) -> Made:
    funnel = whole.funnel.merge(Funnel(told["funnel"]["counts"], told["funnel"]["seconds"]))
    speed = Throughput(
        whole.throughput.tokens + told["throughput"]["tokens"], whole.throughput.seconds + told["throughput"]["seconds"]
    )
    pairs = [*whole.pairs, *(Pair(**pair) for pair in told["pairs"])]
    unfiltered = [*whole.unfiltered, *((x, y) for x, y in told["unfiltered"])]
    return Made(pairs, funnel, whole.faults + Counter(told["faults"]), speed, unfiltered)


def _require_candidates(stage: str, made: Made) -> None:
    if made.funnel.counts.get("candidate pairs"):
        return
    reasons = ", ".join(f"{why} {count}" for why, count in made.faults.most_common(3)) or "all are the same"
    raise UserError(
        f"{stage}: no two different finished sentences come from the model ({reasons})",
        "give a teacher that writes English sentences, more --sentence-tokens, or other --prefixes",
    )
