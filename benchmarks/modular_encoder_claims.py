"""What modular_encoder.py states from its pieces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from stillhouse.core.evidence import Claim, judge, mean_with_interval, ratio_of_means

Found = Mapping[str, Mapping[int, Any]]
"""{arm: {seed: value}}."""
DATA = "functions of the standard library and installed packages, documentation to code"
TASK = "docs"
COMMAND = "python benchmarks/modular_encoder.py --parts"


def mrr(value: Mapping[str, Any], exit: str | int, task: str = TASK) -> float:
    """MRR of an exit of a trained arm."""
    return float(value["scores"][task][str(exit)]["mrr"])


def exits_of(found: Found) -> list[str]:
    """The exits, rising."""
    return list(next(iter(found["exits"].values()))["parameters"])


def ratios(found: Found, other: str, exits: list[str]) -> tuple[list[float], list[float]]:
    """Mean MRR over exits of the method and of another arm, a number a seed that both have."""
    seeds = sorted(set(found.get("exits", {})) & set(found.get(other, {})))
    return tuple(
        [float(np.mean([mrr(found[arm][seed], e) for e in exits])) for seed in seeds] for arm in ("exits", other)
    )  # type: ignore[return-value]


def claims(found: Found) -> Iterator[Claim]:
    """Everything that can be said from the pieces there are."""
    if "exits" not in found:
        return
    exits = exits_of(found)
    yield from _against_singles(found, exits)
    yield from _within(found, exits)
    others = (
        (
            "M3-last-only",
            "last-only",
            exits[1:2],
            f"exit {exits[1]} of last-only training over the same exit trained, MRR",
            "<= 0.85",
            True,
        ),
        (
            "weights-uniform",
            "uniform weights",
            exits,
            "depth weights over uniform ones, mean MRR of all exits",
            ">= 1.0",
            False,
        ),
        ("weights-log", "log weights", exits, "depth weights over log ones, mean MRR of all exits", ">= 1.0", False),
        (
            "context",
            "without context",
            exits,
            "with the contextual loss over without, mean MRR of all exits",
            ">= 1.0",
            False,
        ),
        (
            "renaming",
            "without renaming",
            exits,
            "with names changed over without, mean MRR of all exits",
            ">= 1.0",
            False,
        ),
        (
            "explicit-distillation",
            "self-distillation",
            exits,
            "without the explicit KL over with it, mean MRR of all exits",
            ">= 1.0",
            False,
        ),
    )
    for name, arm, some, statement, threshold, inverse in others:
        ours, theirs = ratios(found, arm, some)
        if ours:
            measured = ratio_of_means(theirs, ours) if inverse else ratio_of_means(ours, theirs)
            yield _claim(name, statement, None, measured, threshold, len(ours), arm.split()[0])
    yield from _peers(found, exits)
    yield from _speed(found)


def _claim(
    name: str,
    statement: str,
    paper: float | None,
    measured: tuple[float, tuple[float, float]],
    threshold: str,
    seeds: int,
    part: str,
    note: str = "",
    data: str = DATA,
) -> Claim:
    value, interval = measured
    return Claim(
        name,
        statement,
        paper,
        value,
        interval,
        threshold,
        seeds,
        judge(interval, threshold),
        data,
        f"{COMMAND} {part}",
        note,
    )


def _against_singles(found: Found, exits: list[str]) -> Iterator[Claim]:
    """M1: an exit against a model of its depth trained alone with the same updates."""
    seeds = [s for s in sorted(found["exits"]) if all(s in found.get(f"single {e}", {}) for e in exits[:-1])]
    if seeds:
        ours = [float(np.mean([mrr(found["exits"][s], e) for e in exits[:-1]])) for s in seeds]
        alone = [float(np.mean([mrr(found[f"single {e}"][s], e) for e in exits[:-1]])) for s in seeds]
        note = "All exits but the deepest. The paper: better at all exits, most at exit 9 (Recall@1 + 4.36 %)."
        yield _claim(
            "M1-exits-over-models-alone",
            "exits over models of their depth trained alone, mean MRR",
            1.0,
            ratio_of_means(ours, alone),
            ">= 1.0",
            len(seeds),
            "exits singles",
            note,
        )


def _within(found: Found, exits: list[str]) -> Iterator[Claim]:
    """M2 and M4: how near a shallow exit comes, and where the best one is."""
    runs = [found["exits"][s] for s in sorted(found["exits"])]
    second = [mrr(r, exits[1]) for r in runs]
    best = [max(mrr(r, e) for e in exits) for r in runs]
    yield _claim(
        "M2-shallow-exit",
        f"exit {exits[1]} over the best exit, MRR",
        0.90,
        ratio_of_means(second, best),
        ">= 0.85",
        len(runs),
        "exits",
        "The paper: exit 4 of 36, 73.2 against 81.0.",
    )
    places = [int(max(exits, key=lambda e: mrr(r, e))) / int(exits[-1]) for r in runs]
    note = f"Best exits by seed: {', '.join(str(round(p * int(exits[-1]))) for p in places)} of {exits[-1]}. The paper: 18 of 36. Reported, not aimed at."
    yield _claim(
        "M4-best-exit",
        "depth of the best exit over the deepest",
        0.5,
        mean_with_interval(places),
        "<= 1.0",
        len(runs),
        "exits",
        note,
    )


def _peers(found: Found, exits: list[str]) -> Iterator[Claim]:
    """What one would use without the method, from the same runs, and AdaptiveLayerLoss."""
    runs = [found["exits"][s] for s in sorted(found["exits"])]
    ours = [mrr(r, max(exits, key=lambda e: mrr(r, e, "docs, select"))) for r in runs]
    for name, title in (
        ("BM25", "BM25"),
        ("MiniLM, zero-shot", "MiniLM, zero-shot"),
        (f"before training, exit {exits[-1]}", "the encoder before training"),
    ):
        theirs = [r["others"][name][f"{TASK}_mrr"] for r in runs]
        slug = title.split(",")[0].replace(" ", "-")
        yield _claim(
            f"over-{slug}",
            f"the best exit (by select) over {title}, MRR",
            None,
            ratio_of_means(ours, theirs),
            ">= 1.0",
            len(runs),
            "exits",
        )
    seeds = sorted(set(found["exits"]) & set(found.get("peers", {})))
    if seeds:
        means = [float(np.mean([mrr(found["exits"][s], e) for e in exits])) for s in seeds]
        theirs = [
            float(np.mean([found["peers"][s]["AdaptiveLayerLoss"][e][f"{TASK}_mrr"] for e in exits])) for s in seeds
        ]
        yield _claim(
            "over-adaptive-layer-loss",
            "exits over sentence-transformers' AdaptiveLayerLoss at equal updates, mean MRR",
            None,
            ratio_of_means(means, theirs),
            ">= 1.0",
            len(seeds),
            "exits peers",
        )


def _speed(found: Found) -> Iterator[Claim]:
    """M5, and what an index costs; intervals over three turns on one machine."""
    for value in found.get("speed, three turns", {}).values():
        step = ratio_of_means(value["steps"]["all"], value["steps"]["last-only"])
        note = "Processor seconds of fine-tuning updates, by turns; the interval is over three turns, not seeds."
        yield _claim(
            "M5-step",
            "an update with all exits over one with the deepest alone",
            None,
            step,
            "<= 1.35",
            3,
            "speed",
            note,
        )
        shallow = value["functions_a_second"][next(iter(value["functions_a_second"]))]
        minutes = mean_with_interval([100_000 / one / 60 for one in shallow])
        note = f"At {np.mean(shallow):.0f} functions a second of one core; reading and parsing the files comes on top. Three turns."
        yield _claim(
            "index-100k",
            "embedding 100,000 functions at the shallowest exit, processor minutes",
            None,
            minutes,
            "<= 20",
            3,
            "speed",
            note,
            "functions of the select split",
        )


def tables(found: Found) -> str:
    """The page's tables in Markdown."""
    exits = exits_of(found)
    head = f"| arm | {' | '.join(f'exit {e}' for e in exits)} | seeds |\n|---|{'---:|' * (len(exits) + 1)}"
    lines = [f"MRR, {TASK}, report split", "", head]
    for arm, by_seed in found.items():
        if arm.startswith(("peers", "public", "speed", "single")):
            continue
        lines.append(_row(arm, [[mrr(v, e) for v in by_seed.values()] for e in exits], len(by_seed)))
    alone = [[mrr(v, e) for v in found.get(f"single {e}", {}).values()] for e in exits]
    if any(alone):
        lines.append(_row("model of that depth alone", alone, max(map(len, alone))))
    peers = list(found.get("peers", {}).values())
    if peers:
        lines.append(
            _row(
                "AdaptiveLayerLoss",
                [[v["AdaptiveLayerLoss"][e][f"{TASK}_mrr"] for v in peers] for e in exits],
                len(peers),
            )
        )
    runs = list(found["exits"].values())
    blank: list[list[float]] = [[]] * (len(exits) - 1)
    lines += [_row(n, [[r["others"][n][f"{TASK}_mrr"] for r in runs], *blank], len(runs)) for n in runs[0]["others"]]
    for seed, value in found.get("public", {}).items():
        lines += [
            "",
            "MRR, public tasks",
            "",
            f"| task | queries, pool | {' | '.join(f'exit {e}' for e in exits)} | BM25 | MiniLM | chance |\n|---|---|{'---:|' * (len(exits) + 3)}",
        ]
        minilm = found.get("public, MiniLM", {}).get(seed, {})
        for task, sizes in value["sizes"].items():
            scores = [
                *(value["exits"][task][e] for e in exits),
                value["BM25"][task],
                minilm.get(task),
                value["chance"][task],
            ]
            numbers = " | ".join(f"{one['mrr']:.3f}" if one else "" for one in scores)
            lines.append(f"| {task} | {sizes[0]}, {sizes[1]} | {numbers} |")
    return "\n".join(lines)


def _row(name: str, columns: list[list[float]], seeds: int) -> str:
    return f"| {name} | {' | '.join(f'{np.mean(c):.3f}' if c else '' for c in columns)} | {seeds} |"
