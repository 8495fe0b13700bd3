"""Sub-spaces of architectures in whole numbers, and the sandwich that is drawn from one at every step (section 3.2)."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from stillhouse.core.errors import UserError, require
from stillhouse.core.seeding import derive_seed
from stillhouse.encoders.costs import Architecture
from stillhouse.encoders.elastic import Extent, extent_of, require_divisible

AXES = ("layers", "heads", "hidden", "ratio")
COUNTED = 50_000


@dataclass(frozen=True)
class SubSpace:
    """Every combination of four axes; feed-forward sizes are ratio times hidden, rounded down in whole numbers."""

    name: str
    layers: tuple[int, ...]
    heads: tuple[int, ...]
    hidden: tuple[int, ...]
    ratio: tuple[Fraction, ...]

    def __post_init__(self) -> None:
        for hidden, heads in itertools.product(self.hidden, self.heads):
            require_divisible(Architecture(1, heads, hidden, 1))
        self.extent(max(self.layers))  # heads that do not go together are refused here

    @property
    def size(self) -> int:
        """Architectures in it."""
        return math.prod(len(getattr(self, axis)) for axis in AXES)

    def at(self, layers: int, heads: int, hidden: int, ratio: Fraction) -> Architecture:
        """The architecture of one value an axis; 0.708 * 768 in floating point would be one neuron short."""
        return Architecture(layers, heads, hidden, math.floor(ratio * hidden))

    def all(self) -> Iterator[Architecture]:
        """Every architecture, in the order of the axes."""
        return (self.at(*values) for values in itertools.product(*(getattr(self, axis) for axis in AXES)))

    @property
    def largest(self) -> Architecture:
        """The largest of every axis; of heads the most."""
        return self.at(max(self.layers), max(self.heads), max(self.hidden), max(self.ratio))

    @property
    def smallest(self) -> Architecture:
        """The smallest of every axis."""
        return self.at(min(self.layers), min(self.heads), min(self.hidden), min(self.ratio))

    def extent(self, layers: int) -> Extent:
        """The super-network of this many layers that holds the space.

        Raises:
            UserError: the space has deeper architectures.
        """
        most = max(self.layers)
        require(
            most <= layers, f"space {self.name} has {most} layers, the teacher {layers}", f"use layers up to {layers}"
        )
        corners = [self.at(most, a, h, max(self.ratio)) for a in self.heads for h in self.hidden]
        return extent_of(corners, layers)

    def holds(self, shape: Architecture) -> bool:
        """Whether the architecture is one of this space."""
        return (
            shape.layers in self.layers
            and shape.heads in self.heads
            and shape.hidden in self.hidden
            and shape.feed_forward in {math.floor(r * shape.hidden) for r in self.ratio}
        )

    def draw(self, rng: random.Random) -> Architecture:
        """A random architecture."""
        return self.at(*(rng.choice(getattr(self, axis)) for axis in AXES))

    def child(self, one: Architecture, other: Architecture, rng: random.Random) -> Architecture:
        """Each axis from either parent, then one axis drawn anew."""
        values = [rng.choice(pair) for pair in zip(self._values(one), self._values(other), strict=True)]
        axis = rng.randrange(len(AXES))
        values[axis] = rng.choice(getattr(self, AXES[axis]))
        return self.at(*values)  # type: ignore[arg-type]

    def _values(self, shape: Architecture) -> tuple[int | Fraction, ...]:
        ratio = next(r for r in self.ratio if math.floor(r * shape.hidden) == shape.feed_forward)
        return shape.layers, shape.heads, shape.hidden, ratio

    def words(self) -> str:
        """The axes' ranges."""
        return ", ".join(f"{axis} {', '.join(f'{float(v):g}' for v in getattr(self, axis))}" for axis in AXES)


@lru_cache(maxsize=32)
def distinct(space: SubSpace) -> int:
    """Different architectures of a space: ratios that round to one size count once; not looked into where there are very many."""
    return len(set(space.all())) if space.size <= COUNTED else space.size


def sandwich(space: SubSpace, seed: int, update: int, random_samples: int) -> list[Architecture]:
    """The largest, the smallest and some between without repetition, drawn by the update: the same on every process."""
    rng = random.Random(derive_seed("sandwich", space.name, seed, update))
    chosen = list(dict.fromkeys([space.largest, space.smallest]))
    wanted = min(len(chosen) + random_samples, distinct(space))
    while len(chosen) < wanted:
        shape = space.draw(rng)
        if shape not in chosen:
            chosen.append(shape)
    return chosen


def parse_space(text: str) -> SubSpace:
    """ "tiny layers=2,3 heads=6,12 hidden=72,96 ratio=2,2.5" as a space.

    Raises:
        UserError: an axis is missing, unknown or no list of numbers, or hidden is not divisible by the heads.
    """
    name, *parts = text.split() or [""]
    mend = 'write it as "tiny layers=2,3 heads=6,12 hidden=72,96 ratio=2,2.5"'
    given = dict(part.partition("=")[::2] for part in parts)
    require(set(given) == set(AXES) and "=" not in name, f"sub-space {text!r} does not name {', '.join(AXES)}", mend)
    require(
        name.replace("-", "").isalnum(), f"a sub-space cannot be called {name!r}", "use letters, digits and hyphens"
    )
    try:
        layers, heads, hidden = (tuple(dict.fromkeys(int(v) for v in given[axis].split(","))) for axis in AXES[:3])
        ratios = tuple(dict.fromkeys(Fraction(v) for v in given["ratio"].split(",")))
    except (ValueError, ZeroDivisionError):
        raise UserError(f"sub-space {text!r} has something that is not a number", mend) from None
    smallest = min((*layers, *heads, *hidden))
    require(smallest > 0 and min(ratios) > 0, f"sub-space {text!r} has a size of 0 or less", mend)
    return SubSpace(name, layers, heads, hidden, ratios)


def parse_architecture(text: str) -> Architecture:
    """ "L4-A6-H288-F864" as an architecture.

    Raises:
        UserError: it is not of that form.
    """
    parts = text.upper().split("-")
    fits = len(parts) == 4 and all(p[:1] == k and p[1:].isdigit() for p, k in zip(parts, "LAHF", strict=True))
    require(fits, f"no architecture {text!r}", "write layers, heads, hidden and feed-forward as L4-A6-H288-F864")
    return Architecture(*(int(part[1:]) for part in parts))


def home_of(shape: Architecture, spaces: list[SubSpace]) -> SubSpace:
    """The sub-space that an architecture is of.

    Raises:
        UserError: none has it; says what there is.
    """
    require_divisible(shape)
    found = next((space for space in spaces if space.holds(shape)), None)
    if found is None:
        known = "; ".join(f"{space.name}: {space.words()}" for space in spaces)
        raise UserError(f"{shape} is outside every sub-space", f"choose of {known}")
    return found
