"""What Mirage's measurements say: claims with intervals over seeds, the tables of the documentation, the figure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import pearsonr, spearmanr

from stillhouse.core.evidence import Claim, ClaimedArm, judge, mean_with_interval
from stillhouse.graphs.arms import EVIDENCE_MARGIN

SETS = {"MUTAG": 2, "DHFR": 2, "COX2": 2, "PROTEINS": 1, "AIDS": 2, "NCI1": 2, "Tox21_AHR": 2, "NCI109": 2}
"""Name -> hops."""
NETWORKS = ("gin", "gat", "gcn")
BUDGETS = {"small": 2000, "large": 8000}
"""Bytes of the compressed file; MUTAG's 109 training graphs are 1,900 bytes in all, so it gets a quarter and an eighth."""
CURVE = (500, 1000, 2000, 4000, 8000, 16000, 32000)
COMMAND = "python benchmarks/mirage.py"
Rows = dict[tuple[str, int, str, str], dict[str, float]]
"""(set, seed, network, arm) -> auc, auc_last, auc_select, seconds, bytes."""
OURS = "mixtures rule, large"
TUNED = ", two rates"
"""End of the name of an arm that is tuned over two learning rates, as full data is."""
TRAINED = ("mixtures", "random", "herding", "k-centre", "itemsets", "multisets", "full")
"""First words of the arms that must clear the untrained network."""


def rows_of(arms: Iterable[ClaimedArm]) -> Rows:
    """The quality arms of a result file."""
    found: Rows = {}
    for claimed in arms:
        if claimed.claim == "quality":
            data, network, name = claimed.arm.name.split(" / ", 2)
            found[data, claimed.arm.seed, network, name] = {
                **claimed.arm.metrics,
                "bytes": float(claimed.arm.cost.bytes_on_disk or 0),
            }
    return found


def byte_arm(kind: str, size: int) -> str:
    """Name of the arm of that kind and size: the two budgets of the quality stage have names of their own."""
    named = {bytes_: name for name, bytes_ in BUDGETS.items()}
    return f"{kind}, {named.get(size, f'{size} bytes')}"


def margins(rows: Rows, arm: str, network: str = "gin", metric: str = "auc") -> dict[int, dict[str, float]]:
    """AUC - .5 on the report split, by seed and set."""
    found: dict[int, dict[str, float]] = {}
    for (data, seed, net, name), row in rows.items():
        if name == arm and net == network and data in SETS:
            found.setdefault(seed, {})[data] = row[metric] - 0.5
    return found


def margin_ratios(rows: Rows, top: str, bottom: str, network: str = "gin", metric: str = "auc") -> list[float]:
    """Mean over sets of the one margin over that of the other: one number a seed, sets that both have."""
    ratios = []
    ours, theirs = margins(rows, top, network, metric), margins(rows, bottom, network, metric)
    for seed in sorted(ours.keys() & theirs.keys()):
        common = ours[seed].keys() & theirs[seed].keys()
        if common:
            ratios.append(sum(ours[seed][d] for d in common) / sum(theirs[seed][d] for d in common))
    return ratios


def spreads(rows: Rows, arm: str, *, of_means: bool) -> list[float]:
    """Largest difference of AUC between networks by seed: of the means over sets, or the mean over sets of each set's."""
    by_network = {network: margins(rows, arm, network) for network in NETWORKS}
    found = []
    for seed in range(5):
        sets = [d for d in SETS if all(d in by_network[n].get(seed, {}) for n in NETWORKS)]
        table = np.array([[by_network[n][seed][d] for d in sets] for n in NETWORKS])
        if len(sets) == len(SETS):
            found.append(float(np.ptp(table.mean(1)) if of_means else np.ptp(table, axis=0).mean()))
    return found


def beyond_full_data(rows: Rows) -> list[float]:
    """By how much networks differ more on the summary than on full data, by seed; nothing where a seed is missing."""
    ours, full = (spreads(rows, arm, of_means=True) for arm in (OURS, "full data"))
    return [one - other for one, other in zip(ours, full, strict=True)] if len(ours) == len(full) else []


def mean_curve(rows: Rows, kind: str, seed: int, sets: Sequence[str]) -> dict[int, float]:
    """Budget -> AUC, mean over sets, where every set has it."""
    curve = {}
    for size in CURVE:
        there = [rows.get((d, seed, "gin", byte_arm(kind, size))) for d in sets]
        if all(there):
            curve[size] = float(np.mean([row["auc"] for row in there if row]))
    return curve


def curve_sets(rows: Rows) -> list[str]:
    """Sets with a curve of quality against bytes."""
    return [d for d in SETS if any(key[0] == d and key[3].endswith(" bytes") for key in rows)]


