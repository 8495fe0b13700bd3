"""Evidence for fair synthetic tables: every arm of a run, several data sets and seeds, and the ablations.

    python benchmarks/fair_tables.py                                   # the whole protocol
    python benchmarks/fair_tables.py --parts runs --sets compas        # a part of it
    python benchmarks/fair_tables.py --parts write                     # the result file and picture from what is there

Pieces are kept in scratch/, a second start goes on where the first stopped. Needs $STILLHOUSE_DATA for the public
tables (adult, COMPAS, law school, bank). A part that was not asked for is taken from scratch/ where it is there.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cattrs
import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure

from fair_tables_runs import (
    BASE,
    LENGTHS,
    OF_TEACHER,
    PREPARED,
    generation_sizes,
    preparation_sizes,
    proxy_test,
    student_ablations,
    teacher_ablation,
    whole_run,
)
from fair_tables_tuning import IMAGES, tune
from stillhouse.core.evidence import Bench, Claim, ClaimedArm, judge, mean_with_interval, print_estimate, ratio_of_means
from stillhouse.core.result import Arm

SETS: dict[str, dict[str, Any]] = {
    "compas": {"data": "compas"},
    "adult gender": {"data": "adult", "sensitive": ("sex",)},
    "law school": {"data": "law-school"},
    "adult race": {"data": "adult", "sensitive": ("race",)},
    "adult both": {"data": "adult", "sensitive": ("sex", "race")},
    "colour-mnist": IMAGES,
}
FAIR_BASELINES = ("FLDGM GAN", "FLDGM diffusion", "TabFairGAN-style")
PARTS = ("tuning", "runs", "ablations", "proxy", "sizes", "write")
COMMAND = "python benchmarks/fair_tables.py"
ABLATED = {"data": "compas"}

Arms = Mapping[str, Sequence[Arm]]


def quality_of(arm: Arm) -> float:
    """Mean of alpha-precision, beta-recall, coverage and density (at most 1)."""
    m = arm.metrics
    return float(np.mean([m["alpha_precision"], m["beta_recall"], m["coverage"], min(1.0, m["density"])]))


def utility_of(arm: Arm) -> float:
    """Mean of balanced accuracy, AUROC and F1 of models trained on the rows."""
    return float(np.mean([arm.metrics[key] for key in ("balanced_accuracy", "auroc", "f1")]))


def metric(key: str) -> Callable[[Arm], float]:
    """Reads one metric."""
    return lambda arm: arm.metrics[key]


def latency(arm: Arm) -> float:
    """Seconds to draw a row."""
    return min(arm.cost.latency_seconds.values())


def by_name(claimed: Iterable[ClaimedArm], title: str) -> dict[str, list[Arm]]:
    """The arms of a title in order of seeds, by name."""
    found: dict[str, list[Arm]] = {}
    for one in sorted(claimed, key=lambda one: one.arm.seed or 0):
        if one.claim == title:
            found.setdefault(one.arm.name, []).append(one.arm)
    return found


def best_fair_baseline(arms: Arms) -> str:
    """Of the fair baselines that are at least as accurate as the student, the one with the greatest fair utility.

    Of all of them where the student is the most accurate. Chosen on the reported rows, which favours the baseline.
    """
    found = [name for name in FAIR_BASELINES if name in arms]
    ours = _mean_of(arms["student"], "balanced_accuracy")
    as_accurate = [name for name in found if _mean_of(arms[name], "balanced_accuracy") >= ours]
    return max(as_accurate or found, key=lambda name: _mean_of(arms[name], "fair_utility"))


def _mean_of(arms: Sequence[Arm], key: str) -> float:
    return float(np.mean([arm.metrics[key] for arm in arms]))


def claim(
    id: str,
    statement: str,
    data: str,
    found: tuple[float, tuple[float, float]],
    bound: str,
    seeds: int,
    paper: float | None = None,
    note: str = "",
) -> Claim:
    """A judged claim."""
    return Claim(f"{id} ({data})", statement, paper, *found, bound, seeds, judge(found[1], bound), data, COMMAND, note)


def ratio(of: Callable[[Arm], float], top: Sequence[Arm], bottom: Sequence[Arm]) -> tuple[float, tuple[float, float]]:
    """Ratio of a metric's means over the same seeds."""
    return ratio_of_means([of(arm) for arm in top], [of(arm) for arm in bottom])


def excess(of: Callable[[Arm], float], top: Sequence[Arm], bottom: Sequence[Arm]) -> tuple[float, tuple[float, float]]:
    """By how much a metric is greater, over the same seeds."""
    return mean_with_interval([of(one) - of(other) for one, other in zip(top, bottom, strict=True)])


