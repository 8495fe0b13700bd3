"""Data sets of pairs: what a pair carries, control codes, near-duplicates and leakage, files, and the card."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stillhouse.core.errors import UserError
from stillhouse.core.files import parse_json, write_atomically
from stillhouse.corpus.leakage import Seen
from stillhouse.corpus.near_duplicates import first_of_near_duplicates
from stillhouse.corpus.rouge import words
from stillhouse.corpus.text_metrics import compression, mean_segmental_ttr, ngram_entropy
from stillhouse.corpus.tree_distance import Tree, cut_tree, parse, tree_edit_distance
from stillhouse.methods.impossible.config import CodeName, Config
from stillhouse.methods.impossible.critics import Funnel
from stillhouse.methods.impossible.vocabulary import LENGTH_CODES, SYNTAX_CODES

SHORTER, LONGER = 0.85, 1.18
"""Lengths of the output over the input's from which it is another length: about a word of a short sentence."""


@dataclass(frozen=True)
class Pair:
    """An example, and where it comes from."""

    x: str
    y: str
    p_forward: float
    """p(x => y) by the critic; nan where it was not asked."""
    p_backward: float
    rouge: float
    made_by: str
    """teacher (both sides are its continuations of the context) or student (y is its output for x)."""
    context: str
    """What the teacher was continuing."""
    shard: int
    """With the run's seed: what to draw again to see it made."""


def length_code(x: str, y: str) -> str:
    """Which of the length codes the pair shows."""
    share = compression(x, y)
    return LENGTH_CODES[0] if share < SHORTER else LENGTH_CODES[2] if share > LONGER else LENGTH_CODES[1]


def syntax_code(tree: Tree) -> str:
    """How a sentence is built: subject first (active), passive, an adjunct first (fronted), or there is."""
    first = tree.children[0].label.split()[0] if tree.children else ""
    active, passive, fronted, there = SYNTAX_CODES
    return {"nsubj": active, "csubj": active, "nsubjpass": passive, "expl": there}.get(first, fronted)


def control_codes(pairs: Sequence[tuple[str, str]], names: Sequence[CodeName]) -> list[tuple[str, ...]]:
    """The codes of every pair, those of length and then those of syntax."""
    lengths = [(length_code(x, y),) if "length" in names else () for x, y in pairs]
    if "syntax" not in names:
        return list(lengths)
    trees = parse([y for _, y in pairs])
    return [(*code, syntax_code(tree)) for code, tree in zip(lengths, trees, strict=True)]


def clean(pairs: Sequence[Pair], config: Config, held_out: Seen, funnel: Funnel) -> list[Pair]:
    """The pairs without near-duplicates and without sentences that arms are judged on; counted in the funnel."""
    kept = list(pairs)
    if config.has("near-duplicates"):
        kept = [kept[i] for i in first_of_near_duplicates([(p.x, p.y) for p in kept], config.near_duplicate)]
        funnel.add("near-duplicates", len(kept))
    kept = [pair for pair in kept if not held_out.verbatim(pair.x) and not held_out.verbatim(pair.y)]
    funnel.add("not in the report split", len(kept))
    return kept


def training_rows(pairs: Iterable[Pair], *, both_ways: bool) -> list[tuple[str, str]]:
    """(input, output) rows; a pair of the teacher that holds both ways is two."""
    rows: dict[tuple[str, str], None] = {}
    for pair in pairs:
        rows[pair.x, pair.y] = None
        if both_ways and pair.made_by == "teacher":
            rows[pair.y, pair.x] = None
    return list(rows)


def write_pairs(pairs: Iterable[Pair], file: Path) -> None:
    """One JSON object a line."""
    write_atomically(file, "".join(json.dumps(asdict(pair), ensure_ascii=False) + "\n" for pair in pairs))