def byte_ratios(rows: Rows, size: int) -> list[float]:
    """Bytes of the summary over the bytes at which random graphs reach its AUC, by seed, at one budget of the summary.

    Random graphs' curve is read between its points on a logarithmic scale, from its running maximum; where even the
    largest sample stays below the summary, that sample's bytes are taken, so that the ratio is if anything too large.
    """
    sets, ratios = curve_sets(rows), []
    for seed in range(5):
        ours, random = mean_curve(rows, "mixtures rule", seed, sets), mean_curve(rows, "random", seed, sets)
        if size in ours and len(random) > 3:
            sizes, reached = np.array(list(random)), np.maximum.accumulate(list(random.values()))
            enough = np.flatnonzero(reached >= ours[size])
            if not len(enough):
                ratios.append(size / float(sizes[-1]))
                continue
            i = int(enough[0])
            share = 1.0 if i == 0 else (ours[size] - reached[i - 1]) / (reached[i] - reached[i - 1])
            below = sizes[max(0, i - 1)]
            ratios.append(size / float(below * (sizes[i] / below) ** share))
    return ratios


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def evidence_shares(rows: Rows, arm: str) -> list[float]:
    """Share of sets where the arm clears the untrained network by .02, by seed."""
    ours, floor = margins(rows, arm), margins(rows, "untrained")
    return [
        float(np.mean([auc >= floor[seed][d] + EVIDENCE_MARGIN for d, auc in by_set.items()]))
        for seed, by_set in ours.items()
    ]


def untrained_best(rows: Rows) -> str:
    """Where the untrained network leaves least room, in words."""
    floors = margins(rows, "untrained")
    means = {
        d: 0.5 + float(np.mean([by_set[d] for by_set in floors.values() if d in by_set]))
        for d in SETS
        if any(d in f for f in floors.values())
    }
    best = max(means, key=lambda d: means[d], default="")
    return f"on {best} the untrained network has {means[best]:.3f}" if best else ""


def times_faster(rows: Rows) -> list[float]:
    """DosCond's processor seconds over those of the summary of the same split: geometric mean over sets, by seed."""
    by_seed: dict[int, list[float]] = {}
    for (data, seed, net, name), row in rows.items():
        if name.startswith("DosCond") and (data, seed, net, OURS) in rows:
            by_seed.setdefault(seed, []).append(row["seconds"] / rows[data, seed, net, OURS]["seconds"])
    return [float(np.exp(np.mean(np.log(ratios)))) for ratios in by_seed.values()]


def premise_points(arms: Sequence[ClaimedArm]) -> dict[str, tuple[float, float]]:
    """ "set, hops" -> (share of held-out nodes in the top 200 trees, summary's margin over full data's)."""
    rows = rows_of(arms)
    coverage = {c.arm.name: c.arm.metrics["top200"] for c in arms if c.claim == "skew"}
    points = {}
    for name, share in coverage.items():
        data, hops = name.removesuffix(" hops").rsplit(", ", 1)
        usual = SETS.get(data) == int(hops)
        ends = ("", "") if usual else (f", {hops} hops", f", {hops} hops")
        ours, full = (
            [row["auc"] - 0.5 for (d, _, net, arm), row in rows.items() if (d, net, arm) == (data, "gin", wanted)]
            for wanted in (OURS + ends[0], "full data" + ends[1])
        )
        if ours and full:
            points[name] = share, float(np.mean(ours) / np.mean(full))
    return points


def _claim(
    id: str, text: str, values: list[float], threshold: str, note: str = "", paper: float | None = None
) -> Claim:
    measured, interval = mean_with_interval(values)
    if len(values) == 1:
        interval, note = (measured, measured), "; ".join(filter(None, [note, "one measurement, no interval"]))
    verdict = judge(interval, threshold)
    data = "graph sets (benchmarks/mirage.py)"
    return Claim(id, text, paper, measured, interval, threshold, len(values), verdict, data, COMMAND, note)