def set_claims(name: str, arms: Arms) -> list[Claim]:
    """The paper's three ratios against the best fair baseline, and fairness against the real rows."""
    best, ours, real = best_fair_baseline(arms), arms["student"], arms["copy of the training rows"]
    rival, n = arms[best], len(ours)
    parity, aware, accuracy = metric("parity_ratio"), metric("aware_parity_ratio"), metric("balanced_accuracy")
    note = f"Best fair baseline: {best}."
    most = ratio(utility_of, real, rival)[0]
    ceiling = f"Rows that are copies of the training rows reach {most:.3f} times the baseline's utility."
    rows = [
        claim(
            "fairness",
            "Parity ratio 5 % above the best fair baseline",
            name,
            ratio(parity, ours, rival),
            ">= 1.05",
            n,
            1.05,
            note,
        ),
        claim(
            "quality",
            "Sample quality 5 % above the best fair baseline",
            name,
            ratio(quality_of, ours, rival),
            ">= 1.05",
            n,
            1.05,
        ),
        claim(
            "utility",
            "Utility 10 % above the best fair baseline",
            name,
            ratio(utility_of, ours, rival),
            ">= 1.1",
            n,
            1.10,
            ceiling,
        ),
        claim(
            "equal accuracy",
            "Balanced accuracy no lower than the best fair baseline's",
            name,
            ratio(accuracy, ours, rival),
            ">= 1.0",
            n,
        ),
        claim(
            "parity difference",
            "Parity difference no greater than the best fair baseline's (the one minus the other)",
            name,
            excess(metric("parity_difference"), ours, rival),
            "<= 0.0",
            n,
        ),
        claim(
            "fairer than real rows",
            "Parity ratio 5 % above models trained on the real rows",
            name,
            ratio(parity, ours, real),
            ">= 1.05",
            n,
        ),
    ]
    if name != "colour-mnist":
        rows.append(
            claim(
                "fairer, group given",
                "The same for models that also read the sensitive columns",
                name,
                ratio(aware, ours, real),
                ">= 1.05",
                n,
            )
        )
    return rows


def worst_of_sets(id: str, statement: str, by_set: Mapping[str, Arms], of: Callable[[Arm], float], bound: str) -> Claim:
    """Student over teacher on the data set where that ratio is greatest."""
    found = {name: ratio(of, arms["student"], arms["teacher"]) for name, arms in by_set.items()}
    name = max(found, key=lambda n: found[n][0])
    return claim(id, statement, name, found[name], bound, len(by_set[name]["student"]), note="The worst of all sets.")


def cost_claims(name: str, runs: Sequence[dict[str, Any]]) -> list[Claim]:
    """Time and memory of whole runs."""
    minutes = mean_with_interval([run["cpu_seconds"] / 60 for run in runs])
    memory = mean_with_interval([run["peak_bytes"] / 1e9 for run in runs])
    return [
        claim(
            "minutes",
            "CPU minutes of a whole run of 48,842 rows, all baselines included",
            name,
            minutes,
            "<= 10",
            len(runs),
        ),
        claim("memory", "Peak memory of a whole run in GB", name, memory, "<= 2", len(runs)),
    ]


def ablation_claims(arms: Arms) -> list[Claim]:
    """What each part of the student's loss is good for."""
    ours, n = arms["student"], len(arms["student"])
    rows = (
        ("quality loss", "Sample quality with the quality loss over without", quality_of, "no quality loss", ">= 1.0"),
        ("utility loss", "Utility with the utility loss over without", utility_of, "no utility loss", ">= 1.0"),
        (
            "student fairness",
            "Parity ratio with the student's fairness term over without",
            metric("parity_ratio"),
            "no student fairness",
            ">= 1.0",
        ),
        (
            "student s-AUROC",
            "s-AUROC from z with the student's fairness term over without",
            metric("sensitive_auroc"),
            "no student fairness",
            "<= 1.0",
        ),
        (
            "rows as generated",
            "Parity ratio with the decoder taught on rows as generated over pairs as encoded",
            metric("parity_ratio"),
            "pairs as encoded",
            ">= 1.0",
        ),
        ("penalty", "Parity ratio with the penalties over without any", metric("parity_ratio"), "beta 0", ">= 1.0"),
        (
            "penalty, z",
            "s-AUROC from z with the penalties over without any",
            metric("sensitive_auroc"),
            "beta 0",
            "<= 1.0",
        ),
    )
    return [
        claim(i, text, "compas", ratio(of, ours, arms[other]), bound, n)
        for i, text, of, other, bound in rows
        if other in arms
    ]


