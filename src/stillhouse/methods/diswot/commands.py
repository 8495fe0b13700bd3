"""DisWOT's own commands: score networks, and see how scores order a table of accuracies."""

from __future__ import annotations

from collections.abc import Callable

COMMANDS: dict[str, Callable[..., None]] = {}
