"""Scored architectures, which of them can be the answer to some bound, and the answer to a given one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from stillhouse.core.errors import UserError
from stillhouse.encoders.costs import Architecture


@dataclass(frozen=True)
class Bounds:
    """What a student may cost; 0 is no bound."""

    multiply_adds: int = 0
    """For 128 tokens, from the shapes of its modules."""
    parameters: int = 0
    bytes: int = 0
    """Of its weights in 32-bit floats."""
    latency_seconds: float = 0.0
    """Measured on this machine for one text."""

    def excess(self, costs: Costs) -> float:
        """The largest cost over its bound; up to 1 is within all."""
        pairs = [(getattr(costs, f.name), getattr(self, f.name)) for f in fields(self)]
        return max((cost / bound for cost, bound in pairs if bound), default=0.0)

    def words(self) -> str:
        """The bounds, for an error or a report."""
        return costs_in_words(self) or "no bound"


@dataclass(frozen=True)
class Costs:
    """What a student costs."""

    multiply_adds: int
    parameters: int
    bytes: int
    latency_seconds: float = 0.0
    """0 where it was not measured."""


def costs_in_words(costs: Costs | Bounds) -> str:
    """ "120.0 million multiply-adds, 9,000,000 parameters, 36.0 MB, 4.10 ms", without what is 0."""
    parts = [f"{costs.multiply_adds / 1e6:,.1f} million multiply-adds"] if costs.multiply_adds else []
    parts += [f"{costs.parameters:,} parameters"] if costs.parameters else []
    parts += [f"{costs.bytes / 1e6:,.1f} MB"] if costs.bytes else []
    parts += [f"{1e3 * costs.latency_seconds:.2f} ms"] if costs.latency_seconds else []
    return ", ".join(parts)


@dataclass(frozen=True)
class Candidate:
    """An architecture and its relation loss on the select split, without fine-tuning."""

    space: str
    shape: Architecture
    loss: float
    costs: Costs


def no_larger(one: Architecture, other: Architecture) -> bool:
    """Whether `one` is no larger than `other` in any direction, and so costs no more by any measure."""
    return (
        one.layers <= other.layers
        and one.heads <= other.heads
        and one.hidden <= other.hidden
        and one.feed_forward <= other.feed_forward
    )


def undominated(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that can be the best under some bound, cheapest first: none that is no larger has as low a loss."""
    kept: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda c: (c.loss, c.costs.multiply_adds)):
        if not any(no_larger(better.shape, candidate.shape) for better in kept):
            kept.append(candidate)
    return sorted(kept, key=lambda c: c.costs.multiply_adds)


def plane_front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Loss against multiply-adds alone: what no other beats in both, cheapest first."""
    kept: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda c: (c.costs.multiply_adds, c.loss)):
        if not kept or candidate.loss < kept[-1].loss:
            kept.append(candidate)
    return kept


def pick(front: Sequence[Candidate], bounds: Bounds) -> Candidate:
    """The lowest loss within the bounds.

    Raises:
        UserError: nothing is within them; names the nearest and what it costs.
    """
    within = [c for c in front if bounds.excess(c.costs) <= 1]
    if within:
        return min(within, key=lambda c: (c.loss, c.costs.multiply_adds))
    nearest = min(front, key=lambda c: bounds.excess(c.costs))
    raise UserError(
        f"no student is within {bounds.words()}",
        f"the nearest is {nearest.shape} ({costs_in_words(nearest.costs)}): raise the bound, or add smaller sub-spaces",
    )