class Protocol:
    """The pieces that were asked for, and those of other parts that are already there."""

    def __init__(self, parts: Sequence[str], sets: Sequence[str], seeds: int) -> None:
        self.bench = Bench("fair_tables", Path(__file__).resolve().parent)
        self.parts, self.sets, self.seeds = parts, sets, seeds

    def piece(self, part: str, key: dict[str, Any], compute: Callable[[], Any]) -> Any | None:
        """A piece's value; None where it was not asked for and is not there."""
        asked = part in self.parts and key.get("set", self.sets[0]) in self.sets
        key = {"piece": part, "base": BASE, **key}
        return self.bench.piece(key, compute) if asked or self.bench.has(key) else None

    def seeded(self, part: str, key: dict[str, Any], compute: Callable[[int], Any]) -> list[Any]:
        """The pieces of all seeds that are there or asked for."""
        found = (self.piece(part, {**key, "seed": s}, lambda s=s: compute(s)) for s in range(self.seeds))
        return [value for value in found if value is not None]

    def add(self, title: str, raw: Iterable[Any]) -> None:
        """Keep arms for the result file."""
        self.bench.arms += [ClaimedArm(title, cattrs.structure(one, Arm)) for one in raw]

    def run_claims(self) -> list[Claim]:
        """Whole runs."""
        claims: list[Claim] = []
        for name in SETS:
            key = {"set": name, "options": SETS[name]}
            runs = self.seeded("runs", key, lambda seed, name=name: whole_run(SETS[name], seed))
            self.add(name, [raw for run in runs for raw in run["arms"]])
            if runs and name == "adult gender":
                claims += cost_claims(name, runs)
        by_set = {name: arms for name in SETS if (arms := by_name(self.bench.known_arms(), name))}
        claims += [made for name, arms in by_set.items() for made in set_claims(name, arms)]
        if by_set:
            claims += [
                worst_of_sets(
                    "size",
                    "At most a quarter of the teacher's parameters",
                    by_set,
                    lambda arm: float(arm.cost.parameters or 0),
                    "<= 0.25",
                ),
                worst_of_sets("speed", "Seconds to draw a row, student over teacher", by_set, latency, "<= 1.0"),
            ]
        return claims

    def ablations(self) -> list[Claim]:
        """Students under changed options, on the same rows and seeds."""
        arms: dict[str, list[Arm]] = {}
        for found in self.seeded("ablations", {"of": "student"}, lambda seed: student_ablations(ABLATED, seed)):
            for name, raw in found.items():
                arms.setdefault(name, []).append(cattrs.structure(raw, Arm))
        for name, changed in OF_TEACHER.items():
            options = {**ABLATED, **changed}
            key = {"of": name, "options": options}
            for raw in self.seeded("ablations", key, lambda seed, options=options: teacher_ablation(options, seed)):
                arms.setdefault(name, []).append(cattrs.structure(raw, Arm))
        named = [dataclasses.replace(arm, name=name) for name, some in arms.items() for arm in some]
        self.bench.arms += [ClaimedArm("ablations (compas)", arm) for arm in named]
        return ablation_claims(arms) if arms.get("student") else []

    def proxy(self) -> list[Claim]:
        """The proxy-attribute test."""
        found = self.seeded("proxy", {}, proxy_test)
        if not found:
            return []
        of = ratio_of_means([f["synthetic"] for f in found], [f["real"] for f in found])
        statement = "Link of a 95 % proxy of the group to the label, synthetic over real (Cramer's V)"
        return [claim("proxy", statement, "compas", of, "<= 0.5", len(found))]

    def sizes(self) -> list[Claim]:
        """A million rows, the memory they need, and whether cost grows with rows alone."""
        made = self.piece("sizes", {"of": "generation"}, lambda: generation_sizes("adult"))
        prepared = self.piece("sizes", {"of": "preparation"}, lambda: preparation_sizes("adult"))
        if made is None or prepared is None:
            return []
        each = [made["cpu_seconds"][str(rows)] / rows for rows in LENGTHS]
        before = [prepared[str(rows)] / rows for rows in PREPARED]
        shown = ", ".join(f"{rows:,}: {made['cpu_seconds'][str(rows)]:.1f} s" for rows in LENGTHS)
        first = ", ".join(f"{rows:,}: {prepared[str(rows)]:.2f} s" for rows in PREPARED)
        rows = (
            ("million rows", "CPU seconds to stream a million rows to CSV", each[-1] * LENGTHS[-1], "<= 120", shown),
            (
                "streaming",
                "Memory that the process grows by while it does, in MB",
                made["grown_bytes"] / 1e6,
                "<= 100",
                "",
            ),
            ("linear", "Seconds a generated row, longest table over shortest", each[-1] / each[0], "<= 1.2", ""),
            (
                "linear input",
                "Seconds an input row before training, largest table over smallest",
                before[-1] / before[0],
                "<= 1.2",
                first,
            ),
        )
        return [
            claim(id, text, "adult", (value, (value, value)), bound, 1, note=note)
            for id, text, value, bound, note in rows
        ]


