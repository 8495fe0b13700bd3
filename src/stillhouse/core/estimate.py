"""What a run will cost, said before it starts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One stage of a run, as planned."""

    name: str
    updates: int
    network_passes: int
    """Network passes on one item each, a backward pass counted as one more."""
    seconds: float
    """From a short measurement on this machine."""
    checkpoint_bytes: int = 0


@dataclass(frozen=True)
class Estimate:
    """The stages of a run and what they will take on this machine."""

    stages: tuple[Stage, ...]

    @property
    def seconds(self) -> float:
        """All stages together."""
        return sum(stage.seconds for stage in self.stages)

    def lines(self) -> list[str]:
        """A line a stage and a line for the sum."""
        rows = [
            f"{s.name}: {s.updates:,} updates, {s.network_passes:,} network passes, "
            f"about {minutes(s.seconds)}, checkpoint {s.checkpoint_bytes / 1e6:.1f} MB"
            for s in self.stages
        ]
        return [*rows, f"in all about {minutes(self.seconds)} on this machine"]


def minutes(seconds: float) -> str:
    """Seconds in words: "40 s", "3.5 min", "2.1 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
