"""DMD2's claims, measured again: python benchmarks/dmd2.py [--part digits|mnist|short|text|schedule|speed|memory|kills|peer|write|all]

Every arm of a data set shares the teacher, the data splits, the batch, the evaluation noise and the tuning budget: one
learning rate out of two, chosen per arm on the select split with a seed of its own, then reported on the report split.
The arms that are compared with each other are short. One arm, compared with the teacher only, trains for as long as this
machine allows, at what that seed's select split showed to end best: far higher learning rates, which then fall over most of
the run (part "schedule"), and a GAN gradient of a fifth of the matching loss's.
Pieces are kept in scratch/ and skipped when the script is started again; the last part writes benchmarks/results/dmd2.json.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import torch
import tyro

from dmd2_arms import (
    ARMS,
    BENCH,
    DEFAULT_ARMS,
    DIGITS_ARMS,
    LEARNING_RATES,
    LONG,
    LONG_PLAIN,
    LONGEST,
    MNIST_ARMS,
    OURS,
    PEER_VARIANTS,
    RECIPES,
    SCHEDULES,
    SEEDS,
    SHORT,
    SHORT_ARMS,
    TUNING_SEED,
    TUNING_SHARE,
    finished_runs,
    peer_key,
    peer_rate,
    run_part,
    run_peer,
    run_schedules,
    schedule_key,
    schedule_name,
)
from dmd2_costs import MEMORY, kill_trials, memory_table, speed_key, speed_table
from dmd2_peer import peer_version
from stillhouse.core.evidence import Claim, ClaimedArm, judge, mean_with_interval, print_estimate, ratio_of_means
from stillhouse.core.result import Arm, Cost, Role

COMMAND = "python benchmarks/dmd2.py"

# ---- claims


def at(found: Any, metric: str, axis: str, position: float) -> float:
    """A curve's value at a position of an axis, linearly between its points."""
    points = [(point[axis], point[metric]) for point in found["curve"]]
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 <= position <= x1:
            return y0 + (y1 - y0) * (position - x0) / (x1 - x0)
    raise ValueError(f"the curve does not reach {axis} = {position}")


def claim(
    id: str,
    statement: str,
    paper: float | None,
    ratio: tuple[float, tuple[float, float]],
    threshold: str,
    data: str,
    part: str,
    note: str = "",
    seeds: int | None = None,
) -> Claim:
    """A claim with its verdict."""
    measured, interval = ratio
    return Claim(
        id,
        statement,
        paper,
        round(measured, 4),
        (round(interval[0], 4), round(interval[1], 4)),
        threshold,
        seeds or len(SEEDS[data]),
        judge(interval, threshold),
        data,
        f"{COMMAND} --part {part} && {COMMAND} --part write",
        note,
    )


TEACHER = "teacher, Heun, 18 steps"


def values(runs: dict[int, Any], metric: str, of: str = "student") -> dict[int, float]:
    """One metric of every run, by seed: the student's, or another arm's of the same run."""
    source = {seed: run if of == "student" else run["others"][of] for seed, run in runs.items()}
    return {seed: found.get(metric, found["metrics"].get(metric)) for seed, found in source.items()}


def ratio_claim(
    id: str,
    statement: str,
    paper: float | None,
    top: dict[int, float],
    bottom: dict[int, float],
    threshold: str,
    data: str,
    part: str,
    note: str = "",
) -> Claim:
    """A claim on the ratio of two arms, over the seeds that both have."""
    seeds = sorted(top.keys() & bottom.keys())
    ratio = ratio_of_means([top[seed] for seed in seeds], [bottom[seed] for seed in seeds])
    return claim(id, statement, paper, ratio, threshold, data, part, note, len(seeds))


def against_teacher(
    id: str, title: str, runs: dict[int, Any], paper: float | None, data: str, part: str
) -> list[Claim]:
    """FID above the floor, precision, recall and class accuracy of a student, as shares of its teacher's."""

    def average(metric: str, of: str) -> float:
        return mean(list(values(runs, metric, of).values()))

    fid, above, kid, copies = (
        (average(key, "student"), average(key, TEACHER), average(key, "real training images"))
        for key in ("fid", "fid_above_floor", "kid", "recall")
    )
    note = (
        f"raw FID {fid[0]:.3f} against {fid[1]:.3f} (real training images {fid[2]:.3f}), above floor {above[0]:.3f} "
        f"against {above[1]:.3f}; KID {kid[0]:.4f} against {kid[1]:.4f}; recall {copies[0]:.3f} against {copies[1]:.3f}"
    )
    return [
        ratio_claim(
            f"{id}-fid-{data}",
            f"{title}, FID above floor, against the teacher's 35 passes",
            paper,
            values(runs, "fid_above_floor"),
            values(runs, "fid_above_floor", TEACHER),
            "<= 1.0",
            data,
            part,
            note,
        ),
        *(
            ratio_claim(
                f"{id}-{key}-{data}",
                f"{title}, {name} against the teacher's",
                None,
                values(runs, key),
                values(runs, key, TEACHER),
                ">= 0.95",
                data,
                part,
            )
            for key, name in (("precision", "precision"), ("recall", "recall"), ("class_accuracy", "class accuracy"))
        ),
    ]


