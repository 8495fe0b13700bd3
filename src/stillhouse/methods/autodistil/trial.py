"""Try AutoDistil's front: slide a bound on latency, and see which student is the best below it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from stillhouse.core.result import Table
from stillhouse.core.trial import Gauge, Output, Ready, Slide, Trial, Words
from stillhouse.methods.autodistil.family import open_family
from stillhouse.methods.autodistil.front import costs_in_words

SHOWN = 8


def open_run(run: Path) -> Ready:
    """The stored front; no network is opened."""
    family = open_family(run)
    front = sorted(family.front.front, key=lambda c: c.costs.latency_seconds)
    fastest, slowest = (1e3 * c.costs.latency_seconds for c in (front[0], front[-1]))

    def answer(milliseconds: float) -> Iterator[Output]:
        chosen = family.pick(max_latency_ms=milliseconds)
        yield Words(f"{chosen.shape}", f"of the sub-space {chosen.space}: {costs_in_words(chosen.costs)}")
        yield Gauge(
            "Share of the teacher's relations that it keeps",
            round(family.front.kept(chosen), 3),
            0.0,
            1.0,
            "1 is the teacher",
        )
        place = front.index(chosen)
        near = front[max(0, place - SHOWN // 2) : place + SHOWN // 2 + 1]
        rows = tuple(
            (f"{c.shape}", round(1e3 * c.costs.latency_seconds, 3), c.costs.parameters, round(family.front.kept(c), 3))
            for c in near
        )
        yield Table(
            "Its neighbours on the front", ("Student", "Milliseconds a text", "Parameters", "Relations kept"), rows
        )

    middle = (fastest + slowest) / 2
    # rounded outwards, so that both ends can be asked for
    return Ready(
        {"milliseconds": Slide("Milliseconds a text, at most", fastest, slowest + 0.01, round(middle, 3), whole=False)},
        answer,
    )


TRIALS: Mapping[str, Trial] = {
    "front": Trial(
        "Slide along the front", "The best student below a bound on latency, from the run's search.", open_run
    )
}