def read_pairs(file: Path) -> list[Pair]:
    """What `write_pairs` wrote.

    Raises:
        UserError: no such file, not UTF-8, or a line is not a pair.
    """
    try:
        return [Pair(**parse_json(line)) for line in file.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        raise UserError(f"no file {file}", "finish the run that makes it") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{file} is not a file of pairs ({str(error)[:80]})", "make it again") from error


def quality(rows: Sequence[tuple[str, str]], vectors: Any = None) -> dict[str, float]:
    """What a set of pairs is like.

    Args:
        rows: pairs.
        vectors: MiniLM's token vectors; without them likeness in meaning is left out.
    """
    texts = [text for row in rows for text in row]
    trees = dict(zip(texts, parse(texts), strict=True)) if texts else {}
    sets = [(set(words(x)), set(words(y))) for x, y in rows]

    def mean(values: list[float]) -> float:
        return sum(values) / len(values) if values else float("nan")

    found = {
        "pairs": float(len(rows)),
        "H2": ngram_entropy(texts, 2),
        "H3": ngram_entropy(texts, 3),
        "MSTTR": mean_segmental_ttr(texts),
        "Jaccard": mean([len(a & b) / max(1, len(a | b)) for a, b in sets]),
        "TED-3": mean([float(tree_edit_distance(cut_tree(trees[x], 3), cut_tree(trees[y], 3))) for x, y in rows]),
        "TED": mean([float(tree_edit_distance(trees[x], trees[y])) for x, y in rows]),
        "compression": mean([compression(x, y) for x, y in rows]),
    }
    if vectors is not None and rows:
        firsts, seconds = (vectors(list(side)) for side in zip(*rows, strict=True))
        found["cosine"] = mean([_cosine(a, b) for a, b in zip(firsts, seconds, strict=True)])
    return found


def _cosine(a: Any, b: Any) -> float:
    x, y = a.mean(0), b.mean(0)
    return float(x @ y / max(1e-9, float((x @ x) ** 0.5 * (y @ y) ** 0.5)))


def leakage(pairs: Sequence[Pair], seen: Seen) -> dict[str, float]:
    """How much of the pairs the teacher's training text already had, word for word."""
    texts = sorted({text for pair in pairs for text in (pair.x, pair.y)})
    together = sum(seen.verbatim(pair.x) and seen.verbatim(pair.y) for pair in pairs)
    return {
        "sentences": float(len(texts)),
        "sentences that the training text has word for word": sum(map(seen.verbatim, texts)) / max(1, len(texts)),
        "runs of eight words that it has": sum(map(seen.share_of_runs, texts)) / max(1, len(texts)),
        "pairs with both sentences in it": together / max(1, len(pairs)),
    }


def write_card(
    file: Path,
    config: Config,
    facts: Mapping[str, Any],
    funnels: Mapping[str, Funnel],
    sets: Mapping[str, Sequence[Pair]],
) -> None:
    """The data set's card, in Markdown."""
    lines = [
        f"# Pairs for {config.task}, made by impossible distillation",
        "",
        "Machine-made text; nobody wrote or checked a sentence of it.",
        "",
        *(f"* {name}: {value}" for name, value in facts.items()),
    ]
    for name, pairs in sets.items():
        funnel = funnels[name]
        lines += ["", f"## {name}.jsonl: {len(pairs):,} pairs", "", "| step | left | seconds |", "|---|---:|---:|"]
        lines += [f"| {step} | {count:,} | {funnel.seconds[step]:.1f} |" for step, count in funnel.counts.items()]
        lines += ["", *(f"> {pair.x} → {pair.y}  " for pair in pairs[:5])]
    lines += [
        "",
        "## Provenance of a pair",
        "",
        "Each line has x, y, the critic's p(x => y) and p(y => x), ROUGE-L, who made it (`made_by`), the context that the teacher was "
        "continuing, and the shard: the run's config.json, its seed and the shard draw it again.",
        "",
    ]
    write_atomically(file, "\n".join(lines))
