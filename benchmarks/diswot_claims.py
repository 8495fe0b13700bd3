"""What the pieces of diswot.py say: a row a score, claims with intervals over networks or seeds, tables of the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from diswot_scores import means
from stillhouse.core.evidence import Claim, ClaimedArm, judge, mean_with_interval, ratio_of_means
from stillhouse.core.result import Arm, Cost, Role
from stillhouse.vision.ranking import EQUAL_COST, PairTable, bootstrap, partial_tau, rank_sum, regret, spearman

COMMAND = "python benchmarks/diswot.py"
Scored = Mapping[str, list[float]]
PUBLISHED = "gaussian/random/diswot"
COMBINED: Mapping[str, tuple[str, ...]] = {
    "NWOT + channel uniformity + live MACs": (
        "kaiming/none/nwot",
        "kaiming/none/channel_uniformity",
        "kaiming/none/live_macs",
    ),
    "NWOT + sample uniformity + live MACs": (
        "kaiming/none/nwot",
        "kaiming/none/sample_uniformity",
        "kaiming/none/live_macs",
    ),
    "NWOT + relation to the random teacher + live MACs": (
        "kaiming/none/nwot",
        "kaiming/random/relation",
        "kaiming/none/live_macs",
    ),
    "NWOT + relation to the trained teacher + live MACs": (
        "kaiming/none/nwot",
        "kaiming/trained/relation",
        "kaiming/none/live_macs",
    ),
    "NWOT + alignment with the trained teacher + live MACs": (
        "kaiming/none/nwot",
        "kaiming/trained/logit_alignment",
        "kaiming/none/live_macs",
    ),
    "NWOT + SynFlow + channel uniformity + live MACs": (
        "kaiming/none/nwot",
        "kaiming/none/synflow",
        "kaiming/none/channel_uniformity",
        "kaiming/none/live_macs",
    ),
    "SynFlow + channel uniformity": ("kaiming/none/synflow", "kaiming/none/channel_uniformity"),
    "SNIP + NWOT + channel uniformity": ("kaiming/none/snip", "kaiming/none/nwot", "kaiming/none/channel_uniformity"),
    "NWOT + SynFlow": ("kaiming/none/nwot", "kaiming/none/synflow"),
    "relation + SynFlow": ("kaiming/random/relation", "kaiming/none/synflow"),
}
"""Rank sums."""
SAME = ("kaiming/permuted/class_gram", "gaussian/permuted/class_gram")
"""Rows that are another row: the permuted teacher of these pieces has its channels in another order, which class_gram does not see."""
OURS = "NWOT + channel uniformity + live MACs"
SINGLE = ("nwot", "synflow", "grad_norm", "snip", "fisher", "grasp", "jacob_cov", "zen")
PROXIES = tuple(f"kaiming/none/{name}" for name in SINGLE)


@dataclass(frozen=True)
class Networks:
    """Networks of one space with their scores, and an accuracy that the scores are held against."""

    name: str
    truth_name: str
    rows: Sequence[Scored]
    truth: Sequence[float]
    cost: str
    """The score that cost is measured by."""
    within: float = EQUAL_COST
    """Networks whose costs differ by at most this factor cost the same."""

    @property
    def costs(self) -> list[float]:
        """Of every network."""
        return means(self.rows, f"kaiming/none/{self.cost}")

    def has(self, row: str) -> bool:
        """Whether the networks have what a row needs."""
        return all(key in scores for key in COMBINED.get(row, (row,)) for scores in self.rows)

    def scores(self, row: str, draw: int | None = None) -> list[float]:
        """A single score by key, or a rank sum by name, of every network."""
        if row in COMBINED:
            return list(rank_sum([means(self.rows, key) for key in COMBINED[row]]))
        return means(self.rows, row, draw)

    def table(self, row: str, at_equal_cost: bool = False) -> PairTable:
        """Pairs of networks under a row's score."""
        return PairTable(self.scores(row), self.truth, self.costs if at_equal_cost else None, self.within)


def all_rows(networks: Networks) -> list[str]:
    """Every row that the networks have scores for."""
    keys = [key for key in networks.rows[0] if all(key in row for row in networks.rows) and key not in SAME]
    return [*(name for name in COMBINED if networks.has(name)), *keys]


def role_of(row: str) -> Role:
    """The paper's scores and ours are students; controls are floors; what others have is a baseline."""
    if row in COMBINED or row == PUBLISHED:
        return "student"
    return "floor" if "/noise/" in row or "/permuted/" in row else "baseline"