Comparison = tuple[str, str, float | None, str, str, str]
COMPARISONS: tuple[Comparison, ...] = (
    # claim, statement, the paper's figure, arm, against, threshold; "{data}" where both data sets have it
    (
        "two-time-scale-updates-{data}",
        "5 critic updates against 1, FID at equal student updates, no GAN",
        0.75,
        "5:1",
        "1:1",
        "<= 1.0",
    ),
    ("gan-{data}", "+ GAN against none, FID at equal student updates", 0.58, OURS, "5:1", "<= 1.0"),
    (
        "two-time-scale-passes",
        "5 critic updates against 1, FID at equal network passes, no GAN",
        None,
        "5:1",
        "1:1, three times as long",
        "<= 1.0",
    ),
    ("gan-alone", "GAN alone against matching + GAN, FID", None, "GAN alone", OURS, ">= 1.0"),
    ("no-fake-score", "No fake score (SDS) against 1:1, FID", None, "no fake score (SDS)", "1:1", ">= 1.0"),
    (
        "backward-simulation",
        "4 steps: backward simulation against noised real inputs, FID",
        None,
        "4 steps, backward simulation",
        "4 steps, noised real inputs",
        "<= 1.0",
    ),
)


def claims_of(data: str, part: str) -> list[Claim]:
    """The claims that this data set's finished arms decide."""
    names = {"digits": DIGITS_ARMS, "mnist-5k": MNIST_ARMS, SHORT: SHORT_ARMS}[data]
    found = {name: runs for name in names if (runs := finished_runs(data, name))}
    collect_arms(data, found)
    made = []
    for name, id in ((LONG, "one-step"), (LONGEST, "one-step-longest"), (LONG_PLAIN, "one-step-plain")):
        if name in found:
            gan = ", no GAN" if name == LONG_PLAIN else ""
            title = f"One step, {RECIPES[name].student_updates(data)} updates{gan}"
            made += against_teacher(id, title, found[name], None if name == LONG_PLAIN else 0.55, data, part)
    if "4 steps, backward simulation" in found:
        made += against_teacher("four-step", "4 steps", found["4 steps, backward simulation"], None, data, part)
    fids = {name: values(runs, "fid") for name, runs in found.items()}
    for id, statement, paper, top, bottom, threshold in COMPARISONS:
        if top in found and bottom in found:
            recalls = [mean(list(values(found[name], "recall").values())) for name in (top, bottom)]
            made.append(
                ratio_claim(
                    id.format(data=data),
                    statement,
                    paper,
                    fids[top],
                    fids[bottom],
                    threshold,
                    data,
                    part,
                    note=f"recall {recalls[0]:.3f} against {recalls[1]:.3f}",
                )
            )
    if OURS in found and "5:1" in found:
        passes = values(found["5:1"], "training_passes")
        gan = {
            seed: at(run, "fid", "network_passes", passes[seed]) for seed, run in found[OURS].items() if seed in passes
        }
        made.append(
            ratio_claim(
                f"gan-passes-{data}",
                "+ GAN against none, FID at equal network passes",
                None,
                gan,
                fids["5:1"],
                "<= 1.0",
                data,
                part,
                note="the GAN arm read off its curve, before its cooldown",
            )
        )
    return made + (speed_claims(data) if data != SHORT else [])


def speed_claims(data: str) -> list[Claim]:
    """How many times faster an image is than from the teacher."""
    table = [row for seed in SEEDS[data] if (row := BENCH.kept(speed_key(data, seed)))]
    return [
        claim(
            f"speed-{batch.replace(' ', '-')}-{data}",
            f"Times faster an image than the teacher, {batch}",
            None,
            mean_with_interval([row["teacher"][batch] / row["student"][batch] for row in table]),
            ">= 25",
            data,
            "speed",
        )
        for batch in ("batch 1", "batch 64")
        if len(table) == len(SEEDS[data])
    ]


def collect_arms(data: str, found: dict[str, dict[int, Any]]) -> None:
    """Every arm's raw numbers, for the result file."""
    for name, runs in found.items():
        for seed, run in runs.items():
            cost = Cost(
                parameters=run["parameters"],
                latency_seconds=run["latency"],
                updates=run["updates"],
                training_seconds=run["training_seconds"],
                training_passes=run["training_passes"],
            )
            role: Role = "student" if name == OURS else "baseline"
            BENCH.arms.append(ClaimedArm(data, Arm(name, role, run["metrics"], cost, seed)))
    judged = {seed: run for runs in found.values() for seed, run in runs.items()}  # a seed's arms share their teacher
    for seed, run in judged.items():
        for name, other in run["others"].items():
            role = "teacher" if name == TEACHER else "floor" if name.startswith("real") else "baseline"
            cost = Cost(other["parameters"], network_passes=other["passes"], latency_seconds=other["latency"])
            BENCH.arms.append(ClaimedArm(data, Arm(name, role, other["metrics"], cost, seed)))