def quality_claims(rows: Rows) -> list[Claim]:
    """Ratios of margins over chance, mean over sets, one value a seed."""
    small, itemsets, random = "mixtures rule, small", "itemsets, small", "random, small"
    full, herding = "full data", "herding on counts, small"
    asked = (
        ("margin-of-full-data", OURS + TUNED, full, ">= 0.95", "at 8,000 bytes over full data's, equally tuned"),
        ("margin-of-full-data-small", small + TUNED, full, ">= 0.95", "at 2,000 bytes over full data's, equally tuned"),
        ("margin-of-full-data-one-rate", OURS, full, ">= 0.95", "at 8,000 bytes over full data's, only that one tuned"),
        ("margin-of-full-data-class-labels", "mixtures class, large", full, ">= 0.95", "the same, without the rule"),
        ("margin-over-random", OURS + TUNED, f"random, large{TUNED}", ">= 1.10", "over random graphs' at 8,000 bytes"),
        ("margin-over-random-small", small + TUNED, random + TUNED, ">= 1.10", "over random graphs' at 2,000 bytes"),
        ("margin-over-herding-small", small, herding, ">= 1.10", "over that of herding on tree counts at 2,000 bytes"),
        (
            "paper-arm-over-random",
            itemsets,
            random,
            ">= 1.0",
            "of the paper's tree sets over random graphs', 2,000 bytes",
        ),
    )
    found = [
        _claim(id, f"AUC - .5 {text}, GIN, mean over sets", margin_ratios(rows, top, bottom), threshold)
        for id, top, bottom, threshold, text in asked
        if margin_ratios(rows, top, bottom)
    ]
    for name in ("DosCond", "KIDD"):
        values = [
            rows[d, s, n, f"mixtures rule, bytes of {name}"]["auc"] - 0.5 - 1.1 * (row["auc"] - 0.5)
            for (d, s, n, arm), row in rows.items()
            if arm == f"{name}, 1 graph a class" and (d, s, n, f"mixtures rule, bytes of {name}") in rows
        ]
        if values:
            text = f"AUC - .5 less 1.10 times that of {name}, 1 graph a class, at equal bytes, GIN"
            found.append(_claim(f"margin-over-{name.lower()}", text, values, ">= 0.0", "each set and seed is a value"))
    return found


def other_claims(rows: Rows) -> list[Claim]:
    """Bytes, speed against DosCond, transfer, controls."""
    asked: tuple[tuple[str, str, list[float], str, str, float | None], ...] = (
        (
            "bytes-of-random",
            "Bytes (2,000) over those at which random graphs reach the same AUC, mean curve over sets",
            byte_ratios(rows, BUDGETS["small"]),
            "<= 0.25",
            "; ".join(f"{s}: {np.mean(byte_ratios(rows, s)):.2f}" for s in CURVE if byte_ratios(rows, s)),
            0.22,
        ),
        (
            "faster-than-doscond",
            "Processor seconds of DosCond over those of the summary (8,000 bytes), same core",
            times_faster(rows),
            ">= 100",
            "geometric mean over the sets measured",
            150.0,
        ),
        (
            "transfer",
            "Largest difference between GIN, GAT and mean-GCN of the AUC that one file gives them, mean over sets first",
            spreads(rows, OURS, of_means=True),
            "<= 0.02",
            "full data: " + _listed(spreads(rows, "full data", of_means=True)),
            None,
        ),
        (
            "transfer-beyond-full-data",
            "That difference less the same difference of networks trained on full data, same splits",
            beyond_full_data(rows),
            "<= 0.02",
            "",
            None,
        ),
        (
            "transfer-by-set",
            "The same difference set by set, then the mean",
            spreads(rows, OURS, of_means=False),
            "<= 0.02",
            "full data: " + _listed(spreads(rows, "full data", of_means=False)),
            None,
        ),
        (
            "clears-untrained",
            "Share of sets where the summary's row (2,000 bytes) clears the untrained network by .02",
            evidence_shares(rows, "mixtures rule, small"),
            ">= 1.0",
            untrained_best(rows),
            None,
        ),
    )
    return [_claim(i, text, v, threshold, note, paper) for i, text, v, threshold, note, paper in asked if v]


def speed_claims(arms: Sequence[ClaimedArm]) -> list[Claim]:
    """Processor seconds and memory; a process a value."""
    takes: dict[str, list[dict[str, float]]] = {}
    for claimed in arms:
        if claimed.claim == "speed":
            takes.setdefault(claimed.arm.name, []).append(dict(claimed.arm.metrics))
    asked: tuple[tuple[str, str, str, Callable[[dict[str, float]], float], str], ...] = (
        ("nci1-2-hops-seconds", "NCI1, 2 hops", "Counted and summarised, seconds", lambda m: m["seconds"], "<= 5"),
        ("nci1-2-hops-memory", "NCI1, 2 hops", "Peak memory of the process, MB", lambda m: m["peak_mb"], "<= 1024"),
        ("nci1-3-hops-seconds", "NCI1, 3 hops", "Counted and summarised, seconds", lambda m: m["seconds"], "<= 10"),
        (
            "million-graphs-memory",
            "stream:1000000, 2 hops",
            "A million motif graphs: peak memory of the process over that before, MB",
            lambda m: m["peak_mb"] - m["start_mb"],
            "<= 1024",
        ),
    )
    found = [
        _claim(id, f"{name}: {text}", [value(m) for m in takes[name]], threshold)
        for id, name, text, value, threshold in asked
        if name in takes
    ]
    two, three = takes.get("IMDB-BINARY, 2 hops", []), takes.get("IMDB-BINARY, 3 hops", [])
    ratios = [c["seconds"] / b["seconds"] for b, c in zip(two, three, strict=False)]
    if ratios:
        found.append(_claim("imdb-3-over-2-hops", "IMDB-BINARY: seconds at 3 hops over 2 hops", ratios, "<= 1.5"))
    return found