def score_arms(networks: Networks) -> list[ClaimedArm]:
    """A row a score: tau, partial tau, tau at equal cost, regret."""
    found, one = [], np.ones(len(networks.truth))
    costs, bound = networks.costs, float(np.median(networks.costs))
    for row in all_rows(networks):
        values = networks.scores(row)
        plain, equal = networks.table(row), networks.table(row, at_equal_cost=True)
        low, high = bootstrap(plain.tau, len(one))
        equal_low, equal_high = bootstrap(equal.tau, len(one))
        metrics = {
            "tau": plain.tau(one),
            "tau_low": low,
            "tau_high": high,
            "spearman": spearman(values, networks.truth),
            "partial_tau": partial_tau(values, networks.truth, costs),
            "tau_at_equal_cost": equal.tau(one),
            "tau_at_equal_cost_low": equal_low,
            "tau_at_equal_cost_high": equal_high,
            "regret_top1": regret(values, networks.truth, costs, bound),
            "regret_top5": regret(values, networks.truth, costs, bound, 5),
        }
        if row not in COMBINED and len(networks.rows[0][row]) > 1:
            taus = [
                PairTable(networks.scores(row, d), networks.truth).tau(one) for d in range(len(networks.rows[0][row]))
            ]
            metrics["tau_sd_over_draws"] = float(np.std(taus, ddof=1))
        found.append(ClaimedArm(f"scores: {networks.name}, {networks.truth_name}", Arm(row, role_of(row), metrics)))
    return found


def _claim(
    networks: Networks,
    id_: str,
    statement: str,
    statistic: Callable[[np.ndarray], float],
    threshold: str,
    *,
    paper: float | None = None,
    note: str = "",
) -> Claim:
    """A claim with a bootstrap interval over networks."""
    size = len(networks.truth)
    interval = bootstrap(statistic, size, 1000)
    value = statistic(np.ones(size))
    data = f"{networks.name}, {networks.truth_name} (benchmarks/diswot.py)"
    where = f"{size} networks, interval by bootstrap over them"
    return Claim(
        f"{networks.name} {networks.truth_name}: {id_}",
        statement,
        paper,
        value,
        interval,
        threshold,
        1,
        judge(interval, threshold),
        data,
        COMMAND,
        "; ".join(filter(None, [where, note])),
    )


def _difference(one: PairTable, other: PairTable) -> Callable[[np.ndarray], float]:
    return lambda weights: one.tau(weights) - other.tau(weights)


def score_claims(networks: Networks, paper: float | None) -> list[Claim]:
    """What the paper claims of its score, at equal cost too; whether the teacher matters; who wins."""
    truth = networks.truth_name
    ours, cost = networks.table(OURS), networks.table(f"kaiming/none/{networks.cost}")
    claims = []
    if networks.has(PUBLISHED):
        published = networks.table(PUBLISHED)
        noise = networks.table("gaussian/noise/diswot")
        claims += [
            _claim(
                networks,
                "published",
                f"Tau of the published score with {truth} accuracy",
                published.tau,
                ">= 0.4",
                paper=paper,
            ),
            _claim(
                networks,
                "published over cost",
                f"Tau of the published score less that of {networks.cost}",
                _difference(published, cost),
                ">= 0.0",
            ),
            _claim(
                networks,
                "published at equal cost",
                f"Tau of the published score among networks of equal {networks.cost}",
                networks.table(PUBLISHED, True).tau,
                ">= 0.1",
            ),
            _claim(
                networks,
                "teacher",
                "Tau of the published score less the same with noise in the teacher's place",
                _difference(published, noise),
                ">= 0.02",
            ),
        ]
    claims += [
        _claim(
            networks,
            "ours over cost",
            f"Tau of {OURS} (the default) less that of {networks.cost}",
            _difference(ours, cost),
            ">= 0.0",
        ),
        _claim(
            networks,
            "ours at equal cost",
            f"Tau of the default score among networks of equal {networks.cost}",
            networks.table(OURS, True).tau,
            ">= 0.1",
        ),
    ]
    rivals = {row: networks.table(row, True) for row in PROXIES if networks.has(row)}
    best = max(rivals, key=lambda row: rivals[row].tau(np.ones(len(networks.truth))))
    ours_equal = networks.table(OURS, True)
    name = best.rsplit("/", 1)[1]
    claims.append(
        _claim(
            networks,
            "ours over the best proxy at equal cost",
            "Tau of the default score at equal cost less that of the best single proxy there",
            _difference(ours_equal, rivals[best]),
            ">= 0.0",
            note=f"the best single proxy is {name}, chosen on these networks",
        )
    )
    return claims