def peer_claims() -> list[Claim]:
    """Against the peer at equal passes, on the seeds that both have."""
    made = []
    for gan in PEER_VARIANTS:
        if not all(BENCH.has(peer_key(TUNING_SEED, gan, rate, "select", TUNING_SHARE)) for rate in LEARNING_RATES):
            continue
        ours = finished_runs("digits", OURS if gan else "5:1")
        keys = {seed: peer_key(seed, gan, peer_rate(gan), "report") for seed in SEEDS["digits"]}
        theirs = {seed: run for seed, key in keys.items() if seed in ours and (run := BENCH.kept(key))}
        name = f"nvidia-modelopt {peer_version()}{' + GAN' if gan else ''}"
        for seed, run in theirs.items():
            cost = Cost(training_seconds=run["training_seconds"], training_passes=run["training_passes"])
            BENCH.arms.append(ClaimedArm("peer", Arm(name, "peer", run["metrics"], cost, seed)))
        passes = {seed: min(ours[seed]["training_passes"], run["training_passes"]) for seed, run in theirs.items()}
        made.append(
            ratio_claim(
                f"peer-{'gan' if gan else 'plain'}",
                f"FID against nvidia-modelopt's DMDPipeline{' with GAN' if gan else ', no GAN'}, at equal passes",
                None,
                {seed: at(ours[seed], "fid", "network_passes", passes[seed]) for seed in theirs},
                {seed: at(theirs[seed], "fid", "network_passes", passes[seed]) for seed in theirs},
                "<= 1.0",
                "digits",
                "peer",
            )
        )
    return made


def mean(values: list[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)


def write() -> None:
    """Claims from whatever pieces are here; nothing is computed."""
    made = claims_of("digits", "digits") + claims_of("mnist-5k", "mnist") + claims_of(SHORT, "short") + peer_claims()
    if runs := finished_runs("captioned digits", OURS):
        collect_arms("captioned digits", {OURS: runs})  # one seed: arms in the file, but no claim
    if kills := BENCH.kept({"part": "kills"}):
        share = kills["bit_equal_runs"] / kills["runs"]
        made.append(
            claim(
                "resume",
                f"Share of runs, killed {kills['kills']} times in all, that end in the weights of the run never killed",
                None,
                (share, (share, share)),
                ">= 1.0",
                "digits",
                "kills",
                str(kills),
                kills["runs"],
            )
        )
    for key in MEMORY:
        if row := BENCH.kept(key):
            name = f"width {row['width']}, batch {row['batch']}"
            BENCH.arms.append(ClaimedArm("memory", Arm(name, "baseline", row, Cost(parameters=int(row["parameters"])))))
    for schedule in SCHEDULES:
        if run := BENCH.kept(schedule_key(schedule)):
            arm = Arm(schedule_name(schedule), "baseline", run["metrics"], Cost(updates=run["updates"]), TUNING_SEED)
            BENCH.arms.append(ClaimedArm("schedule, select split", arm))
    print(BENCH.write(made))


def main(
    part: Literal[
        "digits", "mnist", "short", "text", "schedule", "speed", "memory", "kills", "peer", "write", "all"
    ] = "all",
    arms: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (),
    from_the_end: bool = False,
) -> None:
    """Measure one part, or all and write the result file.

    Args:
        part: which.
        arms: only these arms of digits, mnist-5k or the short teacher, by name; by default all but the longest.
        seeds: only these seeds of them; all by default.
        from_the_end: take arms and seeds in the opposite order, to share the work with another process.
    """
    torch.set_num_threads(1)
    pieces = len(ARMS) * (len(SEEDS["digits"]) + len(LEARNING_RATES)) + len(MNIST_ARMS) * len(SEEDS["mnist-5k"]) + 40
    print_estimate("dmd2", 2.5 * 3600, pieces)
    if part in ("digits", "all"):
        run_part("digits", arms or DEFAULT_ARMS, from_the_end, seeds)
    if part in ("mnist", "all"):
        run_part("mnist-5k", arms or MNIST_ARMS, from_the_end, seeds)
    if part in ("short", "all"):
        run_part(SHORT, arms or SHORT_ARMS, from_the_end, seeds)
    if part in ("text", "all"):
        run_part("captioned digits", (OURS,), from_the_end)
    if part in ("schedule", "all"):
        run_schedules(from_the_end)
    if part in ("speed", "all"):
        print(speed_table("digits"), speed_table("mnist-5k"))
    if part in ("memory", "all"):
        print(memory_table())
    if part in ("kills", "all"):
        print(BENCH.piece({"part": "kills"}, kill_trials))
    if part in ("peer", "all") and peer_version():
        run_peer()
    if part in ("write", "all"):
        write()


if __name__ == "__main__":
    tyro.cli(main)