GIVEN = {
    "without the group": ("parity_ratio", "balanced_accuracy"),
    "group given": ("aware_parity_ratio", "aware_balanced_accuracy"),
}


def front(arms: Sequence[ClaimedArm], path: Path) -> None:
    """Accuracy against parity, a line a data set: means of every arm, models without and with the group to read."""
    matplotlib.rcParams["svg.hashsalt"] = "stillhouse"
    names = [n for n in dict.fromkeys(claimed.claim for claimed in arms) if not n.startswith("tuning")]
    figure = Figure(figsize=(11, 4 * len(names)), layout="constrained")
    for line, name in zip(figure.subplots(len(names), 2, squeeze=False), names, strict=True):
        named = by_name(arms, name)
        for axes, (given, keys) in zip(line, GIVEN.items(), strict=True):
            for number, (label, some) in enumerate(named.items(), 1):
                x, y = (float(np.mean([arm.metrics[key] for arm in some])) for key in keys)
                colour = "#c0562b" if label == "student" else "#4c566a"
                axes.plot(x, y, "o", color=colour, label=f"{number} {label}")
                axes.annotate(str(number), (x, y), fontsize=8, color=colour, textcoords="offset points", xytext=(4, 3))
            axes.set(
                title=f"{name}, {given}", xlabel="parity ratio (1: groups treated alike)", ylabel="balanced accuracy"
            )
            axes.grid(alpha=0.3)
        line[1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=8, handlelength=0.5)
    figure.savefig(path, metadata={"Date": None})


BEGIN, END = "<!-- measured -->", "<!-- /measured -->"
SHOWN = {
    "parity_ratio": "parity",
    "parity_difference": "parity difference",
    "aware_parity_ratio": "parity, group given",
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC",
    "f1": "F1",
    "odds_ratio": "odds",
    "sensitive_auroc": "s-AUROC",
    "coverage": "coverage",
    "beta_recall": "beta-recall",
    "authenticity": "authenticity",
    "membership_advantage": "membership",
}


def measured_markdown(arms: Sequence[ClaimedArm]) -> str:
    """A table of means over seeds for every data set, as the documentation shows it."""
    parts = []
    for title in dict.fromkeys(claimed.claim for claimed in arms):
        by_name: dict[str, list[Arm]] = {}
        for claimed in arms:
            if claimed.claim == title:
                name = f"{claimed.arm.name}, {claimed.arm.note}" if title.startswith("tuning") else claimed.arm.name
                by_name.setdefault(name, []).append(claimed.arm)
        seeds = max(map(len, by_name.values()))
        rows = [f"| {name} | " + " | ".join(_mean(some, key) for key in SHOWN) + " |" for name, some in by_name.items()]
        head = [f"**{title}** ({seeds} seed{'s' * (seeds > 1)})", "", "| arm | " + " | ".join(SHOWN.values()) + " |"]
        parts.append("\n".join([*head, "| --- |" + " ---: |" * len(SHOWN), *rows]))
    return "\n\n".join(parts)


def _mean(arms: Sequence[Arm], key: str) -> str:
    values = [arm.metrics[key] for arm in arms if key in arm.metrics]
    return f"{np.mean(values):.3f}" if values else ""


def write_page(arms: Sequence[ClaimedArm], page: Path) -> None:
    """Put the tables between the page's markers."""
    text = page.read_text(encoding="utf-8")
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    page.write_text(f"{text[:begin]}\n{measured_markdown(arms)}\n{text[end:]}", encoding="utf-8")


def main() -> None:
    """Carry out the parts that were asked for and write the result file from all that is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=PARTS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    protocol = Protocol(chosen.parts, chosen.sets, chosen.seeds)
    print_estimate("fair tables", 60.0 * (len(chosen.sets) + 3) * chosen.seeds, (len(chosen.sets) + 3) * chosen.seeds)
    tune(protocol.bench, "tuning" in chosen.parts)
    claims = protocol.run_claims() + protocol.ablations() + protocol.proxy() + protocol.sizes()
    print(protocol.bench.write(claims))
    arms = protocol.bench.known_arms()
    write_page(arms, Path(__file__).resolve().parent.parent / "docs" / "methods" / "fair_tables.md")
    front(arms, protocol.bench.results_file.with_name("fair_tables_front.svg"))


if __name__ == "__main__":
    main()
