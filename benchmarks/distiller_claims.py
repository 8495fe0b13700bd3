"""What Distiller's measurements say: claims with intervals, from the pieces of benchmarks/distiller.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cattrs
import numpy as np

from stillhouse.core.evidence import Claim, judge, mean_with_interval, ratio_of_means
from stillhouse.methods.distiller.autodistiller import Study, leave_one_family_out
from stillhouse.methods.distiller.config import Config
from stillhouse.methods.distiller.study import space

COMMAND = "python benchmarks/distiller.py"
MI = ("mi 0.1", "mi 0.5", "mi 0.9")
REPRESENTATION = ("intermediate", "mapping", "intermediate x mapping", "mapping x intermediate")


def claim(
    id: str, statement: str, data: str, found: tuple[float, tuple[float, float]], bound: str, seeds: int, note: str = ""
) -> Claim:
    """A judged claim; the paper gives ranks and no figure for these."""
    return Claim(id, statement, None, *found, bound, seeds, judge(found[1], bound), data, COMMAND, note)


def all_claims(
    bound: Mapping[tuple[float, float], Sequence[Mapping[str, float]]],
    studies: Sequence[Mapping[str, Any]],
    augmentation: Sequence[Mapping[str, Any]],
    cache: Mapping[str, float] | None,
    students: Sequence[tuple[str, str, int, Sequence[Mapping[str, Any]]]],
) -> list[Claim]:
    """Every claim that the pieces allow."""
    found = bound_claims(bound)
    if len(studies) > 1:
        found += importance_claims(studies) + objective_claims(studies) + recommendation_claims(studies)
    if augmentation:
        found += augmentation_claims(augmentation)
    if cache:
        value = cache["live"] / cache["cached"]
        note = f"One measurement: {cache['live']:.1f} s live, {cache['cached']:.1f} s cached, {cache['filling']:.1f} s to fill the cache."
        found.append(
            claim(
                "cache",
                "Processor seconds of a trial with the teacher run live over those with cached outputs",
                "trec",
                (value, (-np.inf, np.inf)),
                ">= 1.7",
                1,
                note,
            )
        )
    return found + student_claims(students)


def bound_claims(bound: Mapping[tuple[float, float], Sequence[Mapping[str, float]]]) -> list[Claim]:
    """A5: the bound finds a known mutual information, and alpha trades bias for variance."""
    data, found = "20 correlated normals, batch 64", []
    if known := bound.get((2.0, 0.5)):
        found.append(
            claim(
                "bound, 2 nats",
                "Estimate at alpha 0.5 over the true 2 nats",
                data,
                mean_with_interval([v["mean"] / 2 for v in known]),
                ">= 0.75",
                len(known),
            )
        )
    noisy, calm, middle = (bound.get((6.0, a)) for a in (0.01, 0.9, 0.1))
    if noisy and calm:
        pair = ratio_of_means([v["sd"] for v in noisy], [v["sd"] for v in calm])
        found.append(
            claim(
                "bound, variance",
                "Spread over updates at alpha 0.01 over alpha 0.9, 6 nats",
                data,
                pair,
                ">= 1.8",
                len(calm),
            )
        )
    if middle and calm:
        pair = ratio_of_means([v["mean"] for v in middle], [v["mean"] for v in calm])
        found.append(
            claim("bound, bias", "Estimate at alpha 0.1 over alpha 0.9, 6 nats", data, pair, ">= 1.05", len(calm))
        )
    return found


def names(studies: Sequence[Mapping[str, Any]]) -> str:
    """The data sets of several searches."""
    return ", ".join(str(s["data"]) for s in studies)


def importance_claims(studies: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """A1: how states are distilled (objective, mapping and the two together) against every other choice and the dummy."""
    against, floor = [], []
    for study in studies:
        shares = {str(row[0]): float(row[1]) for row in study["importances"]}
        ours = sum(share for name, share in shares.items() if name in REPRESENTATION)
        others = [
            share for name, share in shares.items() if " x " not in name and name not in (*REPRESENTATION, "dummy")
        ]
        against.append((ours, max(others)))
        floor.append((ours, shares["dummy"]))
    rows = [
        (
            "representation first",
            "Share of the variance of the intermediate objective and mapping over the largest other choice",
            against,
            ">= 1.5",
        ),
        ("representation, floor", "The same over a choice that changes nothing", floor, ">= 3.0"),
    ]
    note = "The interval is over data sets."
    return [
        claim(id, text, names(studies), ratio_of_means(*zip(*pairs, strict=True)), bound, len(pairs), note)
        for id, text, pairs, bound in rows
    ]


def mean_scores(study: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Mean select and report score of the trials of every intermediate objective."""
    found = {}
    for level in {t["levels"]["intermediate"] for t in study["trials"]}:
        rows = [t for t in study["trials"] if t["levels"]["intermediate"] == level]
        found[level] = (float(np.mean([t["select"] for t in rows])), float(np.mean([t["report"] for t in rows])))
    return found