def premise_claims(arms: Sequence[ClaimedArm]) -> list[Claim]:
    """Whether the skew statistic, known before distilling, foretells the quality."""
    points = premise_points(arms)
    if len(points) < 5:
        return []
    share, quality = np.array(list(points.values())).T
    measured = pearsonr(share, quality)
    low, high = measured.confidence_interval(0.95)
    rank = float(spearmanr(share, quality).statistic)
    return [
        Claim(
            "skew-foretells-quality",
            "Correlation over sets and depths of the top 200 trees' coverage with the summary's share of full data's margin",
            None,
            float(measured.statistic),
            (float(low), float(high)),
            ">= 0.0",
            len(points),
            judge((float(low), float(high)), ">= 0.0"),
            "graph sets (benchmarks/mirage.py)",
            COMMAND,
            f"{len(points)} points (not seeds), Fisher interval; rank correlation {rank:.2f}",
        )
    ]


def all_claims(arms: Sequence[ClaimedArm]) -> list[Claim]:
    """What the arms so far say."""
    rows = rows_of(arms)
    return [*quality_claims(rows), *other_claims(rows), *speed_claims(arms), *premise_claims(arms)]


def quality_table(rows: Rows) -> str:
    """Mean AUC over seeds with the half width of its 95 % t-interval, by set and arm, GIN; the last update in brackets."""
    names = dict.fromkeys(name for (d, _, net, name) in rows if net == "gin" and d in SETS)
    arms = [name for name in names if not name.endswith((" bytes", " hops", "DosCond", "KIDD", "1 graph a class"))]
    lines = ["| arm | " + " | ".join(SETS) + " |", "|---" * (len(SETS) + 1) + "|"]
    rest = [f"| {arm} | " + " | ".join(_cell(rows, data, arm) for data in SETS) + " |" for arm in arms]
    return "\n".join(lines + rest)


def _cell(rows: Rows, data: str, arm: str, network: str = "gin") -> str:
    here = [row for (d, _, net, name), row in sorted(rows.items()) if (d, net, name) == (data, network, arm)]
    if not here:
        return "-"
    auc, (low, high) = mean_with_interval([row["auc"] for row in here])
    last = np.mean([row["auc_last"] for row in here])
    floor = [row["auc"] for (d, _, net, name), row in rows.items() if (d, net, name) == (data, network, "untrained")]
    mark = "*" if arm.split()[0].strip(",") in TRAINED and floor and auc < np.mean(floor) + EVIDENCE_MARGIN else ""
    half = f" ±{(high - low) / 2:.2f}" if len(here) > 1 else ""
    return f"{auc:.3f}{half} ({last:.3f}){mark}" + (f", {len(here)} seed(s)" if len(here) != 5 else "")


def network_table(rows: Rows) -> str:
    """Mean over sets of AUC by network, over the splits that an arm has in every set and network."""
    arms = {"summary": OURS, "full data": "full data", "untrained": "untrained"}
    seeds = {arm: _complete_seeds(rows, arm) for arm in arms.values()}

    def mean(arm: str, network: str) -> str:
        found = margins(rows, arm, network)
        return f"{0.5 + np.mean([list(found[s].values()) for s in seeds[arm]]):.3f}" if seeds[arm] else "-"

    head = " | ".join(f"{name}, {len(seeds[arm])} splits" for name, arm in arms.items())
    lines = [f"| network | {head} |", "|---" * 4 + "|"]
    lines += [f"| {net} | " + " | ".join(mean(arm, net) for arm in arms.values()) + " |" for net in NETWORKS]
    return "\n".join(lines)


def _complete_seeds(rows: Rows, arm: str) -> list[int]:
    complete = [{s for s, by in margins(rows, arm, n).items() if len(by) == len(SETS)} for n in NETWORKS]
    return sorted(set.intersection(*complete))