def pair_claim(
    networks: Networks, other: Sequence[float], id_: str, statement: str, threshold: str, note: str = ""
) -> Claim:
    """Tau between two accuracies of the same networks."""
    return _claim(networks, id_, statement, PairTable(other, networks.truth).tau, threshold, note=note)


def regret_claim(networks: Networks, row: str) -> Claim:
    """What is lost by taking the best by score under the median cost, in units of the gap between best and median."""

    def share(weights: np.ndarray) -> float:
        there = np.flatnonzero(weights)
        scores, truth, costs = (np.asarray(v)[there] for v in (networks.scores(row), networks.truth, networks.costs))
        bound = float(np.median(networks.costs))
        inside = truth[costs <= bound]
        gap = float(inside.max() - np.median(inside))
        return regret(scores, truth, costs, bound) / gap if gap > 0 else 0.0

    return _claim(
        networks,
        "regret",
        f"Lost by taking the best under the median cost by the default score, of the gap between best and median ({networks.truth_name})",
        share,
        "<= 0.25",
    )


def distiller_claims(values: Mapping[str, Sequence[float]], data: str, ours: str) -> list[Claim]:
    """Accuracy of the paper's distiller less that of each other, paired by seed."""
    claims = []
    for name, theirs in values.items():
        if name in (ours, "labels alone"):
            continue
        differences = [a - b for a, b in zip(values[ours], theirs, strict=True)]
        value, interval = mean_with_interval(differences)
        paper = 0.0158 if name == "KD" else None
        claims.append(
            Claim(
                f"distillers {data}: over {name}",
                f"Accuracy of {ours} less that of {name}, equal updates",
                paper,
                value,
                interval,
                ">= 0.0",
                len(differences),
                judge(interval, ">= 0.0"),
                f"{data} (benchmarks/diswot.py)",
                COMMAND,
                f"{ours}: {np.mean(values[ours]):.4f}; {name}: {np.mean(theirs):.4f}",
            )
        )
    return claims


def distiller_arms(pieces: Mapping[str, Sequence[Mapping[str, float]]], data: str) -> list[ClaimedArm]:
    """A row a distiller and seed."""
    return [
        ClaimedArm(
            f"distillers: {data}",
            Arm(
                name,
                "student" if "DisWOT" in name else "baseline",
                {"accuracy": piece["accuracy"]},
                Cost(training_seconds=piece["seconds"]),
                seed,
            ),
        )
        for name, found in pieces.items()
        for seed, piece in enumerate(found)
    ]


def cost_claims(trainings: Sequence[float], score_seconds: Sequence[float], published_share: float) -> list[Claim]:
    """Search by training against search by scoring, in processor seconds measured side by side."""
    ratio, interval = ratio_of_means(trainings, score_seconds, paired=False)
    return [
        Claim(
            "search cost",
            "Seconds to train a student once over seconds to score it (what a search by training costs more)",
            180.0,
            ratio,
            interval,
            ">= 180",
            min(len(trainings), len(score_seconds)),
            judge(interval, ">= 180"),
            "students on Fashion-MNIST at 8 x 8 (benchmarks/diswot.py)",
            COMMAND,
            f"with {published_share:.0f} updates of 64 images; the ratio grows with the length of training",
        )
    ]


def shown(row: str) -> bool:
    """Whether a row is in the page's tables: all are in the result file."""
    return not row.startswith("gaussian/") or row.endswith(("/diswot", "/grad_norm", "/snip"))


def table_of(arms: Sequence[ClaimedArm], claim: str) -> str:
    """The rows of one set of networks as Markdown, best at equal cost first."""
    rows = sorted((a.arm for a in arms if a.claim == claim), key=lambda arm: -arm.metrics["tau_at_equal_cost"])
    lines = [
        "| score (initialisation / teacher / name) | tau | given cost | at equal cost | regret, top 1 | top 5 | sd of tau over draws |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm in filter(lambda arm: shown(arm.name), rows):
        m = arm.metrics
        spread = f"{m['tau_sd_over_draws']:.3f}" if "tau_sd_over_draws" in m else ""
        lines.append(
            f"| {arm.name} | {m['tau']:.2f} [{m['tau_low']:.2f}, {m['tau_high']:.2f}] | {m['partial_tau']:.2f} | {m['tau_at_equal_cost']:.2f} "
            f"[{m['tau_at_equal_cost_low']:.2f}, {m['tau_at_equal_cost_high']:.2f}] | {m['regret_top1']:.2f} | {m['regret_top5']:.2f} | {spread} |"
        )
    return "\n".join(lines)