def objective_claims(studies: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """A2: MI-alpha against no intermediate objective and against the best other one, each chosen on select."""
    mi, best, none = [], [], []
    for study in studies:
        scores = mean_scores(study)
        others = [name for name in scores if name not in (*MI, "none")]
        mi.append(scores[max(MI, key=lambda name: scores[name][0])][1])
        best.append(scores[max(others, key=lambda name: scores[name][0])][1])
        none.append(scores["none"][1])
    note = "Mean report score over an objective's trials; alpha and the rival chosen on select; the interval is over data sets."
    return [
        claim(
            "mi against none",
            "Score with MI-alpha over no intermediate objective",
            names(studies),
            ratio_of_means(mi, none),
            ">= 1.0",
            len(mi),
            note,
        ),
        claim(
            "mi against the best other",
            "Score with MI-alpha over the best other objective",
            names(studies),
            ratio_of_means(mi, best),
            ">= 0.995",
            len(mi),
            note,
        ),
    ]


def recommendation_claims(studies: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """A4: pipelines chosen for a data set of a family that was not seen."""
    known = [
        cattrs.structure({k: s[k] for k in ("data", "family", "features", "teacher", "trials")}, Study) for s in studies
    ]
    if len({s.family for s in known}) < 3:
        return []
    judged = leave_one_family_out(known, space(Config()))
    note = "; ".join(
        f"{j.data}: regret {j.regret:.2f} (random {j.random_regret:.2f}), Spearman {j.spearman:.2f}" for j in judged
    )
    regrets = ratio_of_means([j.regret for j in judged], [j.random_regret for j in judged])
    return [
        claim(
            "recommended regret",
            "Regret of the top 3 over that of 3 random pipelines, family left out",
            names(studies),
            regrets,
            "<= 0.7",
            len(judged),
            note,
        ),
        claim(
            "recommended order",
            "Spearman correlation of predicted and true scores, family left out",
            names(studies),
            mean_with_interval([j.spearman for j in judged]),
            ">= 0.3",
            len(judged),
        ),
    ]


def augmentation_claims(rows: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """A3: relative gain of augmentation by size of the training set and of the student."""

    def gains(**equal: Any) -> list[float]:
        return [r["with"] / r["without"] - 1 for r in rows if all(r[k] == v for k, v in equal.items())]

    found = []
    for data in sorted({r["data"] for r in rows}):
        sizes = sorted({r["examples"] for r in rows if r["data"] == data})
        few, many = gains(data=data, examples=sizes[0]), gains(data=data, examples=sizes[-1])
        if len(few) == len(many) and len(few) > 1:
            difference = [a - 2 * max(0.0, b) for a, b in zip(few, many, strict=True)]
            found.append(
                claim(
                    f"augmentation, few texts ({data})",
                    f"Relative gain at {sizes[0]} texts less twice that at {sizes[-1]}",
                    data,
                    mean_with_interval(difference),
                    ">= 0.0",
                    len(few),
                    f"Gains {np.mean(few):+.3f} and {np.mean(many):+.3f}.",
                )
            )
        tiny, small = gains(data=data, examples=1000, width=64), gains(data=data, examples=1000, width=128)
        if len(tiny) == len(small) and len(tiny) > 1:
            difference = [a - b for a, b in zip(tiny, small, strict=True)]
            found.append(
                claim(
                    f"augmentation, small student ({data})",
                    "Relative gain of a student of width 64 less that of width 128, 1,000 texts",
                    data,
                    mean_with_interval(difference),
                    ">= 0.0",
                    len(tiny),
                    f"Gains {np.mean(tiny):+.3f} and {np.mean(small):+.3f}.",
                )
            )
    return found


def student_claims(students: Sequence[tuple[str, str, int, Sequence[Mapping[str, Any]]]]) -> list[Claim]:
    """Score, size and speed of students of the pre-trained teacher."""
    found = []
    for data, name in sorted({(d, n) for d, n, _, _ in students}):
        runs = [arms for d, n, _, arms in students if (d, n) == (data, name)]
        ours, theirs = (
            [next(a for a in arms if a["role"] == role) for arms in runs] for role in ("student", "teacher")
        )
        plain = [next((a for a in arms if a["name"] == "student without distillation"), None) for arms in runs]
        where = f"{data}, {name}"
        sizes = [a["cost"]["parameters"] / b["cost"]["parameters"] for a, b in zip(theirs, ours, strict=True)]
        speeds = [
            a["cost"]["latency_seconds"]["batch 64"] / b["cost"]["latency_seconds"]["batch 64"]
            for a, b in zip(theirs, ours, strict=True)
        ]
        scores = [[a["metrics"]["score"] for a in side] for side in (ours, theirs)]
        found.append(
            claim(
                f"kept ({where})",
                "Student's score over the teacher's",
                where,
                ratio_of_means(*scores),
                ">= 0.97",
                len(runs),
            )
        )
        found.append(
            claim(
                f"size ({where})",
                "Teacher's parameters over the student's",
                where,
                mean_with_interval(sizes),
                ">= 5.0",
                len(runs),
            )
        )
        found.append(
            claim(
                f"speed ({where})",
                "Teacher's seconds a text over the student's, batch 64",
                where,
                mean_with_interval(speeds),
                ">= 4.0",
                len(runs),
            )
        )
        if all(plain):
            alone = [a["metrics"]["score"] for a in plain if a]
            found.append(
                claim(
                    f"distilled ({where})",
                    "Student's score over that of the same student on labels alone",
                    where,
                    ratio_of_means(scores[0], alone),
                    ">= 1.0",
                    len(runs),
                )
            )
    return found
