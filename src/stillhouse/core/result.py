"""What a run found out: arms with their quality and cost, curves, pictures and tables.

Reports, comparisons and claims are made from a `Result` and nothing else, so a method fills one in and is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import cattrs

from stillhouse.core.errors import UserError
from stillhouse.core.files import read_json, write_json

Role = Literal["teacher", "student", "baseline", "floor", "peer"]


@dataclass(frozen=True)
class Cost:
    """What an arm costs to make and to use. `None` means not applicable, never "not measured yet"."""

    parameters: int | None = None
    """Parameters of the network that is used after training."""
    bytes_on_disk: int | None = None
    """Bytes of the saved model (or data set)."""
    network_passes: float | None = None
    """Network passes per output item (an image, a sentence)."""
    latency_seconds: Mapping[str, float] = field(default_factory=dict)
    """Seconds per item by condition, e.g. {"batch 1": 0.004, "batch 64": 0.0002}."""
    training_seconds: float | None = None
    """Wall-clock seconds to make it, all stages that only this arm needs included."""
    training_passes: float | None = None
    """Network passes in training, forward and backward counted as one each, all networks, per item in the batch."""
    updates: Mapping[str, int] = field(default_factory=dict)
    """Optimizer updates by network, e.g. {"student": 400, "fake_score": 2000}."""


@dataclass(frozen=True)
class Arm:
    """One row of the evidence: a teacher, a student, a baseline, a floor or a peer."""

    name: str
    role: Role
    metrics: Mapping[str, float]
    cost: Cost = field(default_factory=Cost)
    seed: int = 0
    note: str = ""


@dataclass(frozen=True)
class Metric:
    """How a metric is to be read."""

    key: str
    title: str
    better: Literal["lower", "higher"]
    help: str = ""
    """One sentence in plain words."""
    unit: str = ""
    floor: float | None = None
    """What a perfect model would score on this data (real against real), where that can be measured."""


@dataclass(frozen=True)
class Curve:
    """A metric of one arm along its training; every point names its value on each axis."""

    arm: str
    metric: str
    points: tuple[Mapping[str, float], ...]
    """Each a mapping from axis key to position, plus "value"."""


@dataclass(frozen=True)
class Picture:
    """An image file in the run folder."""

    title: str
    path: str
    """Relative to the run folder."""
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Table:
    """A table that is not about arms (a funnel, a size table)."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | float, ...], ...]
    caption: str = ""


@dataclass(frozen=True)
class Result:
    """The outcome of a run."""

    method: str
    summary: str
    """One or two sentences with the numbers that matter."""
    metrics: tuple[Metric, ...]
    """The first is the headline metric."""
    arms: tuple[Arm, ...]
    axes: Mapping[str, str] = field(default_factory=dict)
    """Axis key -> title of the curves' positions, e.g. {"student_updates": "Student updates"}."""
    curves: tuple[Curve, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    """Caveats, one sentence each."""

    def arm(self, role: Role) -> Arm:
        """The first arm with this role.

        Raises:
            KeyError: there is none.
        """
        for arm in self.arms:
            if arm.role == role:
                return arm
        raise KeyError(role)


def save_result(result: Result, path: Path) -> None:
    """Write `result` as JSON, atomically."""
    write_json(path, cattrs.unstructure(result))


def load_result(path: Path) -> Result:
    """Read a result written by `save_result`.

    Raises:
        UserError: the file is missing, not JSON, or not a result.
    """
    raw = read_json(path)
    try:
        return _converter.structure(raw, Result)
    except Exception as error:
        raise UserError(f"{path} is not a stillhouse result", "run the method again") from error


_converter = cattrs.Converter()
_converter.register_structure_hook(str | float, lambda value, _: value)