def gradient_table(rows: Rows) -> str:
    """DosCond and KIDD beside a summary of as many bytes."""
    lines = [
        "| set, seed | method | bytes | AUC (last) | seconds | summary of these bytes: AUC (last) |",
        "|---" * 6 + "|",
    ]
    for (data, seed, net, name), row in sorted(rows.items()):
        if name.endswith("1 graph a class"):
            method = name.split(",")[0]
            ours = rows.get((data, seed, net, f"mixtures rule, bytes of {method}"))
            beside = f"{ours['auc']:.3f} ({ours['auc_last']:.3f})" if ours else "-"
            own = f"{row['auc']:.3f} ({row['auc_last']:.3f})"
            lines.append(
                f"| {data}, {seed} | {method} | {row['bytes']:.0f} | {own} | {row['seconds']:.1f} | {beside} |"
            )
    return "\n".join(lines)


def molecule_table(rows: Rows) -> str:
    """Molecules from SMILES."""
    arms = ("untrained", "size alone", "logistic regression on 200 tree counts", "full data", OURS, "random, large")
    lines = ["| arm | tox21 (NR-AhR) | hiv |", "|---|---|---|"]
    return "\n".join(lines + [f"| {a} | {_cell(rows, 'tox21', a)} | {_cell(rows, 'hiv', a)} |" for a in arms])


def speed_table(arms: Sequence[ClaimedArm]) -> str:
    """Seconds and memory, the median process."""
    takes: dict[str, list[dict[str, float]]] = {}
    for claimed in arms:
        if claimed.claim == "speed":
            takes.setdefault(claimed.arm.name, []).append(dict(claimed.arm.metrics))
    lines = [
        "| data | graphs | node words | distinct trees | counting, s | all, s | memory grows by, MB |",
        "|---" * 7 + "|",
    ]
    for name, found in takes.items():
        m = {key: float(np.median([take[key] for take in found])) for key in found[0]}
        grown = m["peak_mb"] - m["start_mb"]
        lines.append(
            f"| {name} | {m['graphs']:,.0f} | {m['words']:.0f} | {m['distinct']:,.0f} | {m['census_seconds']:.2f} "
            f"| {m['seconds']:.2f} | {grown:.0f} |"
        )
    return "\n".join(lines)


def premise_table(arms: Sequence[ClaimedArm]) -> str:
    """The statistic known before, and what came of it."""
    lines = ["| set, depth | held-out nodes in the top 200 trees | share of full data's margin |", "|---|---|---|"]
    ordered = sorted(premise_points(arms).items(), key=lambda item: -item[1][0])
    return "\n".join(lines + [f"| {name} | {share:.2f} | {quality:.2f} |" for name, (share, quality) in ordered])


def tables(arms: Sequence[ClaimedArm]) -> str:
    """All tables of the documentation."""
    rows = rows_of(arms)
    parts = {
        "AUC, GIN": quality_table(rows),
        "The same file under three networks, mean over sets": network_table(rows),
        "Gradient-based condensers": gradient_table(rows),
        "Molecules from SMILES": molecule_table(rows),
        "Cost": speed_table(arms),
        "Skew, measured before distilling": premise_table(arms),
    }
    return "\n\n".join(f"**{title}**\n\n{table}" for title, table in parts.items())


def plot(rows: Rows, path: Path) -> None:
    """Quality against bytes of the file: mean over seeds, a panel a set."""
    matplotlib.rcParams["svg.hashsalt"] = "stillhouse"
    sets = curve_sets(rows)
    if not sets:
        return
    figure = Figure(figsize=(4 * len(sets), 3.6), layout="constrained")
    for axes, data in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets, strict=True):
        for kind, colour in (("mixtures rule", "#c0562b"), ("random", "#4c566a")):
            points = [_mean_point(rows, data, byte_arm(kind, size)) for size in CURVE]
            x, y = zip(*(point for point in points if point), strict=True)
            axes.plot(x, y, marker="o", color=colour, label="summary" if kind.startswith("mix") else "random graphs")
        full = [row["auc"] for (d, _, net, arm), row in rows.items() if (d, net, arm) == (data, "gin", "full data")]
        axes.axhline(float(np.mean(full)), color="grey", linestyle="--", label="full data")
        axes.set(xscale="log", xlabel="bytes of the file", ylabel="AUC", title=data)
        axes.legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def _mean_point(rows: Rows, data: str, arm: str) -> tuple[float, float] | None:
    found = [row for (d, _, net, name), row in rows.items() if (d, net, name) == (data, "gin", arm)]
    return (float(np.mean([r["bytes"] for r in found])), float(np.mean([r["auc"] for r in found]))) if found else None
