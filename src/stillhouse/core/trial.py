"""What a visitor of `stillhouse serve` may try with a finished run: bounded inputs, a plain function, things to look at.

A method offers `TRIALS: Mapping[str, Trial]` in its module, by a word for the address; the page is made from these values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillhouse.core.errors import require
from stillhouse.core.result import Table

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Number:
    """A number between two bounds."""

    title: str
    low: float
    high: float
    default: float
    whole: bool = True


@dataclass(frozen=True)
class Slide(Number):
    """A number on a slider that the answer follows as it moves; for answers that take a fraction of a second."""


@dataclass(frozen=True)
class Text:
    """A text of at most `most` characters."""

    title: str
    default: str = ""
    most: int = 500
    lines: int = 1


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    title: str
    options: tuple[str, ...]
    default: str


Input = Number | Text | Choice


@dataclass(frozen=True)
class Shown:
    """A picture, and how long it took."""

    title: str
    picture: Image
    alt: str
    seconds: float | None = None
    caption: str = ""


@dataclass(frozen=True)
class Words:
    """A text, and how long it took."""

    title: str
    text: str
    seconds: float | None = None


@dataclass(frozen=True)
class Gauge:
    """A number on its scale, beside another one to hold it against."""

    title: str
    value: float
    low: float
    high: float
    caption: str = ""
    beside: float | None = None
    beside_title: str = ""


@dataclass(frozen=True)
class Page:
    """HTML of one's own, shown in a frame that can run nothing and reach nothing."""

    title: str
    html: str


Output = Shown | Words | Gauge | Page | Table


@dataclass(frozen=True)
class Ready:
    """A loaded model, what it takes, and what it answers."""

    inputs: Mapping[str, Input]
    """By argument name of `answer`."""
    answer: Callable[..., Iterable[Output]]
    """Takes the inputs by name; a generator shows each thing as soon as it is there."""


@dataclass(frozen=True)
class Trial:
    """Something to try."""

    title: str
    about: str
    """One sentence: what happens."""
    open: Callable[[Path], Ready]
    """From the run folder; may take seconds, is called once and kept."""


def within_bounds(inputs: Mapping[str, Input], given: Mapping[str, Any]) -> dict[str, Any]:
    """The given values in their types.

    Raises:
        UserError: one is missing, of another kind, or out of its bounds.
    """
    return {name: _checked(kind, given.get(name)) for name, kind in inputs.items()}


def _checked(kind: Input, value: Any) -> Any:
    if isinstance(kind, Number):
        number = _number(value)
        fits = number is not None and kind.low <= number <= kind.high and (not kind.whole or number == int(number))
        require(
            fits,
            f"{kind.title} is {value!r}",
            f"give a {'whole ' * kind.whole}number from {kind.low:g} to {kind.high:g}",
        )
        assert number is not None
        return int(number) if kind.whole else number
    require(isinstance(value, str), f"{kind.title} is missing", "fill it in")
    if isinstance(kind, Choice):
        require(value in kind.options, f"{kind.title} is {value!r}", f"choose one of {', '.join(kind.options[:20])}")
        return value
    text = value.strip()
    require(0 < len(text) <= kind.most, f"{kind.title} has {len(text)} characters", f"give 1 to {kind.most}")
    return text


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if abs(number) < 1e300 else None  # neither infinite nor NaN
