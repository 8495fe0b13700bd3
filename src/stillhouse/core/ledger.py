"""Counting what training costs, in units that do not depend on the machine."""

from __future__ import annotations

from collections import Counter
from typing import Any


class Ledger:
    """Counts of named things (updates by network, network passes), kept in the checkpoint with the rest.

    A pass is one network applied to one item, forward; a backward pass counts as one more.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, name: str, amount: int = 1) -> None:
        """Add `amount` to `name`."""
        self.counts[name] += amount

    def __getitem__(self, name: str) -> int:
        return self.counts[name]

    def state_dict(self) -> dict[str, Any]:
        return dict(self.counts)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.counts = Counter(state_dict)
